"""What a lost message or a lost worker left behind comes back, and the reconciler itself ends cleanly."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import update

from service.artifacts import Artifacts
from service.errors import Unavailable
from service.records import checkpoints, datasets, endings, evaluations, jobs, leases, retention, unwanted
from service.records.columns import clock, shifted
from service.records.database import Database, migrate
from service.records.status import JobStatus
from service.records.tables import Dataset, Evaluation, ImageBatch, Job
from service.settings import Settings
from worker.reconciler import AT_LEAST, EVERY, clean, pause, reconcile, run
from worker.resources import Resources

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def broker(resources: Resources) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(resources.settings.redis_url) as client:
        yield client


def waiting(broker: redis.Redis) -> dict[str, int]:
    return {queue: broker.llen(queue) for queue in ("train", "sample", "prepare")}


def age(resources: Resources, table: type[Any], row_id: str, **values: Any) -> None:
    with resources.database.transaction() as session:
        session.execute(update(table).where(table.id == row_id).values(**values))


def test_queued_rows_whose_message_is_lost_are_published_again_and_fresh_ones_are_not(
    resources: Resources,
    broker: redis.Redis,
    create_job: Callable[..., str],
    create_checkpoint: Callable[..., str],
    ask_images: Callable[..., str],
) -> None:
    """Breaks when a FLUSHALL loses a job, or when every look doubles the messages in Redis."""
    age(resources, Dataset, "fashion-mnist", published_at=datetime.now(UTC))
    checkpoint_id = create_checkpoint()
    job_id, image_id = create_job(), ask_images(checkpoint_id, [1])
    with resources.database.transaction() as session:
        evaluation_id = evaluations.create(session, checkpoint_id, {}).id
    reconcile(resources.database, resources.publisher)
    assert waiting(broker) == {"train": 0, "sample": 0, "prepare": 0}

    age(resources, Job, job_id, published_at=LONG_AGO)
    age(resources, ImageBatch, image_id, published_at=LONG_AGO)
    age(resources, Evaluation, evaluation_id, published_at=LONG_AGO)
    age(resources, Dataset, "fashion-mnist", published_at=LONG_AGO)
    for _ in range(3):
        reconcile(resources.database, resources.publisher)
    assert waiting(broker) == {"train": 1, "sample": 1, "prepare": 2}


@SQLITE
def test_what_waits_behind_a_long_run_is_not_published_over_and_over(
    resources: Resources, broker: redis.Redis, create_job: Callable[..., str]
) -> None:
    """Breaks when a run of a day leaves thousands of messages, hours of reading, for each job behind it."""
    job_id = create_job()
    for _ in range(3):
        for table, row_id in ((Job, job_id), (Dataset, "fashion-mnist")):
            age(resources, table, row_id, published_at=LONG_AGO)
        reconcile(resources.database, resources.publisher)
    assert waiting(broker) == {"train": 1, "sample": 0, "prepare": 1}


def test_a_job_whose_lease_ran_out_is_queued_and_published_at_once(
    resources: Resources, broker: redis.Redis, create_job: Callable[..., str]
) -> None:
    """Breaks when the job of a dead worker waits for ever, or is published twice for one loss."""
    lost, cancelled = create_job(), create_job()
    for job_id in (lost, cancelled):
        with resources.database.transaction() as session:
            assert leases.claim(session, job_id, "a dead worker") is not None
    with resources.database.transaction() as session:
        jobs.request_cancel(session, cancelled)
    for job_id in (lost, cancelled):
        age(resources, Job, job_id, lease_expires_at=LONG_AGO, published_at=LONG_AGO)
    for _ in range(3):
        reconcile(resources.database, resources.publisher)
    with resources.database.read() as session:
        found = {job_id: jobs.get(session, job_id) for job_id in (lost, cancelled)}
    assert found[lost].status == JobStatus.QUEUED
    assert found[lost].lost_leases == 1
    assert found[cancelled].status == JobStatus.CANCELLED
    assert waiting(broker)["train"] == 1


def test_it_looks_again_when_a_lease_runs_out_or_a_backoff_is_over(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a job whose worker or trainer was lost waits up to three seconds more than it has to."""
    database = resources.database
    assert pause(database) == EVERY
    held, crashed, queued = create_job(), create_job(), create_job()
    with database.transaction() as session:
        for job_id in (held, crashed):
            assert leases.claim(session, job_id, "w") is not None
    assert pause(database) == EVERY
    for seconds, least, most in ((2, 0.5, 2), (-5, AT_LEAST, AT_LEAST)):
        age(resources, Job, held, lease_expires_at=shifted(clock(), seconds))
        assert least <= pause(database) <= most
    with database.transaction() as session:
        assert endings.expire(session) == [held]
        jobs.get(session, crashed).failures = 1
        session.flush()
        assert endings.crashed(session, crashed, 1, {"message": "killed"})
    assert AT_LEAST < pause(database) <= endings.backoff(2) == 1
    with database.read() as session:
        statuses = {jobs.get(session, job_id).status for job_id in (held, crashed, queued)}
        assert statuses == {JobStatus.QUEUED}


def test_two_reconcilers_publish_once(
    resources: Resources, broker: redis.Redis, create_job: Callable[..., str]
) -> None:
    """Breaks when a row can be taken by both."""
    for _ in range(10):
        age(resources, Job, create_job(), published_at=LONG_AGO)
    threads = [
        threading.Thread(target=reconcile, args=(resources.database, resources.publisher)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waiting(broker)["train"] == 10


@SQLITE
def test_an_outage_costs_a_look_and_no_more(
    resources: Resources, broker: redis.Redis, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Breaks when one error ends the loop: here the tables are made under the running reconciler."""
    settings = resources.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'later.db'}"})
    stopping = threading.Event()
    thread = threading.Thread(target=run, args=(settings, stopping))
    thread.start()
    try:
        time.sleep(0.5)
        migrate(settings.database_url)
        database = Database(settings.database_url)
        with database.transaction() as session:
            datasets.ensure_builtins(session)
            session.execute(update(Dataset).values(published_at=LONG_AGO))
        database.close()
        wait_until(lambda: waiting(broker)["prepare"] == 2, "the lost messages")
    finally:
        stopping.set()
        wait_until(lambda: not thread.is_alive(), "its end")


@SQLITE
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_as_a_process_and_stops_at_a_signal(
    settings: Settings,
    resources: Resources,
    broker: redis.Redis,
    create_job: Callable[..., str],
    wait_until: Callable[..., None],
    signal_number: int,
) -> None:
    environment = {
        "ATELIER_DATA": str(settings.data),
        "ATELIER_DATABASE_URL": settings.database_url,
        "ATELIER_REDIS_URL": settings.redis_url,
    }
    age(resources, Job, create_job(), published_at=LONG_AGO)
    process = subprocess.Popen([sys.executable, "-m", "worker.reconciler"], env={**os.environ, **environment})
    try:
        wait_until(lambda: waiting(broker)["train"] == 1, "the lost message")
        process.send_signal(signal_number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@SQLITE
def test_what_was_given_up_is_deleted_and_nothing_else(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when files outlive their checkpoint, or when one goes whose name was never given up."""
    job_id = create_job()
    with resources.database.transaction() as session:
        assert leases.claim(session, job_id, "w") is not None
    folder = f"jobs/{job_id}/checkpoints"
    for step in (1, 2, 3):
        for name in ("checkpoint.safetensors", "state.safetensors"):
            resources.artifacts.put_bytes(b"x" * 100, f"{folder}/1-{step}/{name}")
        with resources.database.transaction() as session:
            values = {"images": step, "size_bytes": 100, "state_bytes": 100, "sha256": ""}
            artifact = f"{folder}/1-{step}/checkpoint.safetensors"
            checkpoints.add(
                session, job_id, attempt=1, step=step, artifact=artifact, interim=step == 1, **values
            )
            retention.tidy(session, job_id)
    resources.artifacts.put_bytes(b"x", f"{folder}/1-10/checkpoint.safetensors")
    for _ in range(2):
        assert clean(resources.database, resources.artifacts, None) == (0, False)
    exists = resources.artifacts.exists
    assert not exists(f"{folder}/1-1/checkpoint.safetensors")
    kept = [f"1-{step}/{name}.safetensors" for step in (2, 3) for name in ("checkpoint", "state")]
    assert all(exists(f"{folder}/{name}") for name in (*kept, "1-10/checkpoint.safetensors"))
    with resources.database.read() as session:
        assert unwanted.oldest(session) == []


@SQLITE
def test_more_files_than_one_look_deletes_go_with_the_next_ones_at_once(resources: Resources) -> None:
    """Breaks when a hundred are all that expires in three seconds, and more are made."""
    with resources.database.transaction() as session:
        unwanted.add(session, *(f"images/{number}" for number in range(unwanted.AT_ONCE + 1)))
    told = [clean(resources.database, resources.artifacts, None).more for _ in range(2)]
    assert told == [True, False]
    with resources.database.read() as session:
        assert unwanted.oldest(session) == []


@SQLITE
def test_names_that_could_not_be_deleted_are_kept_for_the_next_look(resources: Resources) -> None:
    """Breaks when an outage of the store leaves files that nothing will ever look for."""
    with resources.database.transaction() as session:
        unwanted.add(session, "jobs/x")

    class Away(Artifacts):
        def delete(self, prefix: str) -> None:
            raise Unavailable("artifacts_unavailable", prefix)

    with pytest.raises(Unavailable):
        clean(resources.database, Away(resources.settings.artifacts_url), None)
    with resources.database.read() as session:
        assert unwanted.oldest(session) == ["jobs/x"]

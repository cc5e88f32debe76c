"""A job from its message to its end, through a real worker, a real trainer, and both databases."""

from collections.abc import Callable
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from models.checkpoints import load
from service.records import checkpoints, datasets, events, jobs, metrics, samples
from service.records.events import EventType
from service.records.status import JobStatus
from service.records.tables import Dataset
from tests.worker.conftest import Training
from worker.resources import Resources

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_job_runs_to_its_end_and_leaves_everything_it_promised(
    resources: Resources,
    start_worker: Callable[[str], Any],
    submit: Callable[..., str],
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when events are lost on their way to SQL, or rows name files that are not there."""
    monkeypatch.setenv("ATELIER_PRELOAD", "True")  # as in a deployment
    worker = start_worker("train")
    job_id = submit(precision="auto", samples={"every_steps": 2, "count": 4}, checkpoints={"every_steps": 2})
    wait_until(lambda: status_of(job_id) == JobStatus.SUCCEEDED, f"success; log: {worker.log[-3000:]}")

    with resources.database.read() as session:
        job = jobs.get(session, job_id)
        curves = metrics.series(session, job_id)
        grids = samples.list(session, job_id)
        stored = checkpoints.page(session, job_id=job_id).items
        kinds = [event.type for event in events.page(session, job_id, limit=100).items]
    assert (job.step, job.images, job.total_steps, job.attempt) == (4, 32, 4, 1)
    assert job.error is None
    assert job.spec["precision"] in {"fp32", "bf16"}, "what depends on the device is not settled in the spec"
    assert curves["loss/generator"]["step"] == [1, 2, 3, 4]
    assert "rate/images_per_second" in curves
    assert [grid.step for grid in grids] == [4, 2]
    assert [checkpoint.step for checkpoint in stored] == [4, 2]
    assert all(resources.artifacts.read(grid.artifact).startswith(b"\x89PNG") for grid in grids)
    assert load(resources.artifacts.local(stored[0].artifact)).step == 4
    assert resources.artifacts.size(stored[0].artifact) == stored[0].size_bytes
    assert sorted(kinds) == sorted(
        ["job.queued", "job.started", "job.succeeded", *["sample.saved", "checkpoint.saved"] * 2]
    )
    assert not list((resources.settings.data / "attempts").iterdir()), "the attempt's folder was left behind"
    mapped = {entry.path for entry in psutil.Process(worker.process.pid).memory_maps()}
    assert not [path for path in mapped if "libtorch" in path], "with torch a worker could hold GPU memory"


@SQLITE
def test_a_job_cancelled_while_queued_is_not_started(
    resources: Resources,
    start_worker: Callable[[str], Any],
    create_job: Callable[..., str],
    submit: Callable[..., str],
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when the message is believed instead of the row."""
    cancelled = create_job()
    with resources.database.transaction() as session:
        jobs.request_cancel(session, cancelled)
    resources.publisher.send("atelier.train", cancelled)
    following = submit()
    start_worker("train")
    wait_until(lambda: status_of(following) == JobStatus.SUCCEEDED, "the following job's success")
    with resources.database.read() as session:
        job = jobs.get(session, cancelled)
    assert (job.status, job.attempt) == (JobStatus.CANCELLED, 0)


@SQLITE
def test_a_job_whose_trainer_is_killed_is_tried_again_and_cancelled_once_that_one_is_gone(
    resources: Resources,
    training: Training,
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., Any],
) -> None:
    """Breaks when its death ends the job or is told as nothing, or `cancelled` is written too soon."""

    def attempt() -> int:
        with resources.database.read() as session:
            return jobs.get(session, training.job_id).attempt

    training.trainer.kill()
    (following,) = wait_until(lambda: attempt() == 2 and training.worker.trainers(), "the second attempt")
    with resources.database.read() as session:
        job = jobs.get(session, training.job_id)
        (again,) = events.page(session, training.job_id, types=[EventType.REQUEUED]).items
    assert (job.status, job.failures, job.error) == (JobStatus.RUNNING, 1, None)
    assert "killed by SIGKILL" in again.message

    with resources.database.transaction() as session:
        jobs.request_cancel(session, training.job_id)
    wait_until(lambda: status_of(training.job_id) == JobStatus.CANCELLED, "the cancelled job")
    assert not following.is_running() or following.status() == psutil.STATUS_ZOMBIE, (
        "it may hold memory still"
    )
    with resources.database.read() as session:
        kinds = [event.type for event in events.page(session, training.job_id, limit=100).items]
    assert kinds.count("job.cancelled") == 1


@SQLITE
def test_a_killed_worker_takes_its_trainer_with_it(
    training: Training, wait_until: Callable[..., None]
) -> None:
    """Breaks when an orphan goes on using the GPU while another worker repeats its job."""
    training.worker.process.kill()
    wait_until(lambda: not training.alive, "the trainer's end", seconds=30)


@SQLITE
def test_a_stopped_worker_gives_its_job_back_at_once(
    resources: Resources,
    training: Training,
    start_worker: Callable[[str], Any],
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when a deployment waits for a training of hours, or leaves its job to the lease."""
    worker, job_id = training.worker, training.job_id
    worker.process.terminate()
    wait_until(lambda: worker.process.poll() is not None, "the worker's end", seconds=60)
    assert worker.process.returncode == 0, worker.log
    assert not training.alive
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
        kinds = [event.type for event in events.page(session, job_id, limit=100).items]
    assert (job.status, job.failures, job.lost_leases) == (JobStatus.QUEUED, 0, 0)
    assert job.lease_expires_at is None
    assert kinds.count("job.requeued") == 1

    start_worker("train")
    wait_until(lambda: status_of(job_id) == JobStatus.RUNNING, "another worker took it")


@SQLITE
def test_a_job_posted_before_its_dataset_is_prepared_runs_by_itself(
    resources: Resources,
    start_worker: Callable[[str], Any],
    submit: Callable[..., str],
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when the first minute of a new installation needs patience, a reconciler, or the right order."""
    resources.artifacts.delete("datasets/digits")
    with resources.database.transaction() as session:
        session.execute(update(Dataset).where(Dataset.id == "digits").values(status="pending", count=None))
    job_id = submit()
    training, preparing = start_worker("train"), start_worker("prepare")
    wait_until(lambda: status_of(job_id) == JobStatus.SUCCEEDED, training.log + preparing.log)
    with resources.database.read() as session:
        assert datasets.get(session, "digits").count == 1797

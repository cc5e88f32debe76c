"""Workers on two machines share a database, a Redis and a bucket, and nothing else."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.records import checkpoints, events, jobs, metrics
from service.records.status import JobStatus
from service.records.tables import Job
from service.settings import Settings
from tests.faulty_proxy import Fault, FaultyProxy
from tests.worker.conftest import CeleryWorker
from tests.worker.trainers import supervise
from worker.reconciler import reconcile
from worker.resources import Resources

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

STEPS = 1500
LONG: dict[str, Any] = {
    "budget": {"steps": STEPS},
    "log_every_steps": 1,  # so many rows that the checkpoints' are written before the last one comes
    "checkpoints": {"every_steps": 250},
    "samples": {"every_steps": STEPS},
    "memory_format": "contiguous",
    "precision": "fp32",
}


@pytest.fixture
def settings(settings: Settings, s3_proxy: FaultyProxy, bucket: str) -> Settings:
    return settings.model_copy(update={"artifacts_url": bucket})


def start(settings: Settings, folder: Path) -> CeleryWorker:
    folder.mkdir()
    return CeleryWorker("train", settings.model_copy(update={"data": folder}), folder / "worker.log")


def outcome(resources: Resources, job_id: str) -> tuple[Any, ...]:
    """The curves and the last weights."""
    with resources.database.read() as session:
        curves = metrics.series(session, job_id, max_points=5000)
        last = checkpoints.latest_first(session, job_id)[0]
    told = {key: curve for key, curve in curves.items() if not key.startswith(("memory/", "rate/"))}
    return told, last.step, last.sha256


@pytest.mark.slow
def test_a_worker_elsewhere_takes_over_from_the_checkpoint_in_the_bucket(
    resources: Resources,
    submit: Callable[..., str],
    create_job: Callable[..., str],
    s3_proxy: FaultyProxy,
    settings: Settings,
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Breaks when a machine that is lost takes what its jobs had reached with it.

    The first worker is killed while it stores its last checkpoint, of which all but the manifest is there.
    """
    whole = create_job(**LONG)
    supervise(whole, resources, threading.Event())

    job_id = submit(**LONG)
    last = f"{job_id}/checkpoints/1-{STEPS:08d}/manifest.json"
    s3_proxy.fault = Fault("silence", matching=last)
    first = start(settings, tmp_path / "one")
    try:
        wait_until(lambda: first.ready and any(last in line for line in s3_proxy.seen), "the last checkpoint")
        first.process.kill()
    finally:
        first.end()
    assert status_of(job_id) == JobStatus.RUNNING
    s3_proxy.fault = None
    with resources.database.transaction() as session:  # as if fifteen seconds had gone by
        past = datetime(2020, 1, 1, tzinfo=UTC)
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=past))
    reconcile(resources.database, resources.publisher)

    second = start(settings, tmp_path / "two")
    try:
        wait_until(lambda: second.ready and status_of(job_id) == JobStatus.SUCCEEDED, "the job's end")
    finally:
        second.end()
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
        (resumed,) = events.page(session, job_id, types=[events.EventType.RESUMED]).items
    assert job.attempt == 2
    assert resumed.step in range(250, STEPS, 250)
    assert outcome(resources, job_id) == outcome(resources, whole)
    assert list((tmp_path / "two" / "cache").iterdir()), "it read its dataset from somewhere else"

"""Short ways to a job, a running job and a checkpoint."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.records import checkpoints, events, jobs, retention
from service.records.database import Database
from service.records.tables import Checkpoint, Job

At = Callable[[float], datetime]
NewJob = Callable[..., Job]
NewCheckpoint = Callable[..., Checkpoint]


@pytest.fixture(scope="session")
def at() -> At:
    """A moment, in seconds after one that is later than any clock's."""
    return lambda seconds: datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.fixture
def new_job(database: Database) -> NewJob:
    """A queued job, committed."""

    def make(*, warnings: Sequence[str] = (), **changed: Any) -> Job:
        spec = {"family": "gan", "preset": "dcgan", "name": "fashion", "dataset": "digits", "seed": 7}
        with database.transaction() as session:
            return jobs.create(session, {**spec, "metadata": {}, **changed}, warnings, 100)

    return make


@pytest.fixture
def new_running(database: Database, new_job: NewJob) -> NewJob:
    """A job that worker `w1` has claimed, committed."""

    def make(**changed: Any) -> Job:
        job = new_job(**changed)
        with database.transaction() as session:
            claimed = jobs.claim(session, job.id, "w1")
        assert claimed is not None
        return claimed

    return make


@pytest.fixture
def new_checkpoint(database: Database, new_running: NewJob) -> NewCheckpoint:
    """A checkpoint, committed: of a new running job unless one is given."""

    def make(job: Job | None = None, step: int = 10, **changed: Any) -> Checkpoint:
        job = job or new_running()
        values = {
            "images": step * 8,
            "artifact": f"jobs/{job.id}/{step}",
            "size_bytes": 5,
            "sha256": "0" * 64,
        }
        with database.transaction() as session:
            made = checkpoints.add(session, job.id, attempt=job.attempt, step=step, **{**values, **changed})
        assert made is not None
        return made

    return make


@pytest.fixture
def store(database: Database) -> Callable[..., Checkpoint]:
    """Store a checkpoint of a job and tidy up after it, as a worker does."""

    def make(job: Job, step: int, *, fid: float | None = None, **changed: Any) -> Checkpoint:
        values = {"images": step, "size_bytes": 100, "state_bytes": 300, "sha256": "0" * 64}
        values["artifact"] = f"jobs/{job.id}/checkpoints/{job.attempt}-{step:08d}/checkpoint.safetensors"
        scored = {} if fid is None else {"scores": {"fid": fid}, "details": {}}
        with database.transaction() as session:
            made = checkpoints.add(
                session, job.id, attempt=job.attempt, step=step, **{**values, **scored, **changed}
            )
            retention.tidy(session, job.id)
        assert made is not None
        return made

    return make


@pytest.fixture
def left(database: Database) -> Callable[[Job], list[Checkpoint]]:
    """What is stored of a job, oldest first."""

    def read(job: Job) -> list[Checkpoint]:
        with database.read() as session:
            return list(reversed(checkpoints.latest_first(session, job.id)))

    return read


@pytest.fixture
def types_of(database: Database) -> Callable[[str], list[str]]:
    """The types of a job's events, oldest first."""

    def read(job_id: str) -> list[str]:
        with database.read() as session:
            return [event.type for event in reversed(events.page(session, job_id, 100).items)]

    return read

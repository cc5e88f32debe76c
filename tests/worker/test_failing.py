"""A job whose files cannot be written fails with the reason, and goes on from what it had once they can."""

import dataclasses
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint_folders
from models.training import TrainingError
from service.artifacts import Artifacts
from service.errors import Unavailable
from service.records import checkpoints, jobs
from service.records.status import JobStatus
from tests.worker.trainers import supervise, trainers
from worker.failures import failure
from worker.process import start_fresh
from worker.resources import Resources
from worker.resuming import start_of

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def fill_the_disk() -> None:
    """From now on no file of a trainer can grow beyond a kilobyte."""
    for trainer in trainers():
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (1024, 1024))


def test_a_full_disk_fails_the_job_and_damages_nothing(
    resources: Resources,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when a checkpoint that was cut short is recorded, or when the job cannot go on afterwards."""
    job_id = create_job(budget={"steps": 600}, checkpoints={"every_steps": 100}, log_every_steps=10)

    def stored() -> int:
        with resources.database.read() as session:
            return len(checkpoints.latest_first(session, job_id))

    thread = threading.Thread(target=supervise, args=(job_id, resources, threading.Event()))
    thread.start()
    wait_until(stored, "a checkpoint")
    fill_the_disk()
    wait_until(lambda: not thread.is_alive(), "the attempt's end")
    with resources.database.read() as session:
        job, newest = jobs.get(session, job_id), checkpoints.latest_first(session, job_id)[0]
    assert job.status == JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["checkpoint_id"]) == ("no_space", newest.id)
    assert "resume" in job.error["hint"]
    start = start_of(job_id, resources)
    assert start.step == newest.step
    assert start.folder is not None
    assert checkpoint_folders.is_intact(start.folder)

    with resources.database.transaction() as session:
        jobs.request_resume(session, job_id)
    supervise(job_id, resources, threading.Event())
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
    assert (job.status, job.step, job.error) == (JobStatus.SUCCEEDED, 600, None)


def test_a_store_that_is_away_when_a_job_starts_costs_it_nothing(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when an outage of the store fails every job whose turn it is, or has them tried all the time."""

    class Away(Artifacts):
        def local_folder(self, prefix: str) -> Path:
            raise Unavailable("artifacts_unavailable", f"{prefix} is away")

    job_id = create_job(budget={"steps": 4})
    away = dataclasses.replace(resources, artifacts=Away(resources.settings.artifacts_url))
    supervise(job_id, away, threading.Event())
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
    assert (job.status, job.failures, job.lost_leases, job.error) == (JobStatus.QUEUED, 0, 0, None)
    assert job.run_after is not None
    with resources.database.transaction() as session:
        assert jobs.claim(session, job_id, "w") is None
        assert jobs.claim(session, job_id, "w", now=job.run_after) is not None


def test_images_that_are_not_what_was_packed_are_not_trained_on(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a flipped bit makes another run of a repeated one, or an error that names no file."""
    packed = resources.artifacts.local_folder("datasets/digits/packed")
    content = bytearray((packed / "images.npy").read_bytes())
    content[-2] ^= 1
    (packed / "images.npy").write_bytes(content)
    job_id = create_job()
    supervise(job_id, resources, threading.Event())
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
    assert job.error is not None
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "damaged_dataset")
    assert "images.npy" in job.error["message"]
    assert str(resources.settings.data) not in job.error["message"]
    for file in packed.iterdir():
        file.unlink()
    packed.rmdir()
    with resources.database.transaction() as session:
        jobs.request_resume(session, job_id)
    supervise(job_id, resources, threading.Event())
    with resources.database.read() as session:
        error = jobs.get(session, job_id).error
    assert error is not None
    assert (error["code"], "upload" in error["hint"]) == ("dataset_missing", True)


def test_a_run_that_diverges_says_at_which_step(resources: Resources, create_job: Callable[..., str]) -> None:
    """Breaks when the error tells of the last step whose curves were told, and not of the one that failed."""
    job_id = create_job()
    said = failure(TrainingError("diverged", "loss is nan at step 7", "", 7), code="", hint="Ask.")
    trainer = f"import json; print(json.dumps({{'type': 'error', **{said!r}}}))"
    supervise(job_id, resources, threading.Event(), lambda: start_fresh((sys.executable, "-c", trainer)))
    with resources.database.read() as session:
        error = jobs.get(session, job_id).error
    assert error is not None
    assert (error["code"], error["step"]) == ("diverged", 7)

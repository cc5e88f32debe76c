"""A job goes on where it was: after its worker was stopped, after its trainer was killed, past damage."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from service.records import checkpoints, events, jobs, metrics
from service.records.status import JobStatus
from service.records.tables import Job
from tests.worker.trainers import supervise, trainers
from worker.resources import Resources
from worker.resuming import Start, start_of

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

LONG: dict[str, Any] = {
    "budget": {"steps": 1200},
    "log_every_steps": 7,
    "checkpoints": {"every_steps": 150},
    "samples": {"every_steps": 1200},
    "memory_format": "contiguous",
    "precision": "fp32",
}


def job_of(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


def outcome(resources: Resources, job_id: str) -> tuple[Any, ...]:
    """What must not depend on how often a job was interrupted: its curves and its last weights."""
    with resources.database.read() as session:
        curves = metrics.series(session, job_id, max_points=5000)
        last = checkpoints.latest_first(session, job_id)[0]
    told = {key: curve for key, curve in curves.items() if not key.startswith(("memory/", "rate/"))}
    assert told["loss/generator"]["step"] == [*range(7, 1200, 7), 1200]
    return told, last.step, last.sha256


def run_and(
    interrupt: Callable[[threading.Event], object],
    resources: Resources,
    job_id: str,
    wait_until: Callable[..., None],
) -> None:
    """Supervise the job until its first checkpoint of this attempt, then interrupt it."""
    stopping, before = threading.Event(), _count(resources, job_id)
    thread = threading.Thread(target=supervise, args=(job_id, resources, stopping))
    thread.start()
    wait_until(lambda: _count(resources, job_id) > before or not thread.is_alive(), "a checkpoint")
    interrupt(stopping)
    wait_until(lambda: not thread.is_alive(), "the attempt's end")


def _count(resources: Resources, job_id: str) -> int:
    with resources.database.read() as session:
        return len(checkpoints.latest_first(session, job_id))


def test_an_interrupted_job_ends_as_if_nothing_had_happened(
    resources: Resources, create_job: Callable[..., str], wait_until: Callable[..., None]
) -> None:
    """Breaks when the job fails, begins anew, repeats a step in its curves, or ends with other weights."""
    whole = create_job(**LONG)
    supervise(whole, resources, threading.Event())
    job_id = create_job(**LONG)

    def kill(_: threading.Event) -> None:
        (trainer,) = trainers()
        trainer.kill()

    def pause(_: threading.Event) -> None:
        with resources.database.transaction() as session:
            jobs.request_pause(session, job_id)

    def state() -> tuple[Any, ...]:
        job = job_of(resources, job_id)
        return job.status, job.attempt, job.failures, job.error

    def saved() -> int:
        with resources.database.read() as session:
            return checkpoints.latest_first(session, job_id)[0].step

    run_and(threading.Event.set, resources, job_id, wait_until)  # its worker is stopped
    assert state() == (JobStatus.QUEUED, 1, 0, None)
    stopped_at = saved()
    assert stopped_at == job_of(resources, job_id).step, "a stop saves the step it is at"
    run_and(kill, resources, job_id, wait_until)
    assert state() == (JobStatus.QUEUED, 2, 1, None)
    killed_at = saved()
    wait_until(lambda: _may_run(resources, job_id), "the end of the wait")
    run_and(pause, resources, job_id, wait_until)
    assert trainers() == []
    assert state() == (JobStatus.PAUSED, 3, 0, None), "the checkpoint it has saved since forgives the crash"
    paused_at = saved()
    assert paused_at == job_of(resources, job_id).step, "a pause saves the step it is at"
    with resources.database.transaction() as session:
        jobs.request_resume(session, job_id)
    supervise(job_id, resources, threading.Event())
    assert state() == (JobStatus.SUCCEEDED, 4, 0, None)
    with resources.database.read() as session:
        resumed = events.page(session, job_id, types=[events.EventType.RESUMED], limit=100).items
    assert [event.step for event in resumed] == [paused_at, killed_at, stopped_at]
    assert outcome(resources, job_id) == outcome(resources, whole)


def test_a_trainer_that_is_killed_three_times_before_it_saves_fails_its_job(
    resources: Resources,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    wait_until: Callable[..., Any],
) -> None:
    """Breaks when a job that can never run is tried for ever."""
    job_id = create_job(**endless)
    for _ in range(3):
        wait_until(lambda: _may_run(resources, job_id), "the end of the wait")
        thread = threading.Thread(target=supervise, args=(job_id, resources, threading.Event()))
        thread.start()
        (trainer,) = wait_until(trainers, "the trainer's start")
        trainer.kill()
        wait_until(lambda thread=thread: not thread.is_alive(), "the attempt's end")
    job = job_of(resources, job_id)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 3)
    assert job.error is not None
    assert job.error["code"] == "trainer_crashed"
    assert "batch_size" in job.error["hint"]


def test_a_job_starts_from_another_ones_checkpoint(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """At a rate of next to nothing it ends where the other one did, and from random weights would not."""
    once: dict[str, Any] = {"budget": {"steps": 2}, "evaluation": None, "ema": None}
    first = create_job(**once)
    supervise(first, resources, threading.Event())
    with resources.database.read() as session:
        start = checkpoints.latest_first(session, first)[0]
    still = {"learning_rate": 1e-12}
    second = create_job(**once, init_from=start.id, optimizer=still)
    supervise(second, resources, threading.Event())
    assert job_of(resources, second).error is None
    with resources.database.read() as session:
        end = checkpoints.latest_first(session, second)[0]
    before, after = (
        safetensors.torch.load_file(resources.artifacts.local(row.artifact)) for row in (start, end)
    )
    weights = [name for name in before if name.endswith(".weight")]
    assert weights
    assert max(float((before[name] - after[name]).abs().max()) for name in weights) < 1e-6


def _may_run(resources: Resources, job_id: str) -> bool:
    with resources.database.read() as session:
        return jobs.longest_waiting(session) == job_id


@pytest.mark.parametrize("damage", ["a bit", "a missing file", "no manifest", "all gone"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    resources: Resources, create_job: Callable[..., str], damage: str
) -> None:
    """Going on from damaged weights looks like training."""
    job_id = create_job(budget={"steps": 4}, checkpoints={"every_steps": 2})
    assert start_of(job_id, resources) == Start(0, 0, None)
    supervise(job_id, resources, threading.Event())
    start = start_of(job_id, resources)
    assert start.step == 4
    assert start.folder is not None
    _damage(start.folder, damage)
    before = start_of(job_id, resources)
    assert (before.step, before.images, before.damaged) == (2, start.images // 2, (4,))
    assert before.folder is not None
    _damage(before.folder, damage)
    assert start_of(job_id, resources) == Start(0, 0, None, damaged=(4, 2))


def test_a_job_that_passed_over_damaged_checkpoints_keeps_what_it_saves_next(
    resources: Resources,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when the damaged ones, of later steps, are taken for the newest, and each pause loses all."""
    job_id = create_job(budget={"steps": 9000}, checkpoints={"every_steps": 1000}, log_every_steps=10)

    def run_until_paused(enough: Callable[[], bool]) -> None:
        thread = threading.Thread(target=supervise, args=(job_id, resources, threading.Event()))
        thread.start()
        wait_until(enough, "some steps")
        with resources.database.transaction() as session:
            jobs.request_pause(session, job_id)
        wait_until(lambda: not thread.is_alive(), "the pause")

    def resumable() -> list[int]:
        with resources.database.read() as session:
            rows = checkpoints.latest_first(session, job_id)
        return [row.step for row in rows if row.state_bytes is not None]

    def job() -> Job:
        with resources.database.read() as session:
            return jobs.get(session, job_id)

    run_until_paused(lambda: len(resumable()) == 2)
    damaged = resumable()
    for _ in damaged:
        folder = start_of(job_id, resources).folder
        assert folder is not None
        _damage(folder, "a bit")
    with resources.database.transaction() as session:
        jobs.request_resume(session, job_id)
    run_until_paused(lambda: 0 < job().step < damaged[1])
    saved = job().step  # before the damaged ones, unless the machine stood still meanwhile
    assert resumable()[0] == saved
    assert not set(resumable()) & set(damaged) or saved > damaged[0]
    assert start_of(job_id, resources).step == saved
    with resources.database.read() as session:
        assert (
            checkpoints.flags(session, [job_id])[job_id].last
            == checkpoints.latest_first(session, job_id)[0].id
        )
        alerts = [event for event in events.page(session, job_id, limit=100).items if event.type == "alert"]
    assert [event.data["damaged_steps"] for event in alerts] == [damaged]
    assert "from the beginning" in alerts[0].message


def _damage(folder: Path, how: str) -> None:
    if how == "a bit":
        content = bytearray((folder / "state.safetensors").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "state.safetensors").write_bytes(content)
    elif how == "a missing file":
        (folder / "checkpoint.safetensors").unlink()
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

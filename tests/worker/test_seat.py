"""A training worker's one seat, with real trainers: found jobs, one at a time, and an end in time."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.records import jobs
from service.records.status import JobStatus
from tests.worker.trainers import start_trainer
from worker import seat as seat_module
from worker.resources import Resources
from worker.seat import Seat


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def seat(resources: Resources, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seat]:
    """A seat that looks every tenth of a second."""
    monkeypatch.setattr(seat_module, "LOOK_EVERY", 0.1)
    made = Seat(resources, stopping, start_trainer)
    thread = made.look()
    yield made
    stopping.set()
    thread.join()


def status(resources: Resources, job_id: str) -> JobStatus:
    with resources.database.read() as session:
        return jobs.get(session, job_id).status


def test_an_idle_worker_trains_what_waits_without_any_message(
    resources: Resources, seat: Seat, create_job: Callable[..., str], wait_until: Callable[..., None]
) -> None:
    """Breaks when queued jobs stand still while Redis is away."""
    first, second = create_job(), create_job()
    for job_id in (first, second):
        wait_until(lambda job_id=job_id: status(resources, job_id) == JobStatus.SUCCEEDED, job_id)


def test_a_message_and_a_look_train_one_job_at_a_time(
    resources: Resources,
    seat: Seat,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    stopping: threading.Event,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when two trainings share one device, or when a waiting message keeps a worker from its end."""
    first = create_job(**endless)
    wait_until(lambda: status(resources, first) == JobStatus.RUNNING, "the first job is found")
    second = create_job(**endless)
    message = threading.Thread(target=seat.train, args=(second,))
    message.start()
    time.sleep(1.0)
    assert (status(resources, first), status(resources, second)) == (JobStatus.RUNNING, JobStatus.QUEUED)
    stopping.set()
    message.join(60)
    assert not message.is_alive()
    wait_until(lambda: status(resources, first) == JobStatus.QUEUED, "the first job is released")


def test_a_job_that_is_given_back_at_a_stop_is_left_to_other_workers(
    resources: Resources,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    stopping: threading.Event,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when the look that a job's end wakes takes the job again, in a worker that is shutting down."""
    job_id = create_job(**endless)
    seat = Seat(resources, stopping, start_trainer)
    with seat._taken:  # the look waits for its next turn, so that the message takes the job
        look = seat.look()
        message = threading.Thread(target=seat.train, args=(job_id,))
        message.start()
    wait_until(lambda: status(resources, job_id) == JobStatus.RUNNING, "the message's job")
    time.sleep(0.2)
    stopping.set()
    for thread in (message, look):
        thread.join(60)
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 1)


def test_a_look_that_fails_is_not_the_last(
    resources: Resources,
    seat: Seat,
    create_job: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when one error, of whatever kind, leaves an idle worker blind."""
    looked = threading.Event()

    def fail(_session: object) -> str | None:
        looked.set()
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "longest_waiting", fail)
        assert looked.wait(60)
    job_id = create_job()
    wait_until(lambda: status(resources, job_id) == JobStatus.SUCCEEDED, "the job is trained")

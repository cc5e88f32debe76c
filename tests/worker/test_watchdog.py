"""A trainer that lives and does not move: it is noticed, ended, and said to have hung; others are let be."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from service.records import events, jobs, logs
from service.records.events import EventType
from service.records.status import JobStatus
from service.records.tables import Job
from tests.worker.trainers import supervise
from worker.process import start_fresh
from worker.pulse import MOVES, pulse
from worker.resources import Resources
from worker.supervisor import StartTrainer
from worker.watchdog import Watchdog

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PATIENCE = 10.0


@pytest.fixture
def impatient(resources: Resources) -> Resources:
    """The resources of a worker that waits ten seconds for a trainer to move."""
    settings = resources.settings.model_copy(update={"progress_timeout": PATIENCE})
    return Resources(settings, resources.database, resources.artifacts, resources.publisher)


@pytest.fixture
def in_background(wait_until: Callable[..., None]) -> Iterator[Callable[..., threading.Thread]]:
    """Supervises a job in a thread; ends it with the test."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(job_id: str, resources: Resources, trainer: StartTrainer) -> threading.Thread:
        threads.append(threading.Thread(target=supervise, args=(job_id, resources, stopping, trainer)))
        threads[-1].start()
        return threads[-1]

    yield start
    stopping.set()
    for thread in threads:
        wait_until(lambda thread=thread: not thread.is_alive(), "the supervisor's end")


def trainer_that(does: str) -> StartTrainer:
    """The trainer, with its protocol and its pulse, that does this instead of training."""
    program = f"import sys, time\nfrom worker import trainer\ndef run(command, events):\n    {does}\n"
    program += "trainer.run = run\nsys.exit(trainer.main())"
    return functools.partial(start_fresh, [sys.executable, "-c", program])


def job_of(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


@SQLITE
def test_a_trainer_that_sleeps_is_ended_and_its_log_says_where(
    impatient: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a deadlock keeps a job `running` for ever, or nobody can tell where it was."""
    job_id = create_job()
    supervise(job_id, impatient, threading.Event(), trainer_that("time.sleep(1e9)"))
    job = job_of(impatient, job_id)
    assert (job.status, job.failures, job.lost_leases) == (JobStatus.QUEUED, 1, 0)
    with impatient.database.read() as session:
        (again,) = events.page(session, job_id, types=[EventType.REQUEUED]).items
        lines = [line.text for line in logs.page(session, job_id, 100).items]
    assert f"stood still for {PATIENCE:g} s behind step 0" in again.message
    assert any(line.endswith("in run") for line in lines), lines


@SQLITE
def test_a_stopped_trainer_is_gone_with_its_group_before_the_job_waits_again(
    impatient: Resources,
    create_job: Callable[..., str],
    in_background: Callable[..., threading.Thread],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when only a trainer that can react is ended, or the next one meets it on the GPU."""
    job_id = create_job()
    child = "import subprocess; c = subprocess.Popen(['sleep', '600']); "
    stop = "import os, signal; print(os.getpid(), c.pid, file=sys.stderr, flush=True); "
    stop += "time.sleep(2); os.killpg(0, signal.SIGSTOP)"
    thread = in_background(job_id, impatient, trainer_that(child + stop))
    wait_until(lambda: not thread.is_alive(), "the attempt's end")
    assert job_of(impatient, job_id).failures == 1
    with impatient.database.read() as session:
        pids = [int(pid) for pid in logs.page(session, job_id, 100).items[-1].text.split()]
    assert len(pids) == 2
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@SQLITE
def test_the_third_time_the_job_fails_as_hung(impatient: Resources, create_job: Callable[..., str]) -> None:
    """Breaks when a job that always hangs is tried for ever, or its error says nothing to act on."""
    job_id = create_job()
    with impatient.database.transaction() as session:
        jobs.get(session, job_id).failures = 2
    supervise(job_id, impatient, threading.Event(), trainer_that("time.sleep(1e9)"))
    job = job_of(impatient, job_id)
    assert (job.status, job.error and job.error["code"]) == (JobStatus.FAILED, "trainer_hung")
    assert job.error is not None
    assert "ATELIER_PROGRESS_TIMEOUT" in job.error["hint"]


@SQLITE
@pytest.mark.slow
def test_a_trainer_that_computes_without_a_word_is_let_be(
    impatient: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when an evaluation of an hour, which tells nothing, is taken for a deadlock."""
    job_id = create_job()
    compute = f"until = time.monotonic() + {2.5 * PATIENCE}\n"
    compute += "    while time.monotonic() < until: sum(range(100000)), max(range(100000))\n"
    compute += "    trainer.emit(events, {'type': 'finished', 'step': 4, 'images': 32})"
    supervise(job_id, impatient, threading.Event(), trainer_that(compute))
    job = job_of(impatient, job_id)
    assert (job.status, job.failures, job.step) == (JobStatus.SUCCEEDED, 0, 4)


@SQLITE
def test_a_trainer_that_hangs_after_its_last_word_has_succeeded(
    impatient: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a device that is not given back costs a whole run, or keeps the job `running`."""
    job_id = create_job()
    does = "trainer.emit(events, {'type': 'finished', 'step': 4, 'images': 32}); time.sleep(1e9)"
    supervise(job_id, impatient, threading.Event(), trainer_that(does))
    assert job_of(impatient, job_id).status == JobStatus.SUCCEEDED


def test_a_pulse_is_felt_while_code_runs_and_not_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when a run that gets on looks dead, or a deadlock looks alive."""
    monkeypatch.setattr("worker.pulse.TELL_EVERY", 0.01)
    monkeypatch.setattr("worker.pulse.LOOK_EVERY", 0.01)
    felt: list[dict[str, str]] = []
    with pulse(felt.append):
        while len(felt) <= 3:  # the test's own limit ends it
            sum(range(100000)), max(range(100000))
        until = len(felt) + 2  # on its way into the sleep
        time.sleep(0.5)
        assert len(felt) <= until
    assert felt[0] == {"type": MOVES}
    count = len(felt)
    time.sleep(0.1)
    assert len(felt) == count


def test_silence_is_counted_from_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when a trainer is blamed for the hour that its worker spent on storing a checkpoint."""
    now = 1000.0
    monkeypatch.setattr("worker.watchdog.time.monotonic", lambda: now)
    watchdog = Watchdog(600, step=40)
    now += 600
    assert not watchdog.expired
    watchdog.heard({"type": "progress", "step": 50})
    now += 600
    assert not watchdog.expired
    watchdog.heard({"type": MOVES})
    now += 601
    assert watchdog.expired
    assert watchdog.error()["message"] == "The trainer stood still for 600 s behind step 50."

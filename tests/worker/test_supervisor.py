"""One attempt at one job in this process, with real trainers: refused writes, outages, and failures."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import make_url, update

from service.records import datasets, jobs, leases, logs, metrics
from service.records.status import JobStatus
from service.records.tables import Dataset, Job
from tests.worker.trainers import supervise, trainers
from worker import lease as lease_module
from worker import recorder
from worker.failures import crash_error, failure
from worker.resources import Resources
from worker.waiting import ring_for_jobs

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def in_background(resources: Resources, wait_until: Callable[..., None]) -> Iterator[Callable[[str], Any]]:
    """Supervises a job in a thread; ends it with the test."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(job_id: str) -> threading.Thread:
        thread = threading.Thread(target=supervise, args=(job_id, resources, stopping))
        thread.start()
        threads.append(thread)
        return thread

    yield start
    stopping.set()
    for thread in threads:
        wait_until(lambda thread=thread: not thread.is_alive(), "the supervisor's end")


def job_of(resources: Resources, job_id: str) -> Job:
    with resources.database.read() as session:
        return jobs.get(session, job_id)


def test_an_attempt_that_lost_its_job_ends_without_a_trace(
    resources: Resources,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    in_background: Callable[[str], threading.Thread],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when a worker that was thought dead goes on writing into what another one does now."""
    job_id = create_job(**endless)
    thread = in_background(job_id)
    wait_until(lambda: job_of(resources, job_id).step > 0, "the first recorded step")
    with resources.database.transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(status=JobStatus.QUEUED))
        claimed = leases.claim(session, job_id, "another worker")
        assert claimed is not None
        assert leases.begin(session, job_id, claimed.attempt, step=0, images=0)
    wait_until(lambda: not thread.is_alive(), "the end of the first attempt")
    assert trainers() == []
    job = job_of(resources, job_id)
    assert (job.attempt, job.status, job.worker, job.step) == (2, JobStatus.RUNNING, "another worker", 0)
    with resources.database.read() as session:
        assert metrics.keys(session, job_id) == []


@SQLITE
def test_a_short_outage_of_the_database_costs_no_rows(
    resources: Resources,
    database_url: str,
    create_job: Callable[..., str],
    in_background: Callable[[str], threading.Thread],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when a write that failed is forgotten instead of repeated. SQLite itself is patient for 5 s."""
    once = {"every_steps": 500}
    job_id = create_job(budget={"steps": 500}, log_every_steps=1, samples=once, checkpoints=once)
    thread = in_background(job_id)
    wait_until(lambda: job_of(resources, job_id).step > 0, "the first recorded step")
    other = sqlite3.connect(str(make_url(database_url).database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(6)
    other.execute("COMMIT")
    other.close()
    wait_until(lambda: not thread.is_alive(), "the job's end")
    job = job_of(resources, job_id)
    assert (job.status, job.error, job.attempt) == (JobStatus.SUCCEEDED, None, 1)
    with resources.database.read() as session:
        curve = metrics.series(session, job_id, ["loss/generator"], max_points=5000)["loss/generator"]
    assert curve["step"] == list(range(1, 501))


@SQLITE
def test_a_worker_that_cannot_renew_ends_its_trainer_by_its_own_clock(
    resources: Resources,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    create_job: Callable[..., str],
    endless: dict[str, Any],
    in_background: Callable[[str], threading.Thread],
    wait_until: Callable[..., None],
) -> None:
    """Breaks when an attempt outlives its lease because nobody could tell it."""
    monkeypatch.setattr(lease_module, "HOLDS_FOR", 4.0)
    job_id = create_job(**endless)
    thread = in_background(job_id)
    wait_until(trainers, "the trainer's start")
    other = sqlite3.connect(str(make_url(database_url).database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wait_until(lambda: not thread.is_alive(), "the attempt's end")
    assert trainers() == []
    other.execute("ROLLBACK")
    other.close()
    assert job_of(resources, job_id).status == JobStatus.RUNNING, "the lease, and not this worker, ends it"


@SQLITE
def test_a_trainer_that_cannot_go_on_says_why(
    resources: Resources, create_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when an error event is dropped: the client would read of a crash and no reason."""
    elsewhere = resources.settings.model_copy(update={"device": "cuda:99"})
    job_id = create_job()
    supervise(job_id, Resources(elsewhere, *list(vars(resources).values())[1:]), threading.Event())
    job = job_of(resources, job_id)
    assert job.status == JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "device_unavailable"
    assert "cuda:99" in job.error["message"]
    assert "ATELIER_DEVICE" in job.error["hint"]
    with resources.database.read() as session:
        lines = logs.page(session, job_id, 100).items
    assert {line.attempt for line in lines} == {1}
    assert "DeviceError" in lines[0].text, "the last line of the traceback comes first"
    assert "Traceback (most recent call last):" in [line.text for line in lines]


@SQLITE
def test_a_job_waits_for_its_dataset_and_is_rung_for(
    resources: Resources, create_job: Callable[..., str], wait_until: Callable[..., None]
) -> None:
    """Breaks when a job posted right after the start fails, or waits until the reconciler looks."""
    import redis

    job_id = create_job()
    with resources.database.transaction() as session:
        session.execute(update(Dataset).where(Dataset.id == "digits").values(status="pending"))
    supervise(job_id, resources, threading.Event())
    assert job_of(resources, job_id).attempt == 0
    broker = redis.Redis.from_url(resources.settings.redis_url)
    assert broker.llen("prepare") == 1

    ring_for_jobs(resources, "digits")
    assert broker.llen("train") == 0, "it is still pending: this would go round in circles"
    with resources.database.transaction() as session:
        session.execute(update(Dataset).where(Dataset.id == "digits").values(status="ready"))
    ring_for_jobs(resources, "digits")
    assert broker.llen("train") == 1
    broker.close()


@SQLITE
def test_a_job_whose_dataset_has_failed_fails_with_that_reason(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    job_id = create_job()
    with resources.database.transaction() as session:
        session.execute(update(Dataset).where(Dataset.id == "digits").values(status="failed"))
    supervise(job_id, resources, threading.Event())
    job = job_of(resources, job_id)
    assert (job.status, job.error and job.error["code"]) == (JobStatus.FAILED, "dataset_not_ready")


@SQLITE
def test_an_artifact_store_that_refuses_files_fails_the_job(
    resources: Resources, create_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a full or read-only store leaves a job `running`, or its trainer alive."""
    monkeypatch.setattr(recorder, "STORE_FOR", 3.0)
    job_id = create_job()
    # A file where the job's folder has to be: as root, permissions would stop nobody.
    resources.artifacts.put_bytes(b"", f"jobs/{job_id}")
    supervise(job_id, resources, threading.Event())
    job = job_of(resources, job_id)
    assert (job.status, job.error and job.error["code"]) == (JobStatus.FAILED, "artifacts_unavailable")
    assert trainers() == []


@SQLITE
def test_a_folder_that_cannot_be_made_fails_the_job_with_the_reason(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when the lease runs out instead: three workers would then be said to have vanished."""
    job_id = create_job()
    resources.settings.data.mkdir(exist_ok=True)
    (resources.settings.data / "attempts").touch()
    supervise(job_id, resources, threading.Event())
    job = job_of(resources, job_id)
    assert (job.status, job.error and job.error["code"]) == (JobStatus.FAILED, "worker_error")


@SQLITE
def test_a_message_for_a_job_that_is_gone_or_over_does_nothing(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    job_id = create_job()
    with resources.database.transaction() as session:
        jobs.request_cancel(session, job_id)
    for anything in (job_id, "job_00000000000000000000000000", "../etc/passwd", ""):
        supervise(anything, resources, threading.Event())
    assert job_of(resources, job_id).attempt == 0
    with resources.database.read() as session:
        assert datasets.get(session, "digits").status == "ready"


@SQLITE
def test_a_message_that_is_not_needed_starts_the_job_that_waits(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a job waits for a second behind each of a hundred others that were cancelled."""
    cancelled, unprepared, waiting, last = (
        create_job(),
        create_job(dataset="fashion-mnist"),
        create_job(),
        create_job(),
    )
    with resources.database.transaction() as session:
        jobs.request_cancel(session, cancelled)
    supervise(cancelled, resources, threading.Event())
    found = {name: job_of(resources, name).status for name in (cancelled, unprepared, waiting, last)}
    assert found == {
        cancelled: JobStatus.CANCELLED,
        unprepared: JobStatus.QUEUED,
        waiting: JobStatus.SUCCEEDED,
        last: JobStatus.QUEUED,
    }


@SQLITE
def test_the_job_that_waits_longest_goes_first_whichever_is_rung_for(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when a job that was given back at a restart goes behind all that came after it."""
    first, second = create_job(), create_job()
    supervise(second, resources, threading.Event())
    assert [job_of(resources, job_id).status for job_id in (first, second)] == [
        JobStatus.SUCCEEDED,
        JobStatus.QUEUED,
    ]


@pytest.mark.parametrize(
    ("status", "signal", "said"),
    [(-9, "SIGKILL", "SIGKILL"), (-40, "signal 40", "signal 40"), (1, None, "status 1")],
)
def test_the_error_of_a_crash_names_how_it_ended_and_its_last_words(
    status: int, signal: str | None, said: str
) -> None:
    error = crash_error(status, "ImportError: no such thing")
    assert error["signal"] == signal
    assert said in error["message"]
    assert "no such thing" in error["message"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("could not create a primitive"),  # oneDNN's, under a limit of the address space
        type("OutOfMemoryError", (RuntimeError,), {})("HIP ran out"),
    ],
)
def test_exhausted_memory_comes_with_advice(error: Exception) -> None:
    said = failure(error, code="trainer_error", hint="")
    assert said["code"] == "out_of_memory"
    assert "batch_size" in said["hint"]

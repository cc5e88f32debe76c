"""A job has one holder at a time: only it writes, and the job completes once."""

import threading
from collections import Counter

import pytest

from service.records import checkpoints, events, jobs, metrics, samples
from service.records.database import Database
from service.records.leases import LEASE_SECONDS
from service.records.status import JobStatus

ERROR = {"code": "non_finite_loss", "message": "The loss is NaN.", "hint": "Lower the learning rate."}


def test_claiming_makes_the_next_attempt_with_a_lease(database: Database, types_of, new_job, at) -> None:
    job = new_job()
    with database.transaction() as session:
        claimed = jobs.claim(session, job.id, "w1", now=at(0))
    assert claimed is not None
    assert (claimed.status, claimed.attempt, claimed.worker) == (JobStatus.RUNNING, 1, "w1")
    assert claimed.lease_expires_at == at(LEASE_SECONDS)
    assert claimed.started_at == at(0)
    assert types_of(job.id) == ["job.queued", "job.started"]


def test_the_same_message_to_many_workers_starts_one_attempt(database: Database, new_job) -> None:
    job, won = new_job(), []

    def claim(worker: str) -> None:
        with database.transaction() as session:
            if jobs.claim(session, job.id, worker) is not None:
                won.append(worker)

    racing = [threading.Thread(target=claim, args=(f"w{number}",)) for number in range(8)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert won == [read.worker]
    assert read.attempt == 1


def test_a_job_waits_until_its_time_has_come(database: Database, new_job, at) -> None:
    job = new_job()
    with database.transaction() as session:
        jobs.get(session, job.id).run_after = at(10)
    with database.transaction() as session:
        assert jobs.claim(session, job.id, "w1", now=at(9)) is None
        assert jobs.stale_queued(session, now=at(9)) == []
        assert jobs.claim(session, job.id, "w1", now=at(10)) is not None


def test_renewing_extends_the_lease_and_carries_a_request_to_cancel(
    database: Database, new_running, at
) -> None:
    job = new_running()
    with database.transaction() as session:
        assert jobs.renew(session, job.id, 1, now=at(5)) == JobStatus.RUNNING
        assert jobs.get(session, job.id).lease_expires_at == at(5 + LEASE_SECONDS)
        jobs.request_cancel(session, job.id)
        assert jobs.renew(session, job.id, 1) == JobStatus.CANCELLING


def test_nothing_is_written_by_an_attempt_that_has_lost_the_job(database: Database, new_running, at) -> None:
    """A worker stopped for a minute and resumed must not touch what its successor does."""
    job = new_running()
    with database.transaction() as session:
        assert jobs.expire(session, now=at(0)) == [job.id]
        assert jobs.claim(session, job.id, "w2") is not None
    with database.transaction() as session:
        assert jobs.renew(session, job.id, 1) is None
        assert not jobs.fence(session, job.id, 1)
        assert not jobs.report(session, job.id, 1, step=50, images=400)
        assert not jobs.set_resolved(session, job.id, 1, {"old": True})
        assert not jobs.release(session, job.id, 1)
        assert not jobs.finish(session, job.id, 1, JobStatus.SUCCEEDED)
        assert not metrics.add(session, job.id, [metrics.MetricRow("loss", 1, 8, 0.5)], attempt=1)
        assert not samples.add(session, job.id, attempt=1, step=1, images=8, artifact="a")
        saved = checkpoints.add(
            session, job.id, attempt=1, step=1, images=8, artifact="a", size_bytes=1, sha256="0" * 64
        )
        assert saved is None
    with database.read() as session:
        read = jobs.get(session, job.id)
        assert metrics.keys(session, job.id) == []
        assert samples.list(session, job.id) == []
    assert (read.status, read.attempt, read.step, read.worker) == (JobStatus.RUNNING, 2, 0, "w2")
    assert "old" not in read.spec


def test_progress_and_the_resolved_spec_are_recorded(database: Database, new_running) -> None:
    job = new_running(warnings=["slow"])
    with database.transaction() as session:
        assert jobs.report(session, job.id, 1, step=3, images=24, images_per_second=8.5, eta_seconds=11.0)
        assert jobs.set_resolved(session, job.id, 1, {**job.spec, "precision": "float32"}, steps=12)
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert (read.step, read.images, read.images_per_second, read.eta_seconds) == (3, 24, 8.5, 11.0)
    assert (read.spec["precision"], read.total_steps) == ("float32", 12)
    assert read.warnings == ["slow"]


@pytest.mark.parametrize(
    ("status", "error", "event"),
    [(JobStatus.SUCCEEDED, None, "job.succeeded"), (JobStatus.FAILED, ERROR, "job.failed")],
)
def test_a_job_ends_once_with_one_event(
    database: Database, types_of, new_running, status, error, event
) -> None:
    job = new_running()
    with database.transaction() as session:
        assert jobs.finish(session, job.id, 1, status, error)
    with database.transaction() as session:
        assert not jobs.finish(session, job.id, 1, status, error)
        assert not jobs.finish(session, job.id, 1, JobStatus.SUCCEEDED)
    with database.read() as session:
        read = jobs.get(session, job.id)
        newest = events.page(session, job.id).items[0]
    told = error and {**error, "step": 0, "checkpoint_id": None}
    assert (read.status, read.error, read.lease_expires_at) == (status, told, None)
    assert read.finished_at is not None
    assert types_of(job.id) == ["job.queued", "job.started", event]
    assert newest.level == ("info" if error is None else "error")


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_completion_after_a_cancel_request_is_cancelled(
    database: Database, types_of, new_running, status
) -> None:
    job = new_running()
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
        assert jobs.finish(session, job.id, 1, status, ERROR)
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert (read.status, read.error) == (JobStatus.CANCELLED, None)
    assert types_of(job.id)[-1] == "job.cancelled"


def test_a_running_job_nobody_cancelled_cannot_end_cancelled(database: Database, new_running) -> None:
    job = new_running()
    with database.transaction() as session:
        assert not jobs.finish(session, job.id, 1, JobStatus.CANCELLED)
    with pytest.raises(ValueError, match="finishes as"), database.transaction() as session:
        jobs.finish(session, job.id, 1, JobStatus.QUEUED)


def test_cancelling_and_finishing_at_once_end_in_one_state_with_one_event(
    database: Database, types_of, new_running
) -> None:
    for _ in range(5):
        job = new_running()

        def finish(job=job) -> None:
            with database.transaction() as session:
                jobs.finish(session, job.id, 1, JobStatus.SUCCEEDED)

        thread = threading.Thread(target=finish)
        thread.start()
        try:
            with database.transaction() as session:
                jobs.request_cancel(session, job.id)
            cancelled = True
        except jobs.Conflict:
            cancelled = False
        thread.join()
        counts = Counter(types_of(job.id))
        with database.read() as session:
            status = jobs.get(session, job.id).status
        assert status == (JobStatus.CANCELLED if cancelled else JobStatus.SUCCEEDED)
        assert counts["job.cancelled"] + counts["job.succeeded"] == 1

"""A job whose worker stops or vanishes waits again, at the right charge, and starts from clean records."""

import threading

import pytest

from service.records import jobs, metrics, samples
from service.records.database import Database
from service.records.leases import LEASE_SECONDS, MAX_LOST_LEASES
from service.records.status import JobStatus


def test_a_stopped_worker_gives_the_job_back_at_no_charge(database: Database, types_of, new_running) -> None:
    job = new_running()
    with database.transaction() as session:
        assert jobs.release(session, job.id, 1)
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert (read.status, read.lost_leases, read.failures, read.lease_expires_at) == (
        JobStatus.QUEUED,
        0,
        0,
        None,
    )
    assert types_of(job.id)[-1] == "job.requeued"


def test_a_worker_stopped_while_it_cancels_has_cancelled(database: Database, new_running) -> None:
    job = new_running()
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
        assert jobs.release(session, job.id, 1)
        assert jobs.get(session, job.id).status == JobStatus.CANCELLED


def test_only_leases_that_have_run_out_are_lost(
    database: Database, types_of, new_job, new_running, at
) -> None:
    new_job()
    job = new_running()
    with database.transaction() as session:
        jobs.renew(session, job.id, 1, now=at(0))
        assert jobs.expire(session, now=at(LEASE_SECONDS - 1)) == []
        assert jobs.expire(session, now=at(LEASE_SECONDS + 1)) == [job.id]
        assert jobs.expire(session, now=at(LEASE_SECONDS + 2)) == []
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert (read.status, read.lost_leases, read.attempt) == (JobStatus.QUEUED, 1, 1)
    assert types_of(job.id)[-1] == "job.requeued"


def test_a_job_whose_workers_keep_vanishing_fails_with_advice(
    database: Database, types_of, new_job, at
) -> None:
    job = new_job()
    for lost in range(1, MAX_LOST_LEASES + 1):
        with database.transaction() as session:
            jobs.claim(session, job.id, "w1")
            requeued = jobs.expire(session, now=at(0))
        assert requeued == ([job.id] if lost < MAX_LOST_LEASES else [])
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert read.status == JobStatus.FAILED
    assert read.error is not None
    assert read.error["code"] == "worker_lost"
    assert "batch_size" in read.error["hint"]
    assert types_of(job.id).count("job.failed") == 1


def test_a_job_that_was_being_cancelled_when_its_worker_vanished_is_cancelled(
    database: Database, new_running, at
) -> None:
    job = new_running()
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
        assert jobs.expire(session, now=at(0)) == []
        assert jobs.get(session, job.id).status == JobStatus.CANCELLED


def test_two_reconcilers_requeue_a_job_once(database: Database, types_of, new_running, at) -> None:
    job, found = new_running(), []

    def reconcile() -> None:
        with database.transaction() as session:
            found.extend(jobs.expire(session, now=at(0)))

    both = [threading.Thread(target=reconcile) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found == [job.id]
    assert types_of(job.id).count("job.requeued") == 1


def test_a_new_checkpoint_forgives_lost_leases_and_the_same_one_again_does_not(
    database: Database, new_running, new_checkpoint, at
) -> None:
    job = new_running()
    new_checkpoint(job, step=10)
    for forgiven, step in ((False, 10), (True, 20)):
        with database.transaction() as session:
            jobs.expire(session, now=at(0))
            again = jobs.claim(session, job.id, "w2")
        assert again is not None
        new_checkpoint(again, step=step)
        with database.read() as session:
            assert (jobs.get(session, job.id).lost_leases == 0) == forgiven


def test_a_queued_job_is_published_again_once_an_interval(
    database: Database, new_job, new_running, at
) -> None:
    job = new_job()
    new_running()
    with database.transaction() as session:
        assert jobs.stale_queued(session) == []
        assert jobs.stale_queued(session, now=at(0)) == [job.id]
        assert jobs.stale_queued(session, now=at(10)) == []
        assert jobs.stale_queued(session, now=at(16)) == [job.id]


@pytest.mark.parametrize(("resume_step", "kept"), [(None, []), (10, [10])])
def test_claiming_deletes_what_earlier_attempts_recorded_beyond_the_start(
    database: Database, types_of, new_running, resume_step, kept
) -> None:
    job = new_running()
    with database.transaction() as session:
        for step in (10, 20):
            metrics.add(session, job.id, [metrics.MetricRow("loss", step, step, 1.0)], attempt=1)
            samples.add(session, job.id, attempt=1, step=step, images=step, artifact=f"{step}")
        jobs.get(session, job.id).resume_step = resume_step
        jobs.release(session, job.id, 1)
        claimed = jobs.claim(session, job.id, "w2")
    assert claimed is not None
    assert claimed.step == (resume_step or 0)
    with database.read() as session:
        curves = metrics.series(session, job.id)
        assert [sample.step for sample in samples.list(session, job.id)] == kept
    assert (curves["loss"]["step"] if curves else []) == kept
    assert types_of(job.id).count("sample.saved") == len(kept)
    assert types_of(job.id)[-2:] == ["job.requeued", "job.started"]

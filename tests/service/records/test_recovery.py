"""A job whose worker stops or vanishes waits again, at the right charge, and starts from clean records."""

import threading

import pytest

from service.records import jobs, metrics, samples
from service.records.database import Database
from service.records.endings import LONGEST_BACKOFF, MAX_CRASHES, MAX_LOST_LEASES
from service.records.leases import LEASE_SECONDS
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
            assert jobs.claim(session, job.id, "w1", now=at(100 * lost)) is not None
            requeued = jobs.expire(session, now=at(100 * lost + 20))
        assert requeued == ([job.id] if lost < MAX_LOST_LEASES else [])
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert read.status == JobStatus.FAILED
    assert read.error is not None
    assert read.error["code"] == "worker_lost"
    assert "batch_size" in read.error["hint"]
    assert types_of(job.id).count("job.failed") == 1


@pytest.mark.parametrize("crash", ["expire", "crashed"])
def test_a_job_that_falls_again_and_again_waits_longer_and_longer(
    database: Database, new_job, at, crash
) -> None:
    """A job that kills its worker must not keep all of them busy; the first time costs nothing."""
    job, waits, moment = new_job(), [], 0.0
    for _ in range(MAX_CRASHES - 1):
        with database.transaction() as session:
            claimed = jobs.claim(session, job.id, "w1", now=at(moment))
            assert claimed is not None
            moment += 20
            if crash == "expire":
                assert jobs.expire(session, now=at(moment)) == [job.id]
            else:
                assert jobs.crashed(session, job.id, claimed.attempt, {"message": "No."}, now=at(moment))
            wait = 0.0
            while jobs.longest_waiting(session, now=at(moment + wait)) is None:
                wait += 0.5
            waits.append(wait)
            if wait:
                assert jobs.claim(session, job.id, "w1", now=at(moment + wait - 0.5)) is None
                assert jobs.stale_queued(session, now=at(moment + wait - 0.5)) == []
                assert jobs.stale_queued(session, now=at(moment + wait + 0.5)) == [job.id], "rung for at once"
            moment += wait + 1
    assert waits == [0, 1]
    assert max(waits) <= LONGEST_BACKOFF


def test_a_trainer_that_crashes_three_times_in_a_row_fails_its_job(
    database: Database, new_job, new_checkpoint, types_of, at
) -> None:
    """And one that makes progress in between does not, however often it crashes."""
    job, error, moment = new_job(), {"code": "trainer_crashed", "message": "It was killed."}, 0.0
    saved = None
    for crash in range(1, 2 * MAX_CRASHES):
        with database.transaction() as session:
            moment += 100
            claimed = jobs.claim(session, job.id, "w1", now=at(moment))
        assert claimed is not None
        if crash == MAX_CRASHES - 1:
            saved = new_checkpoint(claimed, step=10).id
        with database.transaction() as session:
            assert jobs.crashed(session, job.id, claimed.attempt, error, now=at(moment))
            assert not jobs.crashed(session, job.id, claimed.attempt, error, now=at(moment)), "told twice"
            read = jobs.get(session, job.id)
            if read.status == JobStatus.FAILED:
                break
    assert crash == MAX_CRASHES - 2 + MAX_CRASHES
    assert read.error == {**error, "step": 0, "checkpoint_id": saved}
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
    for moment, forgiven, step in ((0, False, 10), (100, True, 20)):
        with database.transaction() as session:
            jobs.expire(session, now=at(moment))
            again = jobs.claim(session, job.id, "w2", now=at(moment + 50))
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


@pytest.mark.parametrize(("step", "kept"), [(0, []), (10, [10])])
def test_an_attempt_deletes_what_earlier_ones_recorded_beyond_its_start(
    database: Database, types_of, new_running, step, kept
) -> None:
    """It records those steps again: kept, each point of a curve would stand there twice."""
    job = new_running()
    with database.transaction() as session:
        for recorded in (10, 20):
            metrics.add(session, job.id, [metrics.MetricRow("loss", recorded, recorded, 1.0)], attempt=1)
            samples.add(session, job.id, attempt=1, step=recorded, images=recorded, artifact=f"{recorded}")
        jobs.release(session, job.id, 1)
        claimed = jobs.claim(session, job.id, "w2")
        assert claimed is not None
        assert not jobs.begin(session, job.id, 1, step=step, images=step), "another attempt's"
        assert jobs.begin(session, job.id, 2, step=step, images=step)
    with database.read() as session:
        curves = metrics.series(session, job.id)
        assert [sample.step for sample in samples.list(session, job.id)] == kept
        assert jobs.get(session, job.id).step == step
    assert (curves["loss"]["step"] if curves else []) == kept
    assert types_of(job.id).count("sample.saved") == len(kept)
    assert types_of(job.id)[-1 - bool(step) :] == ["job.started", *["job.resumed"] * bool(step)]

"""Checkpoints that a job went back behind: weights from then on, and not what it goes on from."""

import pytest

from service.errors import Conflict
from service.records import checkpoints, jobs, retention, unwanted
from service.records.database import Database
from service.records.status import JobStatus
from service.records.tables import Job

KEEPS_TWO = {"checkpoints": {"keep_last": 2, "keep_best": 1}}


def given_up(database: Database) -> set[str]:
    with database.read() as session:
        return set(unwanted.oldest(session, 1000))


def passed_over(database: Database, job: Job, step: int) -> None:
    with database.transaction() as session:
        retention.pass_over(session, job.id, step)


def test_what_is_passed_over_gives_up_its_state_alone(database: Database, new_running, store, left) -> None:
    """Breaks when a damaged checkpoint is tried again at each start, or its weights go with its state."""
    job, other = new_running(), new_running()
    for step in (10, 20, 30):
        store(job, step)
    store(other, 30)
    before = given_up(database)
    passed_over(database, job, 20)
    assert [(row.step, row.state_bytes) for row in left(job)] == [(10, None), (30, None), (20, 300)]
    assert [row.state_bytes for row in left(other)] == [300]
    assert given_up(database) - before == {f"jobs/{job.id}/checkpoints/1-00000030/state.safetensors"}
    passed_over(database, job, 0)
    assert [(row.step, row.state_bytes) for row in left(job)] == [(10, None), (20, None), (30, None)]


def test_what_is_made_again_behind_the_passed_over_is_the_newest(
    database: Database, new_running, store, left
) -> None:
    """Breaks when a job that went back loses all that it has trained since: once at each end of a worker."""
    job = new_running(**KEEPS_TWO)
    for step in (20, 30):
        store(job, step)
    passed_over(database, job, 0)
    again = store(job, 15, interim=True)
    with database.transaction() as session:
        assert checkpoints.latest_first(session, job.id)[0].id == again.id
        assert checkpoints.flags(session, [job.id])[job.id].last == again.id
        retention.tidy(session, job.id)
        retention.fit(session, 1)
    newest = left(job)[-1]
    assert (newest.id, newest.state_bytes) == (again.id, 300)
    with pytest.raises(Conflict, match="go on from it"), database.transaction() as session:
        retention.remove(session, again.id)


def test_without_anything_passed_over_the_newest_is_by_step(
    database: Database, new_running, store, left
) -> None:
    job, weights = new_running(), new_running()
    for step in (10, 30, 20):
        store(job, step)
        store(weights, step, state_bytes=None)
    with database.read() as session:
        last = {one.id: checkpoints.flags(session, [one.id])[one.id].last for one in (job, weights)}
    for one in (job, weights):
        assert [row.step for row in left(one)] == [10, 20, 30]
        assert last[one.id] == left(one)[-1].id


def test_an_error_names_the_checkpoint_that_the_job_would_go_on_from(
    database: Database, new_running, store
) -> None:
    """Breaks when it names a damaged one, which was passed over."""
    job = new_running()
    for step in (10, 30):
        store(job, step)
    passed_over(database, job, 10)
    again = store(job, 15)
    with database.transaction() as session:
        error = {"code": "diverged", "message": "NaN"}
        assert jobs.finish(session, job.id, job.attempt, JobStatus.FAILED, error)
        assert jobs.get(session, job.id).error == {**error, "step": 0, "checkpoint_id": again.id}

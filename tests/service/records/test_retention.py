"""What is cleaned up, and above all what never is: the newest, the best, the pinned, what is waited for."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from service.errors import Conflict, NotFound
from service.records import checkpoints, evaluations, images, jobs, retention, unwanted
from service.records.database import Database
from service.records.status import JobStatus
from service.records.tables import Checkpoint

SCORED = {"evaluation": {"best_by": "fid"}}
KEEPS_TWO = {"checkpoints": {"keep_last": 2, "keep_best": 1}}


def steps(rows: Sequence[Checkpoint]) -> list[int]:
    return [row.step for row in rows]


def given_up(database: Database) -> set[str]:
    with database.read() as session:
        return set(unwanted.oldest(session, 1000))


def test_all_stay_unless_the_spec_says_otherwise(new_running, store, left) -> None:
    job = new_running()
    for step in range(1, 8):
        store(job, step)
    assert steps(left(job)) == [1, 2, 3, 4, 5, 6, 7]


def test_only_the_newest_two_keep_what_a_job_goes_on_from(
    database: Database, new_running, store, left
) -> None:
    """Breaks when every checkpoint keeps optimizers that nobody reads, or the last resort goes."""
    job = new_running()
    for step in (1, 2, 3):
        store(job, step)
    assert [row.state_bytes for row in left(job)] == [None, 300, 300]
    assert given_up(database) == {f"jobs/{job.id}/checkpoints/1-00000001/state.safetensors"}


def test_the_last_ones_and_the_best_stay(database: Database, new_running, store, left) -> None:
    """Breaks when the best goes because it is old, or when its row goes before its files are named."""
    job = new_running(**SCORED, **KEEPS_TWO)
    for step, fid in ((1, 50.0), (2, 3.0), (3, 40.0), (4, 30.0), (5, 20.0)):
        store(job, step, fid=fid)
    assert steps(left(job)) == [2, 4, 5]
    folders = {f"jobs/{job.id}/checkpoints/1-0000000{step}" for step in (1, 3)}
    assert folders <= given_up(database)


def test_an_interim_one_goes_once_two_newer_ones_are_there(new_running, store, left) -> None:
    job = new_running()
    store(job, 7, interim=True)
    store(job, 10)
    assert steps(left(job)) == [7, 10]
    store(job, 13, interim=True)
    store(job, 20)
    store(job, 30)
    assert steps(left(job)) == [10, 20, 30]


def test_a_step_that_is_stored_again_gives_up_its_former_files(
    database: Database, new_running, store
) -> None:
    job = new_running()
    folder = f"jobs/{job.id}/checkpoints"
    store(job, 5, artifact=f"{folder}/1-00000005/checkpoint.safetensors")
    store(job, 5, artifact=f"{folder}/2-00000005/checkpoint.safetensors")
    assert given_up(database) == {f"{folder}/1-00000005"}


def test_what_is_pinned_or_waited_for_stays(database: Database, new_job, new_running, store, left) -> None:
    """Breaks when images, an evaluation or a new job find the checkpoint gone that they were promised."""
    job = new_running(**KEEPS_TWO)
    rows = [store(job, step) for step in (1, 2)]
    with database.transaction() as session:
        retention.pin(session, rows[0].id, pinned=True)
        made = images.create(session, rows[1].id, {"seeds": [1]})
    third = store(job, 3)
    with database.transaction() as session:
        evaluations.create(session, third.id, {})
    new_job(init_from=store(job, 4).id)
    for step in (5, 6, 7):
        store(job, step)
    assert steps(left(job)) == [1, 2, 3, 4, 6, 7]
    with database.transaction() as session:
        retention.pin(session, rows[0].id, pinned=False)
        claimed = images.claim_next(session, "w")
        assert claimed is not None
        assert images.finish_all(session, {made.id: (claimed.attempt, {"data": []})})
    store(job, 8)
    assert steps(left(job)) == [3, 4, 7, 8]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fids=st.lists(st.none() | st.floats(0, 100), min_size=1, max_size=9),
    interim=st.lists(st.booleans(), min_size=9, max_size=9),
    pins=st.sets(st.integers(1, 9)),
    keep_last=st.none() | st.integers(2, 4),
    keep_best=st.integers(1, 3),
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_whatever_comes_the_newest_the_best_and_the_pinned_stay(
    database: Database, new_running, store, left, fids, interim, pins, keep_last, keep_best
) -> None:
    job = new_running(**SCORED, checkpoints={"keep_last": keep_last, "keep_best": keep_best})
    for step, fid in enumerate(fids, 1):
        row = store(job, step, fid=fid, interim=interim[step - 1])
        if step in pins:
            with database.transaction() as session:
                retention.pin(session, row.id, pinned=True)
        stored = left(job)
        newest = {step, step - 1} - {0}
        measured = [(value, -number) for number, value in enumerate(fids[:step], 1) if value is not None]
        best = {-number for _, number in sorted(measured)[:1]}
        assert newest | best | {pin for pin in pins if pin <= step} <= set(steps(stored))
        assert {row.step for row in stored if row.state_bytes is not None} == newest


def test_a_limit_of_bytes_takes_the_oldest_of_all_jobs(database: Database, new_running, store, left) -> None:
    """Breaks when the limit takes a best or newest one, or more than it must."""
    first, second = new_running(**SCORED), new_running()
    for step, fid in ((1, 1.0), (2, 9.0), (3, 8.0), (4, 7.0)):
        store(first, step, fid=fid)
    for step in (1, 2, 3):
        store(second, step)
    taken = 7 * 100 + 4 * 300
    with database.transaction() as session:
        assert retention.fit(session, taken) == 0
    assert (steps(left(first)), steps(left(second))) == ([1, 2, 3, 4], [1, 2, 3])
    with database.transaction() as session:
        assert retention.fit(session, taken - 1) == 0
    assert (steps(left(first)), steps(left(second))) == ([1, 3, 4], [1, 2, 3])
    with database.transaction() as session:
        assert retention.fit(session, 1) == taken - 201
    assert (steps(left(first)), steps(left(second))) == ([1, 3, 4], [2, 3])


def test_a_limit_that_is_lowered_is_reached_in_looks_that_let_others_write(
    database: Database, new_running, store, left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when thousands of deletions are one long transaction, beside which SQLite answers no POST."""
    monkeypatch.setattr(retention, "AT_ONCE", 30)
    job = new_running()
    for step in range(1, 43):
        store(job, step)
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", count)
    with database.transaction() as session:
        assert retention.fit(session, 1) == 0, "more can go: nothing has to stay yet"
    event.remove(database.engine, "before_cursor_execute", count)
    assert len(left(job)) == 42 - 30
    assert len(statements) < 30, "a statement for each of them"
    with database.transaction() as session:
        assert retention.fit(session, 1) == 2 * 100 + 2 * 300 - 1
    assert steps(left(job)) == [41, 42]
    assert len(given_up(database)) == 40 + 40, "their folders, and their states before"


def test_a_job_that_has_succeeded_keeps_weights_only(database: Database, new_running, store, left) -> None:
    done, failed = new_running(), new_running()
    for job, status in ((done, JobStatus.SUCCEEDED), (failed, JobStatus.FAILED)):
        store(job, 1)
        with database.transaction() as session:
            assert jobs.finish(session, job.id, job.attempt, status, {"code": "x", "message": "x"})
    with database.transaction() as session:
        retention.fit(session, None)
    assert [row.state_bytes for row in (*left(done), *left(failed))] == [None, 300]


def test_a_job_that_has_succeeded_lists_what_its_spec_asked_for(
    database: Database, new_running, store, left
) -> None:
    """Breaks when a step before the end, saved because scores take long, stays beside the last one."""
    done, alone, failed = new_running(), new_running(), new_running()
    for job in (done, failed):
        store(job, 4, interim=True)
        pinned = store(job, 6, interim=True)
        store(job, 9, interim=True)
        with database.transaction() as session:
            retention.pin(session, pinned.id, pinned=True)
        store(job, 10)
    store(alone, 9, interim=True)
    for job, status in (
        (done, JobStatus.SUCCEEDED),
        (alone, JobStatus.SUCCEEDED),
        (failed, JobStatus.FAILED),
    ):
        with database.transaction() as session:
            assert jobs.finish(session, job.id, job.attempt, status, {"code": "x", "message": "x"})
    with database.transaction() as session:
        retention.fit(session, None)
    assert [steps(left(job)) for job in (done, alone, failed)] == [[6, 10], [9], [6, 9, 10]]
    assert f"jobs/{done.id}/checkpoints/1-00000009" in given_up(database)


def test_a_deleted_one_is_gone_for_every_reader_and_its_images_stay(
    database: Database, new_running, store
) -> None:
    job = new_running()
    first, last = store(job, 1), store(job, 2)
    with database.transaction() as session:
        made = images.create(session, first.id, {"seeds": [1]})
        claimed = images.claim_next(session, "w")
        assert claimed is not None
        assert images.finish_all(session, {made.id: (claimed.attempt, {"data": []})})
    with database.transaction() as session:
        retention.remove(session, first.id)
    with database.read() as session:
        assert images.get(session, made.id).checkpoint_id == first.id
        assert [row.id for row in checkpoints.page(session).items] == [last.id]
        assert checkpoints.flags(session, [job.id]) == {job.id: (last.id, last.id)}
        with pytest.raises(NotFound, match="was deleted"):
            checkpoints.get(session, first.id)


@pytest.mark.parametrize("needed_by", ["its job", "images"])
def test_what_something_needs_is_not_deleted(database: Database, new_running, store, needed_by: str) -> None:
    job = new_running()
    first, last = store(job, 1), store(job, 2)
    wanted = last if needed_by == "its job" else first
    with database.transaction() as session:
        if needed_by == "images":
            images.create(session, first.id, {"seeds": [1]})
    with (
        pytest.raises(Conflict, match="go on from it" if wanted is last else "wait"),
        contextlib.ExitStack() as stack,
    ):
        retention.remove(stack.enter_context(database.transaction()), wanted.id)
    with database.read() as session:
        assert checkpoints.get(session, wanted.id).deleted_at is None


def test_a_failed_job_names_its_step_and_its_last_checkpoint(database: Database, new_running, store) -> None:
    """Breaks when whoever reads the error has to look for what the job can go on from."""
    job = new_running()
    last = store(job, 20)
    with database.transaction() as session:
        assert jobs.report(session, job.id, job.attempt, step=25, images=200)
        assert jobs.finish(
            session, job.id, job.attempt, JobStatus.FAILED, {"code": "diverged", "message": "NaN"}
        )
    with database.read() as session:
        error = jobs.get(session, job.id).error
    assert error == {"code": "diverged", "message": "NaN", "step": 25, "checkpoint_id": last.id}


def test_an_error_that_knows_its_step_keeps_it(database: Database, new_running, store) -> None:
    """Breaks when a loss that was NaN at step 27 is said to have been so where progress was told last."""
    job = new_running()
    made = store(job, 20)
    with database.transaction() as session:
        assert jobs.report(session, job.id, job.attempt, step=25, images=200)
        error = {"code": "diverged", "message": "NaN", "step": 27}
        assert jobs.finish(session, job.id, job.attempt, JobStatus.FAILED, error)
        assert jobs.get(session, job.id).error == {**error, "checkpoint_id": made.id}

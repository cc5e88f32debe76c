"""Curves come back as they were written, thinned to what was asked for and never bent."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.records import metrics
from service.records.database import Database
from service.records.metrics import MetricRow


def rows(key: str, steps: list[int]) -> list[MetricRow]:
    return [MetricRow(key, step, step * 8, step / 10) for step in steps]


def write(database: Database, job_id: str, written: list[MetricRow]) -> None:
    with database.transaction() as session:
        assert metrics.add(session, job_id, written, attempt=1)


def test_a_short_curve_comes_back_whole_and_in_order(database: Database, new_running) -> None:
    job = new_running()
    write(database, job.id, rows("loss/generator", [30, 10, 20]))
    with database.read() as session:
        found = metrics.series(session, job.id)
    assert found == {
        "loss/generator": {"step": [10, 20, 30], "images": [80, 160, 240], "value": [1.0, 2.0, 3.0]}
    }


def test_writing_a_point_again_replaces_it_also_within_one_batch(database: Database, new_running) -> None:
    """A batch that is sent twice, because the first commit was not confirmed, must not fail."""
    job = new_running()
    for value in (1.0, 2.0):
        write(database, job.id, [MetricRow("loss", 5, 40, 0.0), MetricRow("loss", 5, 40, value)])
    with database.read() as session:
        assert metrics.series(session, job.id)["loss"]["value"] == [2.0]


def test_a_batch_may_be_larger_than_a_statement_can_bind(database: Database, new_running) -> None:
    job, steps = new_running(), list(range(20_000))
    write(database, job.id, rows("loss", steps))
    with database.read() as session:
        found = metrics.series(session, job.id, max_points=10**9)["loss"]["step"]
    assert len(found) == metrics.MOST_POINTS
    assert (found[0], found[-1]) == (0, 19_999)


def test_an_empty_batch_is_no_error(database: Database, new_running) -> None:
    write(database, new_running().id, [])


def test_values_that_are_not_finite_are_null(database: Database, new_running) -> None:
    job = new_running()
    values = [math.nan, math.inf, -math.inf, 1.5]
    write(database, job.id, [MetricRow("loss", step, 0, value) for step, value in enumerate(values)])
    with database.read() as session:
        assert metrics.series(session, job.id)["loss"]["value"] == [None, None, None, 1.5]


def test_only_the_keys_asked_for_and_only_of_this_job(database: Database, new_running) -> None:
    job, other = new_running(), new_running()
    for key in ("score/fid", "loss/generator", "loss/discriminator"):
        write(database, job.id, rows(key, [1, 2]))
    write(database, other.id, rows("alien", [1]))
    with database.read() as session:
        assert metrics.keys(session, job.id) == ["loss/discriminator", "loss/generator", "score/fid"]
        assert set(metrics.series(session, job.id)) == {"loss/discriminator", "loss/generator", "score/fid"}
        assert set(metrics.series(session, job.id, ["score/fid", "unknown", "a\x00b"])) == {"score/fid"}
        assert metrics.series(session, "job_unknown") == {}
        assert metrics.keys(session, "job_unknown") == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.sets(st.integers(0, 10**9), min_size=1, max_size=60),
    max_points=st.integers(2, 40),
)
def test_a_thinned_curve_is_some_of_its_points_with_the_first_and_the_last(
    database: Database, new_running, steps: set[int], max_points: int
) -> None:
    job = new_running()
    write(database, job.id, rows("loss", sorted(steps)))
    with database.read() as session:
        found = metrics.series(session, job.id, max_points=max_points)["loss"]
    assert found["step"] == sorted(set(found["step"]))
    assert set(found["step"]) <= steps
    assert len(found["step"]) <= max_points
    assert (found["step"][0], found["step"][-1]) == (min(steps), max(steps))
    assert found["value"] == [step / 10 for step in found["step"]]
    assert found["images"] == [step * 8 for step in found["step"]]
    if len(steps) <= max_points:
        assert found["step"] == sorted(steps)


def test_points_of_an_even_curve_are_spread_evenly(database: Database, new_running) -> None:
    job = new_running()
    write(database, job.id, rows("loss", list(range(1, 1002))))
    with database.read() as session:
        assert metrics.series(session, job.id, max_points=11)["loss"]["step"] == [1, *range(101, 1002, 100)]


@pytest.mark.parametrize("max_points", [-1, 0, 1])
def test_no_fewer_than_two_points_can_be_asked_for(database: Database, new_running, max_points: int) -> None:
    job = new_running()
    write(database, job.id, rows("loss", [1, 2, 3]))
    with database.read() as session:
        assert metrics.series(session, job.id, max_points=max_points)["loss"]["step"] == [1, 3]


def test_thinning_does_not_read_the_whole_curve(database: Database, new_running) -> None:
    """The cost of a curve is that of the points shown, not of those recorded."""
    job, recorded, shown = new_running(), 20_000, 100
    write(database, job.id, rows("loss", list(range(recorded))))
    with database.transaction() as session:
        session.execute(text("ANALYZE metrics"))  # PostgreSQL does it by itself, a minute later
    with database.read() as session:
        before = work(session)
        assert len(metrics.series(session, job.id, max_points=shown)["loss"]["step"]) == shown
        assert work(session) - before < recorded / 4


def work(session: Session) -> int:
    """What this transaction has made the database do: rows read on PostgreSQL, instructions / 8 on SQLite."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_all_tables WHERE relname = 'metrics'"
        return int(session.scalar(text(read)) or 0)
    counted: list[int] = connection.info.setdefault("counted", [])
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(lambda: counted.append(1), 8)
    return len(counted)

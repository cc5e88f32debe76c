"""The curves of a job: written in batches, read as at most so many points."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

from sqlalchemy import BigInteger, ColumnElement, cast, func, literal, select
from sqlalchemy.orm import Session

from service.records.columns import insert_into, storable
from service.records.leases import fence
from service.records.tables import Metric

# SQLite binds at most 32,766 values in a statement.
MOST_POINTS = 10_000


class MetricRow(NamedTuple):
    key: str
    step: int
    images: int
    value: float


class Series(TypedDict):
    """One curve as columns; a value is None where it was not a finite number."""

    step: list[int]
    images: list[int]
    value: list[float | None]


def add(session: Session, job_id: str, rows: Iterable[MetricRow], *, attempt: int) -> bool:
    """Writes values, replacing those of the same key and step; False: the job is no longer this attempt's."""
    if not fence(session, job_id, attempt):
        return False
    latest = {(key, step): (images, value) for key, step, images, value in rows}
    values = [
        {"job_id": job_id, "key": key, "step": step, "images": images, "value": storable(float(value))}
        for (key, step), (images, value) in latest.items()
    ]
    if values:
        insert = insert_into(session, Metric)
        upsert = insert.on_conflict_do_update(
            index_elements=[Metric.job_id, Metric.key, Metric.step],
            set_={"images": insert.excluded.images, "value": insert.excluded.value},
        )
        # One prepared statement for all rows, which the drivers send in one go.
        session.connection().execute(upsert, values)
    return True


def keys(session: Session, job_id: str) -> list[str]:
    """The names of a job's curves, in order; each costs one look into the index, however long it is."""
    first = (
        select(func.min(Metric.key).label("key")).where(Metric.job_id == job_id).cte("names", recursive=True)
    )
    following = (
        select(func.min(Metric.key))
        .where(Metric.job_id == job_id, Metric.key > first.c.key)
        .scalar_subquery()
    )
    names = first.union_all(select(following).where(first.c.key.is_not(None)))
    return [key for key in session.scalars(select(names.c.key)) if key is not None]


def series(
    session: Session, job_id: str, keys: Sequence[str] | None = None, max_points: int = 1000
) -> dict[str, Series]:
    """The curves named by `keys` (None: all), each thinned to at most `max_points` (2 or more) of its points.

    A thinned curve keeps its first and last point, and those between are spread evenly over the steps.
    """
    wanted = _names(session, job_id) if keys is None else sorted(storable(key) for key in set(keys))
    curves = {key: _curve(session, job_id, key, min(max(2, max_points), MOST_POINTS)) for key in wanted}
    return {key: curve for key, curve in curves.items() if curve["step"]}


_names = keys


def _curve(session: Session, job_id: str, key: str, max_points: int) -> Series:
    mine = (Metric.job_id == job_id, Metric.key == key)
    short = select(literal(1)).where(*mine).limit(max_points + 1).subquery()
    query = select(Metric.step, Metric.images, Metric.value).where(*mine).order_by(Metric.step)
    if (session.scalar(select(func.count()).select_from(short)) or 0) > max_points:
        query = query.where(Metric.step.in_(_spread(session, mine, max_points)))
    rows = session.execute(query).all()
    return {
        "step": [row.step for row in rows],
        "images": [row.images for row in rows],
        "value": [row.value for row in rows],
    }


def _spread(session: Session, mine: tuple[ColumnElement[bool], ...], max_points: int) -> Sequence[int]:
    """The steps to keep: for each of `max_points` marks from first to last step, the first row from there on.

    Every mark is one look into the primary key's index, so that the cost does not grow with the curve.
    (PostgreSQL may read all of it for `min(step)`, and for one statement that also fetches the values.)
    """
    steps = select(Metric.step).where(*mine)
    low = session.scalar(steps.order_by(Metric.step).limit(1))
    high = session.scalar(steps.order_by(Metric.step.desc()).limit(1))
    if low is None or high is None:
        return ()  # another transaction has deleted the curve meanwhile
    number = select(cast(literal(0), BigInteger).label("number")).cte("marks", recursive=True)
    marks = number.union_all(select(number.c.number + 1).where(number.c.number < max_points - 1))
    mark = low + (high - low) * marks.c.number // (max_points - 1)
    kept = steps.where(Metric.step >= mark).order_by(Metric.step).limit(1).correlate(marks).scalar_subquery()
    return session.scalars(select(kept).select_from(marks)).all()

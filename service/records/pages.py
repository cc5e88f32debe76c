"""Lists, newest first: a page is what follows a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.errors import Invalid
from service.records.ids import plausible

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, newest first, and whether older ones follow."""

    items: Sequence[T]
    has_more: bool


def newest_first(
    session: Session,
    query: Select[Any],
    id_column: InstrumentedAttribute[Any],
    limit: int,
    after: str | None,
    *,
    always: ColumnElement[bool] | InstrumentedAttribute[bool] | None = None,
) -> Page[T]:
    """The rows of `query` behind the cursor `after`, and those that `always` follow it, whatever their id."""
    if after is not None:
        if not plausible(after):
            raise Invalid(
                "bad_cursor",
                "`after` is not an id.",
                hint="Pass the `last_id` of the previous page.",
                param="after",
            )
        query = query.where(id_column < after if always is None else or_(id_column < after, always))
    rows: Sequence[T] = session.scalars(query.order_by(id_column.desc()).limit(limit + 1)).all()
    return Page(rows[:limit], len(rows) > limit)

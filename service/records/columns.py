"""Column types and clock expressions that mean the same on SQLite and on PostgreSQL."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Double, String, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

# PostgreSQL stores neither NUL nor half a surrogate pair, in text or in JSON; SQLite takes both.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """The same JSON value without what databases refuse: NaN and infinities become null, NUL U+FFFD."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def dumps(value: Any) -> str:
    # SQLite finds a key by its letters as they are stored: "größe" must not become "gr\\u00f6\\u00dfe".
    return json.dumps(storable(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, timezone aware and in UTC on the way out; naive ones are refused on the way in."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(
                f"{value!r} has no time zone; pass an aware datetime, such as datetime.now(UTC)."
            )
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Text of any length that both databases can hold."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


# Ids are compared byte by byte on both databases, whatever the locale: their order is the order of creation.
Id = String(64).with_variant(String(64, collation="C"), "postgresql")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class clock(FunctionElement[datetime]):  # noqa: N801 - reads like the SQL function that it is
    """The database's own clock, which all workers share."""

    type = UtcDateTime()
    inherit_cache = True


class shifted(FunctionElement[datetime]):  # noqa: N801 - reads like the SQL function that it is
    """A moment moved by a number of seconds."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, moment: ColumnElement[datetime], seconds: float) -> None:
        super().__init__(moment, literal(float(seconds), Double()))


def instant(now: ColumnElement[datetime] | datetime | None) -> ColumnElement[datetime]:
    """The SQL expression for `now`: the database's clock unless a literal is given."""
    if now is None:
        return clock()
    return literal(now, UtcDateTime()) if isinstance(now, datetime) else now


def insert_into(session: Session, table: type[DeclarativeBase]) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT of this session's database, which knows ON CONFLICT."""
    dialect = session.get_bind().dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


Now = ColumnElement[datetime] | datetime | None


@compiles(clock, "sqlite")
def _clock_sqlite(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    # Six decimals, like the literals: moments are text there, and compared as such.
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


@compiles(clock, "postgresql")
def _clock_postgresql(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    return "clock_timestamp()"


@compiles(shifted, "sqlite")
def _shifted_sqlite(element: shifted, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(strftime('%Y-%m-%d %H:%M:%f', {moment}, {seconds} || ' seconds') || '000')"


@compiles(shifted, "postgresql")
def _shifted_postgresql(element: shifted, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({moment} + make_interval(secs => {seconds}))"

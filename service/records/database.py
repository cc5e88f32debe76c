"""The one way to SQL: an engine for SQLite or PostgreSQL, and explicit transactions."""

import importlib.resources
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import Conflict, Invalid, Unavailable
from service.records.columns import dumps

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
# As many as FastAPI has threads, so that a request waits for the database and not for the pool.
POOL_SIZE, POOL_OVERFLOW = 5, 35
_WRITES, _DURABLE = "atelier_writes", "atelier_durable"
_NO_WAIT_FOR_DISK = text("SET LOCAL synchronous_commit TO off")  # SQLite's way: `_begin_sqlite`
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """A database by its address; `transaction()` writes, `read()` cannot."""

    def __init__(self, url: str) -> None:
        self.engine = build_engine(url)
        # SQLite has one writer at a time: threads of one process wait for each other here, asleep.
        self._turn = threading.RLock() if self.engine.dialect.name == "sqlite" else None
        self._writing = {
            durable: self.engine.execution_options(**{_WRITES: True, _DURABLE: durable})
            for durable in (True, False)
        }
        self._reading = (
            self.engine.execution_options(postgresql_readonly=True)
            if self.engine.dialect.name == "postgresql"
            else self.engine
        )

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back if it raises. Keep it short.

        One that is not `durable` does not wait for the disk: the death of a process does it no harm, a power
        cut may undo it as a whole.
        """
        with (
            self._taking_turns(),
            _reporting_outages(),
            Session(self._writing[durable], expire_on_commit=False) as session,
            session.begin(),
        ):
            if not durable and self.engine.dialect.name == "postgresql":
                session.execute(_NO_WAIT_FOR_DISK)
            yield session

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise _unavailable()
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that the database itself refuses to write in. Objects stay usable after the block."""
        with _reporting_outages(), Session(self._reading, expire_on_commit=False, autoflush=False) as session:
            yield session
            session.expunge_all()

    def check(self) -> None:
        """Raises `Unavailable` unless the database answers and has been migrated."""
        with self.read() as session:
            migrated = inspect(session.connection()).has_table("alembic_version")
        if not migrated:
            raise Unavailable(
                "database_not_migrated",
                "The database answers, and has none of this service's tables.",
                hint="Run `atelier migrate` with the same ATELIER_DATABASE_URL.",
            )

    def close(self) -> None:
        self.engine.dispose()


def normalised(url: str) -> URL:
    """The address with the driver this service uses: psycopg 3 for PostgreSQL, sqlite3 for SQLite."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = URL.create("unreadable")
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    # A database in memory is another one for each connection, and none of them outlives the process.
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite+pysqlite")
    raise Invalid(
        "bad_database_url",
        "The database address is not one this service can use.",
        hint="Give postgresql://user:password@host/name, or sqlite:///path/to/file.db.",
        param="database_url",
    )


def migrate(url: str, revision: str = "head") -> None:
    """Brings the database to `revision` in one transaction; processes that do it at once take turns."""
    # Imported here, because only this needs Alembic, and a process that serves HTTP starts without it.
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(migrations_of(url), revision)
    except CommandError as error:
        raise Conflict(
            "database_of_another_version",
            f"The database cannot be brought to this version of Atelier: {error}.",
            hint="A newer version may have made it: run that one.",
        ) from error


def migrations_of(url: str) -> "Config":
    """Alembic's configuration for a database, whatever the current folder is."""
    from alembic.config import Config

    config = Config()
    folder = str(importlib.resources.files("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["database_url"] = url
    return config


def build_engine(url: str) -> Engine:
    parsed = normalised(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            pool_timeout=10,
            json_serializer=dumps,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "atelier"},
        )
    Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        parsed,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=10,
        json_serializer=dumps,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Without this Python's driver decides itself when a transaction begins, and DDL is not part of one.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    options = connection.get_execution_options()
    writes = bool(options.get(_WRITES, False))
    driver.execute(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    if not writes:
        driver.execute("BEGIN")
        return
    driver.execute(f"PRAGMA synchronous = {'FULL' if options.get(_DURABLE, True) else 'NORMAL'}")
    # A transaction that reads first and writes later cannot wait for another writer: it fails at once. So the
    # write lock is taken from the start, and waited for here: SQLite's own wait looks ever less often, to
    # every 0.1 s, so that of several busy writers the unlucky ones would wait for seconds.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while not _locked_for_writing(driver, deadline):
            time.sleep(random.uniform(0.001, 0.008))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")


def _locked_for_writing(driver: sqlite3.Connection, deadline: float) -> bool:
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
            raise
        return False
    return True


def _unavailable() -> Unavailable:
    return Unavailable(
        "database_unavailable",
        "The database did not answer.",
        hint="Try again in a few seconds; with the same Idempotency-Key nothing is created twice.",
    )


@contextmanager
def _reporting_outages() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError) as error:
        raise _unavailable() from error
    except (DatabaseError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
        raise Unavailable(
            "database_damaged",
            "The database file (atelier.db of the data folder, unless ATELIER_DATABASE_URL says otherwise) "
            "is damaged, or no database at all.",
            hint="Put a backup in its place; or move it away, and the next start makes an empty one.",
        ) from error

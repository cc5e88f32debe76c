"""The two databases behave alike, and an outage is told apart from a mistake."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from service.errors import Invalid, Unavailable
from service.records import jobs
from service.records.columns import clock, instant, shifted, storable
from service.records.database import Database, migrate, normalised
from service.records.tables import Job


def test_the_clock_is_utc_and_near_ours(database: Database) -> None:
    with database.read() as session:
        now = session.scalar(select(clock()))
    assert now is not None
    assert now.tzinfo == UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize("seconds", [15, -15, 0.25, 86_400])
def test_moments_are_moved_exactly(database: Database, seconds: float) -> None:
    moment = datetime(2030, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    with database.read() as session:
        assert session.scalar(select(shifted(instant(moment), seconds))) == moment + timedelta(
            seconds=seconds
        )


def test_times_of_another_zone_come_back_as_the_same_moment_in_utc(database: Database, new_job) -> None:
    elsewhere = datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    job = new_job()
    with database.transaction() as session:
        jobs.get(session, job.id).run_after = elsewhere
    with database.read() as session:
        read = jobs.get(session, job.id).run_after
    assert read == elsewhere
    assert read.tzinfo == UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with database.read() as session, pytest.raises(Exception, match="no time zone"):
        session.scalar(select(instant(datetime(2030, 1, 1))))  # noqa: DTZ001 - what is refused here


def test_a_read_cannot_write(database: Database, new_job) -> None:
    job = new_job()
    with pytest.raises((DBAPIError, Unavailable)), database.read() as session:
        session.execute(text("UPDATE jobs SET name = 'changed'"))
    with database.transaction() as session:
        assert jobs.get(session, job.id).name == "fashion"


def test_a_block_that_raises_changes_nothing(database: Database, new_job) -> None:
    job = new_job()

    def cancel_and_fail() -> None:
        with database.transaction() as session:
            jobs.request_cancel(session, job.id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cancel_and_fail()
    with database.read() as session:
        assert jobs.get(session, job.id).status == "queued"


def test_objects_stay_usable_after_their_block(database: Database, new_job) -> None:
    job = new_job()
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert read.spec["seed"] == 7
    assert read.created_at.tzinfo == UTC


def test_what_databases_cannot_hold_is_replaced_and_not_an_error(database: Database, new_job) -> None:
    job = new_job(
        name="a\x00b\ud800", metadata={"loss": float("nan"), "text": "\x00", "deep": [float("inf")]}
    )
    with database.read() as session:
        read = jobs.get(session, job.id)
    assert read.name == "a\ufffdb\ufffd"
    assert read.metadata_ == {"loss": None, "text": "\ufffd", "deep": [None]}
    assert storable({"a": (1, 2.5, True, None)}) == {"a": [1, 2.5, True, None]}


def test_rows_go_with_the_job_they_belong_to(database: Database, new_checkpoint) -> None:
    checkpoint = new_checkpoint()
    with database.transaction() as session:
        session.delete(jobs.get(session, checkpoint.job_id))
    with database.read() as session:
        for table in ("checkpoints", "job_events"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0


def test_a_second_writer_waits_for_the_first(database: Database, new_job) -> None:
    """Without BEGIN IMMEDIATE a SQLite transaction that reads first fails at once instead of waiting."""
    job = new_job()
    holding = threading.Event()

    def count_slowly() -> None:
        with database.transaction() as session:
            row = jobs.get(session, job.id, lock=True)
            holding.set()
            time.sleep(0.3)
            row.step += 1

    slow = threading.Thread(target=count_slowly)
    slow.start()
    holding.wait(10)
    with database.transaction() as session:
        jobs.get(session, job.id, lock=True).step += 1
    slow.join()
    with database.read() as session:
        assert jobs.get(session, job.id).step == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_writer_that_waits_too_long_is_told_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.records.database.BUSY_TIMEOUT_SECONDS", 0.2)
    with database.transaction() as holding:
        holding.execute(text("SELECT 1"))
        before = time.monotonic()
        with pytest.raises(Unavailable), database.transaction() as session:
            session.execute(text("SELECT 1"))
        assert time.monotonic() - before >= 0.2
    with database.transaction() as session:
        session.execute(text("SELECT 1"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_processes_that_write_at_once_all_succeed_and_one_that_is_killed_hurts_nobody(
    database: Database, database_url: str
) -> None:
    code = (
        "import sys; from service.records import jobs; from service.records.database import Database\n"
        "database, spec = Database(sys.argv[1]), {'family': 'gan', 'dataset': 'digits', 'seed': 1}\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    with database.transaction() as session:\n"
        "        jobs.claim(session, jobs.create(session, spec, [], 1).id, 'w')\n"
        "    print('written', flush=True)\n"
    )
    command = [sys.executable, "-c", code, database_url]
    root = Path(__file__).parents[3]
    endless = subprocess.Popen([*command, "1000000"], cwd=root, stdout=subprocess.PIPE, text=True)
    writers = [subprocess.Popen([*command, "10"], cwd=root, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert endless.stdout is not None
    assert endless.stdout.readline() == "written\n"
    endless.kill()
    known = 1 + len(endless.stdout.readlines())
    endless.wait()
    endless.stdout.close()
    assert [writer.wait(240) for writer in writers] == [0] * 4
    with database.read() as session:
        written = session.scalar(text("SELECT count(*) FROM jobs WHERE status = 'running' AND attempt = 1"))
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    assert 40 + known <= (written or 0) <= 40 + known + 1


def test_readers_do_not_wait_for_a_writer(database: Database, new_job) -> None:
    job = new_job()
    with database.transaction() as writing:
        writing.execute(text("UPDATE jobs SET name = 'changed'"))
        with database.read() as session:
            assert session.scalar(select(Job.name).where(Job.id == job.id)) == "fashion"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_is_in_wal_mode_with_a_busy_timeout_and_foreign_keys(database: Database) -> None:
    names = ("journal_mode", "busy_timeout", "foreign_keys")
    with database.read() as session:
        assert [session.scalar(text(f"PRAGMA {name}")) for name in names] == ["wal", 5000, 1]


def test_only_a_transaction_that_says_so_does_without_the_disk(database_url: str) -> None:
    """Breaks when a job that was answered 202 could be lost with the power, or images wait for the disk."""
    if database_url.startswith("sqlite"):
        database, ask, waits, does_not = Database(database_url), "PRAGMA synchronous", 2, 1
    else:  # the tests' own server never waits for its disk, unless a connection wants it to
        options = "options=-csynchronous_commit%3Don"
        database = Database(f"{database_url}{'&' if '?' in database_url else '?'}{options}")
        ask, waits, does_not = "SHOW synchronous_commit", "on", "off"
    for durable in (True, False, True):
        with database.transaction(durable=durable) as session:
            assert session.scalar(text(ask)) == (waits if durable else does_not)
    database.close()


def test_a_dead_server_is_unavailable_soon_and_its_password_is_not_told() -> None:
    database = Database("postgresql://atelier:hunter2@127.0.0.1:1/atelier")
    before = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        database.check()
    assert time.monotonic() - before < 60
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__} {database.engine!r}"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_is_cut_is_unavailable_and_the_next_block_works(
    database: Database, new_job
) -> None:
    job = new_job()

    def cancel_and_lose_the_connection() -> None:
        with database.transaction() as session:
            jobs.request_cancel(session, job.id)
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable):
        cancel_and_lose_the_connection()
    with database.transaction() as session:
        assert jobs.request_cancel(session, job.id).status == "cancelled"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_pooled_connections_that_were_cut_are_replaced(database: Database) -> None:
    """After the server has restarted not one request may fail because of it."""
    with database.read() as one, database.read() as other:
        one.execute(text("SELECT 1"))
        other.execute(text("SELECT 1"))
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname ="
    with database.read() as session:
        session.execute(text(f"{cut} current_database()"))
    for _ in range(2):
        database.check()


def test_a_database_without_tables_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="atelier migrate"):
        Database(f"sqlite:///{tmp_path / 'empty.db'}").check()


@pytest.mark.parametrize("kept", [0, 4096], ids=["no database", "bad pages"])
def test_a_damaged_file_says_what_to_do(
    migrated: Callable[[str, Path], str], tmp_path: Path, kept: int
) -> None:
    """It is no outage: trying again, as is said of one, would not help."""
    url = migrated("sqlite", tmp_path)
    file = tmp_path / "atelier.db"
    file.write_bytes(file.read_bytes()[:kept] + b"\xff" * 20_000)
    for open_it in (Database(url).check, lambda: migrate(url)):
        with pytest.raises(Unavailable, match="is damaged") as caught:
            open_it()
        assert caught.value.code == "database_damaged"


def test_a_migrated_database_passes_its_check(database: Database) -> None:
    database.check()


@pytest.mark.parametrize(
    "given", ["postgresql://u:p@h/d", "postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"]
)
def test_every_spelling_of_a_postgresql_address_gets_the_driver(given: str) -> None:
    assert normalised(given).render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    "given",
    ["", "mysql://h/secret", "postgresql+asyncpg://h/secret", "sqlite://", "sqlite:///:memory:", "secret:::"],
)
def test_an_address_of_something_else_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(Invalid, match="postgresql://user:password@host/name") as raised:
        normalised(given)
    assert "secret" not in str(raised.value)

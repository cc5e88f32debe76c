"""Migrations build every table from nothing, match the tables in code, and leave nothing half done."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command, op
from sqlalchemy import create_engine, inspect, text

from service.errors import Conflict
from service.records import checkpoints, datasets, evaluations, suspects
from service.records.database import Database, build_engine, migrate, migrations_of
from service.records.tables import Table

ROOT = Path(__file__).parents[3]
OLD_JOB = """
    INSERT INTO jobs (id, name, status, spec, dataset, seed, metadata, warnings, attempt, published_at,
        failures, lost_leases, step, total_steps, images, created_at)
    VALUES ('job_old', 'old', 'succeeded', '{"family": "gan"}', 'digits', 1, '{}', '[]', 1,
        '2026-01-31 12:00:00', 0, 0, 10, 10, 640, '2026-01-31 12:00:00')
"""
OLD_CHECKPOINT = """
    INSERT INTO checkpoints (id, job_id, step, images, artifact, size_bytes, sha256, scores, pinned,
        created_at)
    VALUES ('ckpt_old', 'job_old', 10, 640, 'jobs/job_old/10', 5, '', '{}', FALSE, '2026-01-31 12:00:00')
"""
OLD_DATASET = """
    INSERT INTO datasets (id, name, builtin, status, count, classes, dropped, progress_done, progress_total,
        attempt, published_at, created_at)
    VALUES ('ds_old', 'old', FALSE, 'ready', 10, '{"a": 5, "b": 5}', '[]', 10, 10, 1, '2026-01-31 12:00:00',
        '2026-01-31 12:00:00')
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'atelier.db'}"
    new: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return new()


def tables_in(url: str) -> set[str]:
    engine = build_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_a_developer_types_upgrade_and_check_and_both_are_clean(empty_url: str) -> None:
    """Fails when a table was changed in code without a migration."""
    environment = {**os.environ, "ATELIER_DATABASE_URL": empty_url}
    for arguments in (["upgrade", "head"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations" in done.stdout


def test_migrating_works_from_any_folder_and_twice(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    migrate(empty_url)
    migrate(empty_url)
    assert tables_in(empty_url) == {*Table.metadata.tables, "alembic_version"}


def test_it_goes_back_to_nothing(empty_url: str) -> None:
    migrate(empty_url)
    command.downgrade(migrations_of(empty_url), "base")
    assert tables_in(empty_url) == {"alembic_version"}


def test_processes_that_migrate_at_once_take_turns(empty_url: str) -> None:
    code = "import sys; from service.records.database import migrate; migrate(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", code, empty_url], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert "jobs" in tables_in(empty_url)


def test_a_migration_that_stops_halfway_leaves_nothing_and_can_be_repeated(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, calls = op.create_table, []

    def stop_at_the_third(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return create(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_table", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            migrate(empty_url)
    assert tables_in(empty_url) == set()
    migrate(empty_url)
    assert "jobs" in tables_in(empty_url)


def test_a_database_of_a_newer_version_is_told_apart(empty_url: str) -> None:
    migrate(empty_url)
    with closing(Database(empty_url)) as database, database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="A newer version may have made it"):
        migrate(empty_url)


def test_columns_compare_byte_by_byte_on_postgresql(new_postgresql: Callable[[], str]) -> None:
    """Ids sort by creation only if no locale has a say."""
    url = new_postgresql()
    migrate(url)
    engine = create_engine(url)
    collations = {
        column["name"]: getattr(column["type"], "collation", None)
        for column in inspect(engine).get_columns("jobs")
    }
    engine.dispose()
    assert collations["id"] == "C"


def test_what_the_first_version_stored_is_kept(empty_url: str) -> None:
    """A service that was upgraded must still have its checkpoints, not yet scored, and its datasets."""
    migrate(empty_url, "0001")
    with closing(Database(empty_url)) as database:
        with database.transaction() as session:
            session.execute(text(OLD_JOB))
            session.execute(text(OLD_CHECKPOINT))
            session.execute(text(OLD_DATASET))
        migrate(empty_url)
        with database.read() as session:
            found = checkpoints.get(session, "ckpt_old")
            assert (found.scores, found.score_details, found.merit) == ({}, None, None)
            assert checkpoints.flags(session, ["job_old"]) == {"job_old": ("ckpt_old", "ckpt_old")}
            assert evaluations.page(session, "ckpt_old").items == []
            assert datasets.get(session, "ds_old").suspects is None
        with database.transaction() as session:
            assert suspects.stale(session) == ["ds_old"]  # they are looked for now

"""A key makes one thing, however often and however closely together its request comes."""

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import func, select

from service.errors import Conflict
from service.records import datasets, idempotency, jobs
from service.records.database import Database
from service.records.idempotency import REMEMBERED_SECONDS, Once, once
from service.records.tables import Dataset, Job

ASKED = Once("key_a", "first", "0" * 64)
SPEC = {"family": "gan", "name": "one", "dataset": "digits", "seed": 1}


def make(database: Database, asked: Once | None, now: datetime | None = None) -> str:
    with database.transaction() as session:
        made: Job = once(
            session,
            asked,
            lambda: jobs.create(session, SPEC, [], 10),
            lambda job_id: jobs.get(session, job_id),
            now,
        )
        return made.id


def count(database: Database) -> int:
    with database.read() as session:
        return len(jobs.page(session, 100).items)


def test_the_same_request_makes_one_thing(database: Database) -> None:
    first = make(database, ASKED)
    assert make(database, ASKED) == first
    assert make(database, None) != make(database, None), "without a key each is new"
    assert make(database, ASKED._replace(key="second")) != first
    assert make(database, ASKED._replace(caller="key_b")) != first, "another's key is another key"
    with pytest.raises(Conflict) as refused:
        make(database, ASKED._replace(request="1" * 64))
    assert refused.value.code == "idempotency_key_reused"
    assert count(database) == 5


def test_what_fails_leaves_the_key_free(database: Database) -> None:
    """Breaks when the key is stored apart from what it makes: the retry would be answered with nothing."""

    def fail() -> Job:
        raise RuntimeError("the process dies here")

    with pytest.raises(RuntimeError), database.transaction() as session:
        once(session, ASKED, fail, lambda job_id: jobs.get(session, job_id))
    assert make(database, ASKED) == make(database, ASKED)
    assert count(database) == 1


def test_requests_at_the_same_moment_make_one_thing(database: Database) -> None:
    """A client that gave up waiting repeats a request whose first copy is still being stored."""
    together, made = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        made.append(make(database, ASKED))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == count(database) == 1


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_key_is_new_after_a_day(
    database: Database, at: Callable[[float], datetime], forgotten: bool
) -> None:
    first = make(database, ASKED, at(0))
    assert make(database, ASKED, at(REMEMBERED_SECONDS - 1)) == first
    if forgotten:
        with database.transaction() as session:
            idempotency.forget(session, at(REMEMBERED_SECONDS + 1))
    second = make(database, ASKED._replace(request="1" * 64), at(REMEMBERED_SECONDS + 1))
    assert second != first
    assert make(database, ASKED._replace(request="1" * 64), at(REMEMBERED_SECONDS + 2)) == second


def test_a_key_whose_thing_is_gone_makes_nothing_anew(database: Database) -> None:
    """Breaks when a repeat is told of a thing that it never named, or makes what somebody has deleted."""

    def ask(asked: Once) -> str:
        with database.transaction() as session:
            made: Dataset = once(
                session,
                asked,
                lambda: datasets.create(session, "shapes"),
                lambda dataset_id: datasets.get(session, dataset_id),
            )
            return made.id

    first = ask(ASKED)
    with database.transaction() as session:
        datasets.delete(session, first)
    for _ in range(2):
        with pytest.raises(Conflict, match=first) as refused:
            ask(ASKED)
        assert (refused.value.code, refused.value.param) == ("idempotency_key_spent", "Idempotency-Key")
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0
    with pytest.raises(Conflict) as reused:
        ask(ASKED._replace(request="1" * 64))
    assert reused.value.code == "idempotency_key_reused", "another request is told that first"
    assert ask(ASKED._replace(key="second")) != first

"""The search for wrong labels is one worker's, is rung for again when it is lost, and ends by itself."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from service.records import datasets, suspects
from service.records.database import Database
from service.records.tables import Dataset

SUSPECT = {"index": 3, "name": "cat/3.png", "given": "cat", "likely": "dog", "confidence": 0.99}


@pytest.fixture
def new_ready(database: Database) -> Callable[..., str]:
    """A ready set of these classes, committed."""

    def make(*classes: str) -> str:
        with database.transaction() as session:
            dataset_id = datasets.create(session, "pets").id
            datasets.claim(session, dataset_id, "w1")
            facts: dict[str, Any] = {"count": 80, "channels": 3, "resolution": 32, "content_hash": "0" * 64}
            counts = dict.fromkeys(classes, 40)
            assert datasets.ready(session, dataset_id, 1, classes=counts, mean=[0], std=[1], **facts)
        return dataset_id

    return make


def test_a_set_of_two_classes_is_searched_once(database: Database, new_ready: Callable[..., str]) -> None:
    dataset_id = new_ready("cat", "dog")
    with database.transaction() as session:
        assert datasets.get(session, dataset_id).suspects is None
        assert suspects.claim(session, dataset_id, "w1")
        assert not suspects.claim(session, dataset_id, "w2")
        assert suspects.renew(session, dataset_id)
        assert suspects.found(session, dataset_id, [SUSPECT])
        assert not suspects.found(session, dataset_id, [])
        assert not suspects.renew(session, dataset_id)
        assert not suspects.claim(session, dataset_id, "w2")
    with database.read() as session:
        row = datasets.get(session, dataset_id)
    assert (row.suspects, row.suspects_count) == ([SUSPECT], 1)


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_where_no_label_can_be_wrong_nothing_is_searched(
    database: Database, new_ready: Callable[..., str], classes: tuple[str, ...]
) -> None:
    dataset_id = new_ready(*classes)
    with database.transaction() as session:
        row = datasets.get(session, dataset_id)
        assert (row.suspects, row.suspects_count) == ([], 0)
        assert not suspects.claim(session, dataset_id, "w1")


def test_a_built_in_set_is_left_alone(database: Database, at: Any) -> None:
    """Breaks when every new service spends its first minutes on Fashion-MNIST, whose labels nobody mends."""
    with database.transaction() as session:
        datasets.ensure_builtins(session)
        session.execute(update(Dataset).values(status="ready"))
        assert suspects.stale(session, now=at(0)) == []
        assert not suspects.claim(session, "fashion-mnist", "w1")


def test_more_than_a_record_holds_are_counted(database: Database, new_ready: Callable[..., str]) -> None:
    dataset_id = new_ready("cat", "dog")
    with database.transaction() as session:
        suspects.found(session, dataset_id, [SUSPECT] * (suspects.MOST + 5))
        row = datasets.get(session, dataset_id)
    assert row.suspects is not None
    assert (len(row.suspects), row.suspects_count) == (suspects.MOST, suspects.MOST + 5)


def test_a_lost_search_is_rung_for_again_one_at_a_time(
    database: Database, new_ready: Callable[..., str], at: Any
) -> None:
    """The message of a second one would make the first give way, and that of the first the second."""
    first, second = new_ready("cat", "dog"), new_ready("cat", "dog")
    with database.transaction() as session:
        assert suspects.stale(session) == []  # their message was sent a moment ago
        assert suspects.stale(session, now=at(0)) == [first]
        assert suspects.claim(session, first, "w1", now=at(1))
        assert suspects.stale(session, now=at(2)) == []
        lost = at(1 + datasets.LEASE_SECONDS + 1)
        assert suspects.stale(session, now=lost) == [second]
        assert suspects.stale(session, now=lost) == [first]
        assert suspects.stale(session, now=lost) == []


def test_a_search_that_kills_its_workers_ends(
    database: Database, new_ready: Callable[..., str], at: Any
) -> None:
    """Breaks when a set that needs more memory than there is takes the preparing worker down for ever."""
    dataset_id = new_ready("cat", "dog")
    with database.transaction() as session:
        claims = [suspects.claim(session, dataset_id, "w", now=at(1000 * number)) for number in range(5)]
        assert claims == [True] * datasets.MAX_ATTEMPTS + [False] * (5 - datasets.MAX_ATTEMPTS)
        assert suspects.stale(session, now=at(9000)) == []


def test_giving_way_is_no_attempt(database: Database, new_ready: Callable[..., str], at: Any) -> None:
    """Breaks when a busy service is never told of its suspects."""
    dataset_id = new_ready("cat", "dog")
    with database.transaction() as session:
        for number in range(2 * datasets.MAX_ATTEMPTS):
            assert suspects.claim(session, dataset_id, "w", now=at(100 * number))
            assert suspects.put_off(session, dataset_id, now=at(100 * number + 1))
            assert suspects.stale(session, now=at(100 * number + 2)) == []
            assert suspects.stale(session, now=at(100 * number + 50)) == [dataset_id]


def test_nobody_wants_the_suspects_of_a_deleted_set(
    database: Database, new_ready: Callable[..., str]
) -> None:
    dataset_id = new_ready("cat", "dog")
    with database.transaction() as session:
        assert suspects.claim(session, dataset_id, "w1")
        datasets.delete(session, dataset_id)
        assert not suspects.renew(session, dataset_id)
        assert not suspects.put_off(session, dataset_id)
        assert not suspects.found(session, dataset_id, [SUSPECT])

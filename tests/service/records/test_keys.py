"""API keys are random, shown once, stored as a hash, and hold only until they expire or are revoked."""

import threading

import pytest
from sqlalchemy import text

from service.errors import Invalid
from service.records import keys
from service.records.database import Database

GIVEN = "a-secret-that-an-operator-has-chosen"


def test_a_key_is_known_by_its_secret_alone(database: Database) -> None:
    with database.transaction() as session:
        key, secret = keys.create(session, "laptop", scopes=["jobs"])
    with database.read() as session:
        found = keys.verify(session, secret)
        assert found is not None
        assert (found.id, found.name, found.scopes) == (key.id, "laptop", ["jobs"])
        for wrong in ("", secret[:-1], secret + "x", key.id, key.sha256, "\ud800", "a\x00b"):
            assert keys.verify(session, wrong) is None


def test_the_secret_is_long_and_stored_nowhere(database: Database) -> None:
    with database.transaction() as session:
        secrets = {keys.create(session, "laptop")[1] for _ in range(20)}
        stored = str(session.execute(text("SELECT * FROM api_keys")).all())
    assert len(secrets) == 20
    assert all(secret.startswith("atl_") and len(secret) >= 47 for secret in secrets)
    assert not any(secret in stored or secret[4:] in stored for secret in secrets)


def test_a_key_ends_when_it_expires_or_is_revoked(database: Database, at) -> None:
    with database.transaction() as session:
        _, expiring = keys.create(session, "short", expires_at=at(10))
        revoked, secret = keys.create(session, "gone")
        revoked.revoked_at = at(0)
    with database.read() as session:
        assert keys.verify(session, expiring, now=at(9)) is not None
        assert keys.verify(session, expiring, now=at(10)) is None
        assert keys.verify(session, secret) is None


def test_of_several_first_starts_one_makes_the_key(database: Database) -> None:
    made: list[bool] = []

    def start() -> None:
        with database.transaction() as session:
            made.append(keys.ensure_admin(session, GIVEN))

    starting = [threading.Thread(target=start) for _ in range(4)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    with database.read() as session:
        assert keys.verify(session, GIVEN) is not None


def test_the_key_an_operator_gives_is_accepted_beside_others(database: Database) -> None:
    with database.transaction() as session:
        _, other = keys.create(session, "first")
        assert keys.ensure_admin(session, GIVEN)
        assert not keys.ensure_admin(session, GIVEN)
    with database.read() as session:
        assert keys.verify(session, other) is not None
        assert keys.verify(session, GIVEN) is not None


def test_a_key_that_could_be_guessed_is_refused_without_repeating_it(database: Database) -> None:
    with pytest.raises(Invalid, match="at least 32") as raised, database.transaction() as session:
        keys.ensure_admin(session, "hunter2")
    assert "hunter2" not in str(raised.value)

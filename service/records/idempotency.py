"""A request that comes twice makes one thing: its key is stored in the transaction that makes it."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.errors import Conflict, NotFound
from service.records.columns import Now, insert_into, instant, shifted
from service.records.tables import IdempotencyKey

REMEMBERED_SECONDS = 24 * 3600.0


class Once(NamedTuple):
    """Who asks, under which key, and the SHA-256 of all that the request says."""

    caller: str
    key: str
    request: str


class Made(Protocol):
    id: str


T = TypeVar("T", bound=Made)


def once(
    session: Session, asked: Once | None, make: Callable[[], T], find: Callable[[str], T], now: Now = None
) -> T:
    """What `make` makes, or what it made when the same request came before.

    Of two that come at the same time one waits for the other. `Conflict` where the key was another request's.
    """
    if asked is None:
        return make()
    if not _reserved(session, asked, now):
        return _found(find, _made_before(session, asked))
    made = make()
    session.execute(update(IdempotencyKey).where(*_is(asked)).values(made=made.id))
    return made


def forget(session: Session, now: Now = None) -> None:
    """Delete keys that are a day old."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < _day_before(now)))


def _reserved(session: Session, asked: Once, now: Now) -> bool:
    """Whether the key is new, or was forgotten: it is then this transaction's."""
    values = {"request": asked.request, "made": "", "created_at": instant(now)}
    insertion = insert_into(session, IdempotencyKey).values(caller=asked.caller, key=asked.key, **values)
    reserved = insertion.on_conflict_do_update(
        index_elements=["caller", "key"], set_=values, where=IdempotencyKey.created_at < _day_before(now)
    ).returning(IdempotencyKey.key)
    return session.scalar(reserved) is not None


def _made_before(session: Session, asked: Once) -> str:
    stored = session.execute(select(IdempotencyKey.request, IdempotencyKey.made).where(*_is(asked))).one()
    if stored.request != asked.request:
        raise Conflict(
            "idempotency_key_reused",
            f"The Idempotency-Key {asked.key!r} came with another request within the last 24 hours.",
            hint="Send a new key with each new request; repeat a request unchanged, with its own key.",
            param="Idempotency-Key",
        )
    return str(stored.made)


def _found(find: Callable[[str], T], made: str) -> T:
    try:
        return find(made)
    except NotFound as error:
        raise Conflict(
            "idempotency_key_spent",
            f"The request that came with this Idempotency-Key made {made}, which is not there any more.",
            hint="Send it with a new key to have it made again.",
            param="Idempotency-Key",
        ) from error


def _is(asked: Once) -> tuple[ColumnElement[bool], ...]:
    return IdempotencyKey.caller == asked.caller, IdempotencyKey.key == asked.key


def _day_before(now: Now) -> ColumnElement[datetime]:
    return shifted(instant(now), -REMEMBERED_SECONDS)

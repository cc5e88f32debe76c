"""Files that are no longer wanted: named in the transaction that gives them up, and deleted after it.

A crash in between leaves the name here, for the next look, and never a row without its file.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.records.tables import Unwanted


def add(session: Session, prefix: str) -> None:
    """The artifact of this key, or all below it, is to be deleted."""
    if session.get(Unwanted, prefix) is None:
        session.add(Unwanted(prefix=prefix))
        session.flush()


def oldest(session: Session, limit: int = 100) -> Sequence[str]:
    """What to delete next; say so by `forget` once it is gone."""
    query = select(Unwanted.prefix).order_by(Unwanted.created_at, Unwanted.prefix).limit(limit)
    return session.scalars(query).all()


def forget(session: Session, prefixes: Collection[str]) -> None:
    session.execute(delete(Unwanted).where(Unwanted.prefix.in_(prefixes)))

"""Files that are no longer wanted: named in the transaction that gives them up, and deleted after it.

A crash in between leaves the name here, for the next look, and never a row without its file.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.records.tables import Checkpoint, Sample, Unwanted


def add(session: Session, *prefixes: str) -> None:
    """The artifacts of these keys, or all below them, are to be deleted."""
    if not prefixes:
        return
    named = set(session.scalars(select(Unwanted.prefix).where(Unwanted.prefix.in_(prefixes))))
    session.add_all(Unwanted(prefix=prefix) for prefix in dict.fromkeys(prefixes) if prefix not in named)
    session.flush()


def wanted(session: Session, job_id: str) -> set[str]:
    """The prefixes of a job's files that rows name: folders of checkpoints, and pictures."""
    kept = select(Checkpoint.artifact).where(Checkpoint.job_id == job_id, Checkpoint.deleted_at.is_(None))
    pictures = select(Sample.artifact).where(Sample.job_id == job_id)
    return {key.rpartition("/")[0] for key in session.scalars(kept)} | set(session.scalars(pictures))


AT_ONCE = 100


def oldest(session: Session, limit: int = AT_ONCE) -> Sequence[str]:
    """What to delete next; say so by `forget` once it is gone."""
    query = select(Unwanted.prefix).order_by(Unwanted.created_at, Unwanted.prefix).limit(limit)
    return session.scalars(query).all()


def forget(session: Session, prefixes: Collection[str]) -> None:
    session.execute(delete(Unwanted).where(Unwanted.prefix.in_(prefixes)))

"""Label suspects of datasets: who looks for them, and what was found."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, null, or_, select, update
from sqlalchemy.orm import Session

from service.records.columns import Now, instant, shifted
from service.records.datasets import LEASE_SECONDS, MAX_ATTEMPTS, REPUBLISH_SECONDS
from service.records.status import DatasetStatus
from service.records.tables import Dataset

MOST = 1000
"""Suspects of a dataset that its record keeps, the surest ones; it counts all."""

_CORE = {"synchronize_session": False, "populate_existing": True}
_WANTED: tuple[ColumnElement[bool], ...] = (
    Dataset.status == DatasetStatus.READY,
    Dataset.suspects.is_(null()),
)


def claim(session: Session, dataset_id: str, worker: str, now: Now = None) -> bool:
    """Makes the search this worker's; False if it is done, another's, or not to be made.

    Two who search find the same, so the lease spares work and fences nobody out.
    """
    moment = instant(now)
    values = {
        "worker": worker,
        "lease_expires_at": shifted(moment, LEASE_SECONDS),
        "suspects_attempts": Dataset.suspects_attempts + 1,
    }
    return _changed(session, dataset_id, _unsearched(moment), values)


def renew(session: Session, dataset_id: str, now: Now = None) -> bool:
    """Extends the lease of the search; False: nobody wants its result any more."""
    return _changed(session, dataset_id, _WANTED, {"lease_expires_at": shifted(instant(now), LEASE_SECONDS)})


def put_off(session: Session, dataset_id: str, now: Now = None) -> bool:
    """Leaves the search for later, as if it had not begun; False: nobody wants its result any more."""
    values = {
        "lease_expires_at": None,
        "published_at": instant(now),
        "suspects_attempts": Dataset.suspects_attempts - 1,
    }
    return _changed(session, dataset_id, _WANTED, values)


def found(session: Session, dataset_id: str, suspects: Sequence[Mapping[str, Any]]) -> bool:
    """Records what was found, surest first; False: nobody wants it any more."""
    values = {
        "suspects": [dict(suspect) for suspect in suspects[:MOST]],
        "suspects_count": len(suspects),
        "lease_expires_at": None,
    }
    return _changed(session, dataset_id, _WANTED, values)


def stale(session: Session, now: Now = None) -> list[str]:
    """The dataset that has waited longest for a search, to be published; none while another is searched.

    One at a time: the message of the next would otherwise make the search that goes on give way to it.
    """
    moment = instant(now)
    searched = (Dataset.status == DatasetStatus.READY, Dataset.lease_expires_at >= moment)
    if session.scalar(select(Dataset.id).where(*searched).limit(1)) is not None:
        return []
    due = (*_unsearched(moment), Dataset.published_at < shifted(moment, -REPUBLISH_SECONDS))
    longest = select(Dataset.id).where(*due).order_by(Dataset.published_at, Dataset.id).limit(1)
    published = update(Dataset).where(Dataset.id == longest.scalar_subquery(), *due)
    return list(
        session.scalars(published.values(published_at=moment).returning(Dataset.id), execution_options=_CORE)
    )


def _unsearched(moment: ColumnElement[datetime]) -> tuple[ColumnElement[bool], ...]:
    """Uploaded datasets whose suspects are neither known nor looked for, nor were looked for in vain."""
    return (
        *_WANTED,
        Dataset.builtin.is_(False),
        Dataset.suspects_attempts < MAX_ATTEMPTS,
        or_(Dataset.lease_expires_at.is_(None), Dataset.lease_expires_at < moment),
    )


def _changed(
    session: Session, dataset_id: str, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]
) -> bool:
    changed = update(Dataset).where(Dataset.id == dataset_id, *where).values(**values)
    return session.scalar(changed.returning(Dataset.id), execution_options=_CORE) is not None

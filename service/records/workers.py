"""The workers that run: each tells of itself every few seconds, and is forgotten when it does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from service.records.columns import Now, insert_into, instant, shifted
from service.records.status import HELD, DatasetStatus, JobStatus, RequestStatus
from service.records.tables import Dataset, Evaluation, ImageBatch, Job, Worker

TELLS_EVERY = 5.0  # seconds
GONE_AFTER = 20.0


def tell(
    session: Session,
    name: str,
    queues: Sequence[str],
    device: str,
    warm: Sequence[Mapping[str, Any]] = (),
    now: Now = None,
) -> None:
    """Of the worker `name`: which queues it serves, on what, and which checkpoints it has in memory."""
    moment = instant(now)
    said = {"queues": list(queues), "device": device, "warm": [dict(one) for one in warm], "seen_at": moment}
    told = insert_into(session, Worker).values(name=name, started_at=moment, **said)
    session.execute(told.on_conflict_do_update(index_elements=[Worker.name], set_=said))


def alive(session: Session, now: Now = None) -> Sequence[Worker]:
    """Those that were heard of lately, by name."""
    lately = shifted(instant(now), -GONE_AFTER)
    return session.scalars(select(Worker).where(Worker.seen_at > lately).order_by(Worker.name)).all()


def trainings(session: Session, names: Sequence[str]) -> dict[str, str]:
    """The job that each of these workers trains, where it trains one."""
    held = select(Job.worker, Job.id).where(Job.worker.in_(names), Job.status.in_(HELD))
    return {str(worker): job_id for worker, job_id in session.execute(held)}


def waiting(session: Session) -> dict[str, int]:
    """How much waits for each kind of worker: jobs; batches of images; datasets and evaluations."""

    def count(state: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count()).where(state)) or 0

    return {
        "train": count(Job.status == JobStatus.QUEUED),
        "sample": count(ImageBatch.status == RequestStatus.QUEUED),
        "prepare": count((Dataset.status == DatasetStatus.PENDING) & Dataset.lease_expires_at.is_(None))
        + count(Evaluation.status == RequestStatus.QUEUED),
    }


def leave(session: Session, name: str) -> None:
    session.execute(delete(Worker).where(Worker.name == name))


def forget(session: Session, now: Now = None) -> None:
    """Delete the rows of workers that have gone without a word."""
    session.execute(delete(Worker).where(Worker.seen_at < shifted(instant(now), -10 * GONE_AFTER)))

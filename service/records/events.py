"""What happened to a job, in order, written in the transaction that made it happen."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records.ids import plausible
from service.records.pages import Page, newest_first
from service.records.tables import JobEvent

Level = Literal["info", "warning", "error"]


class EventType(StrEnum):
    QUEUED = "job.queued"
    STARTED = "job.started"
    RESUMED = "job.resumed"
    REQUEUED = "job.requeued"
    PAUSED = "job.paused"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    CHECKPOINT = "checkpoint.saved"
    SAMPLE = "sample.saved"
    CLASSIFIER = "classifier.trained"
    EVALUATION = "evaluation.done"
    ALERT = "alert"


def add(
    session: Session,
    job_id: str,
    kind: EventType | str,
    message: str,
    *,
    level: Level = "info",
    step: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> JobEvent:
    """Adds an event; a worker first makes sure by `jobs.fence` that the job is still its own.

    `step` ties it to a point of the training: a later attempt that starts before that point deletes it.
    """
    event = JobEvent(
        job_id=job_id,
        type=EventType(kind).value,
        message=message,
        level=level,
        step=step,
        data=dict(data or {}),
    )
    session.add(event)
    session.flush()
    return event


def get(session: Session, job_id: str, event_id: str) -> JobEvent:
    found = session.get(JobEvent, event_id) if plausible(event_id) else None
    if found is None or found.job_id != job_id:
        raise NotFound("event_not_found", f"The job {job_id!r} has no event {event_id!r}.", param="event_id")
    return found


def page(
    session: Session,
    job_id: str,
    limit: int = 20,
    after: str | None = None,
    *,
    types: Collection[EventType] | None = None,
    levels: Collection[Level] | None = None,
) -> Page[JobEvent]:
    """A job's events, newest first: all, or those of these types and levels."""
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    if types:
        query = query.where(JobEvent.type.in_([EventType(one).value for one in types]))
    if levels:
        query = query.where(JobEvent.level.in_(levels))
    return newest_first(session, query, JobEvent.id, limit, after)

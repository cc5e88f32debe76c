"""What happened to a job, in order, written in the transaction that made it happen."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.records.pages import Page, newest_first
from service.records.tables import JobEvent

Level = Literal["info", "warning", "error"]


class EventType(StrEnum):
    QUEUED = "job.queued"
    STARTED = "job.started"
    REQUEUED = "job.requeued"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    CHECKPOINT = "checkpoint.saved"
    SAMPLE = "sample.saved"
    EVALUATION = "evaluation.done"
    ALERT = "alert"


def add(
    session: Session,
    job_id: str,
    type: EventType | str,
    message: str,
    *,
    level: Level = "info",
    step: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> JobEvent:
    """Adds an event; a worker first makes sure by `jobs.fence` or `jobs.report` that the job is still its own.

    `step` ties it to a point of the training: a later attempt that starts before that point deletes it.
    """
    event = JobEvent(
        job_id=job_id,
        type=EventType(type).value,
        message=message,
        level=level,
        step=step,
        data=dict(data or {}),
    )
    session.add(event)
    session.flush()
    return event


def page(session: Session, job_id: str, limit: int = 20, after: str | None = None) -> Page[JobEvent]:
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    return newest_first(session, query, JobEvent.id, limit, after)

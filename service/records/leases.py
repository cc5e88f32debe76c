"""The lease on a running job: who may write to it, how it ends, and what happens when its holder vanishes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.orm import Session

from service.records import events
from service.records.columns import Now, instant, shifted
from service.records.events import EventType
from service.records.status import HELD, JobStatus
from service.records.tables import Job, JobEvent, Metric, Sample

LEASE_SECONDS = 15.0

_CORE = {"synchronize_session": False, "populate_existing": True}


def claim(session: Session, job_id: str, worker: str, now: Now = None) -> Job | None:
    """Makes the job this worker's for one lease, as its next attempt; None if it is not there to be taken.

    The attempt then says by `begin` where it starts.
    """
    moment = instant(now)
    job: Job | None = session.scalar(
        update(Job)
        .where(
            Job.id == job_id,
            Job.status == JobStatus.QUEUED,
            or_(Job.run_after.is_(None), Job.run_after <= moment),
        )
        .values(
            status=JobStatus.RUNNING,
            attempt=Job.attempt + 1,
            worker=worker,
            lease_expires_at=shifted(moment, LEASE_SECONDS),
            heartbeat_at=moment,
            started_at=case((Job.started_at.is_(None), moment), else_=Job.started_at),
            images_per_second=None,
            eta_seconds=None,
            run_after=None,
        )
        .returning(Job),
        execution_options=_CORE,
    )
    if job is None:
        return None
    events.add(
        session,
        job.id,
        EventType.STARTED,
        "A worker has taken the job.",
        data={"attempt": job.attempt, "worker": worker},
    )
    return job


def begin(session: Session, job_id: str, attempt: int, *, step: int, images: int) -> bool:
    """The attempt goes on behind `step`, 0 to start anew; False: it is no longer this attempt's.

    What earlier attempts recorded of later steps is deleted: this one records it again.
    """
    if not report(session, job_id, attempt, step=step, images=images):
        return False
    for table in (Metric, Sample, JobEvent):
        session.execute(
            delete(table).where(table.job_id == job_id, table.step > (step or -1)), execution_options=_CORE
        )
    if step:
        message = f"The job goes on from its checkpoint at step {step}."
        events.add(
            session,
            job_id,
            EventType.RESUMED,
            message,
            step=step,
            data={"attempt": attempt, "images": images},
        )
    return True


def renew(session: Session, job_id: str, attempt: int, now: Now = None) -> JobStatus | None:
    """Extends the lease; the status tells of a request to cancel or pause, and None that the job is lost."""
    moment = instant(now)
    return session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD))
        .values(lease_expires_at=shifted(moment, LEASE_SECONDS), heartbeat_at=moment)
        .returning(Job.status),
        execution_options=_CORE,
    )


def fence(session: Session, job_id: str, attempt: int) -> bool:
    """Whether the job is still this attempt's; if so, it stays so until the transaction ends."""
    held = select(Job.id).where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD))
    return session.scalar(held.with_for_update()) is not None


def report(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    step: int,
    images: int,
    images_per_second: float | None = None,
    eta_seconds: float | None = None,
    health: str | None = None,
) -> bool:
    """Records progress; False: the job is no longer this attempt's, and nothing was written."""
    values: dict[str, Any] = {
        "step": step,
        "images": images,
        "images_per_second": images_per_second,
        "eta_seconds": eta_seconds,
    }
    if health is not None:
        values["health"] = health
    return _write(session, job_id, attempt, values)


def set_resolved(
    session: Session,
    job_id: str,
    attempt: int,
    spec: Mapping[str, Any],
    *,
    steps: int | None = None,
    warnings: Sequence[str] | None = None,
) -> bool:
    """Writes the spec with what depends on the device (precision, memory format, threads); False: fenced."""
    values: dict[str, Any] = {"spec": dict(spec)}
    if steps is not None:
        values["total_steps"] = steps
    if warnings is not None:
        values["warnings"] = list(warnings)
    return _write(session, job_id, attempt, values)


def _write(session: Session, job_id: str, attempt: int, values: Mapping[str, Any]) -> bool:
    written = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD))
        .values(**values)
        .returning(Job.id),
        execution_options=_CORE,
    )
    return written is not None

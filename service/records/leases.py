"""The lease on a running job: who may write to it, how it ends, and what happens when its holder vanishes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, literal, null, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.records import events
from service.records.columns import Now, clock, instant, shifted
from service.records.events import EventType
from service.records.status import HELD, JobStatus, sources
from service.records.tables import Job, JobEvent, Metric, Sample

LEASE_SECONDS = 15.0
# A queued job whose message is older than this is published again: the message may be lost.
REPUBLISH_SECONDS = 15.0
MAX_LOST_LEASES = 3

_FINISHED: Mapping[JobStatus, tuple[EventType, events.Level, str]] = {
    JobStatus.SUCCEEDED: (EventType.SUCCEEDED, "info", "The job has succeeded."),
    JobStatus.FAILED: (EventType.FAILED, "error", "The job has failed."),
    JobStatus.CANCELLED: (EventType.CANCELLED, "info", "The job was cancelled."),
}
_CORE = {"synchronize_session": False, "populate_existing": True}


def claim(session: Session, job_id: str, worker: str, now: Now = None) -> Job | None:
    """Makes the job this worker's for one lease, as its next attempt; None if it is not there to be taken.

    What earlier attempts recorded beyond the step this one starts from is deleted.
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
            step=case((Job.resume_step.is_(None), 0), else_=Job.resume_step),
            images=case((Job.resume_step.is_(None), 0), else_=Job.images),
            images_per_second=None,
            eta_seconds=None,
            run_after=None,
        )
        .returning(Job),
        execution_options=_CORE,
    )
    if job is None:
        return None
    start = -1 if job.resume_step is None else job.resume_step
    for table in (Metric, Sample, JobEvent):
        session.execute(
            delete(table).where(table.job_id == job.id, table.step > start),
            execution_options=_CORE,
        )
    events.add(
        session,
        job.id,
        EventType.STARTED,
        "A worker has taken the job.",
        data={"attempt": job.attempt, "worker": worker, "step": job.step},
    )
    return job


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


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    status: JobStatus,
    error: Mapping[str, Any] | None = None,
    now: Now = None,
) -> bool:
    """Ends the job, with its event, once; False: it is no longer this attempt's, or cannot end like this.

    Where a cancel was requested the job ends `cancelled`, whatever `status` says.
    """
    if status not in _FINISHED:
        raise ValueError(f"A job finishes as one of {', '.join(_FINISHED)}, not as {status}.")
    cancelled = Job.status == JobStatus.CANCELLING
    job = session.scalar(
        update(Job)
        .where(
            Job.id == job_id,
            Job.attempt == attempt,
            Job.status.in_(HELD & (sources(status) | {JobStatus.CANCELLING})),
        )
        .values(
            status=case((cancelled, JobStatus.CANCELLED), else_=status),
            error=case(
                (cancelled, null()), else_=literal(None if error is None else dict(error), Job.error.type)
            ),
            finished_at=instant(now),
            lease_expires_at=None,
            eta_seconds=None,
        )
        .returning(Job),
        execution_options=_CORE,
    )
    if job is None:
        return False
    _add_finished_event(session, job)
    return True


def release(session: Session, job_id: str, attempt: int, reason: str = "Its worker was stopped.") -> bool:
    """Gives back a job that its worker must leave through no fault of the job; it counts as no failure."""
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD)).with_for_update(),
        execution_options=_CORE,
    )
    if job is None:
        return False
    if job.status == JobStatus.CANCELLING:
        return finish(session, job_id, attempt, JobStatus.CANCELLED)
    _requeue(session, job, reason, clock())
    return True


def expire(session: Session, now: Now = None) -> list[str]:
    """Recovers the jobs whose lease has run out; returns the ids that wait again, to be published at once.

    A job that was being cancelled is then cancelled, and one that has lost too many leases has failed.
    """
    moment = instant(now)
    lost = session.scalars(
        select(Job)
        .where(Job.status.in_(HELD), Job.lease_expires_at < moment)
        .order_by(Job.id)
        .with_for_update(skip_locked=True),
        execution_options=_CORE,
    ).all()
    requeued = []
    for job in lost:
        job.lost_leases += 1
        session.flush()
        if job.status == JobStatus.CANCELLING:
            finish(session, job.id, job.attempt, JobStatus.CANCELLED, now=now)
        elif job.lost_leases >= MAX_LOST_LEASES:
            finish(session, job.id, job.attempt, JobStatus.FAILED, _worker_lost(job), now=now)
        else:
            _requeue(
                session,
                job,
                f"Its worker {job.worker} has not been heard of since its lease ran out.",
                moment,
            )
            requeued.append(job.id)
    return requeued


def stale_queued(session: Session, now: Now = None) -> list[str]:
    """The queued jobs whose message may be lost, to be published again; each is returned once an interval."""
    moment = instant(now)
    return list(
        session.scalars(
            update(Job)
            .where(
                Job.status == JobStatus.QUEUED,
                Job.published_at < shifted(moment, -REPUBLISH_SECONDS),
                or_(Job.run_after.is_(None), Job.run_after <= moment),
            )
            .values(published_at=moment)
            .returning(Job.id),
            execution_options=_CORE,
        )
    )


def _requeue(session: Session, job: Job, reason: str, moment: ColumnElement[datetime]) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(status=JobStatus.QUEUED, lease_expires_at=None, published_at=moment, eta_seconds=None),
        execution_options=_CORE,
    )
    session.refresh(job)
    events.add(
        session,
        job.id,
        EventType.REQUEUED,
        f"The job waits for a worker again. {reason}",
        level="warning",
        data={"attempt": job.attempt, "worker": job.worker, "lost_leases": job.lost_leases},
    )


def _add_finished_event(session: Session, job: Job) -> None:
    type_, level, message = _FINISHED[job.status]
    if job.status == JobStatus.FAILED and job.error is not None:
        message = str(job.error.get("message") or message)
    events.add(
        session, job.id, type_, message, level=level, data={"attempt": job.attempt, "error": job.error}
    )


def _worker_lost(job: Job) -> dict[str, str]:
    return {
        "code": "worker_lost",
        "message": f"The worker of this job vanished {job.lost_leases} times.",
        "hint": "The job may need more memory than a worker has: read the workers' logs, or lower batch_size "
        "or data.resolution, and submit it again.",
    }


def _write(session: Session, job_id: str, attempt: int, values: Mapping[str, Any]) -> bool:
    written = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD))
        .values(**values)
        .returning(Job.id),
        execution_options=_CORE,
    )
    return written is not None

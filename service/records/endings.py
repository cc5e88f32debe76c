"""How an attempt at a job ends, and what becomes of jobs whose worker or message was lost."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, literal, null, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.records import events
from service.records.checkpoints import NEWEST_FIRST
from service.records.columns import Now, clock, instant, shifted
from service.records.events import EventType
from service.records.status import HELD, TERMINAL, JobStatus, sources
from service.records.tables import Checkpoint, Job

# A queued job whose message is older than this is published again: the message may be lost.
REPUBLISH_SECONDS = 15.0
# Without a new checkpoint in between.
MAX_LOST_LEASES = 10
MAX_CRASHES = 3
LONGEST_BACKOFF = 60.0  # seconds

_FINISHED: Mapping[JobStatus, tuple[EventType, events.Level, str]] = {
    JobStatus.SUCCEEDED: (EventType.SUCCEEDED, "info", "The job has succeeded."),
    JobStatus.FAILED: (EventType.FAILED, "error", "The job has failed."),
    JobStatus.CANCELLED: (EventType.CANCELLED, "info", "The job was cancelled."),
    JobStatus.PAUSED: (EventType.PAUSED, "info", "The job is paused, and goes on when it is resumed."),
}
_ASKED = {JobStatus.CANCELLING: JobStatus.CANCELLED, JobStatus.PAUSING: JobStatus.PAUSED}
_CORE = {"synchronize_session": False, "populate_existing": True}


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    status: JobStatus,
    error: Mapping[str, Any] | None = None,
    now: Now = None,
) -> bool:
    """Ends or pauses the job, with its event, once; False: it is not this attempt's, or cannot end like this.

    Where a cancel was requested the job ends `cancelled`, whatever `status` says.
    """
    if status not in _FINISHED:
        raise ValueError(f"A job finishes as one of {', '.join(_FINISHED)}, not as {status}.")
    cancelled, moment = Job.status == JobStatus.CANCELLING, instant(now)
    if error is not None:
        error = {**_reached(session, job_id), **error}  # whose step, if it knows one, was not told before
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
            finished_at=case((cancelled, moment), else_=moment if status in TERMINAL else null()),
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


def release(
    session: Session,
    job_id: str,
    attempt: int,
    reason: str = "Its worker was stopped.",
    wait: float = 0.0,
) -> bool:
    """Gives back a job that its worker must leave through no fault of the job; it counts as no failure.

    It is not taken again before `wait` seconds have passed.
    """
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    if job.status in _ASKED:
        return finish(session, job_id, attempt, _ASKED[job.status])
    _requeue(session, job, reason, clock(), wait)
    return True


def crashed(session: Session, job_id: str, attempt: int, error: Mapping[str, Any], now: Now = None) -> bool:
    """Its trainer died without a last word: the job waits again, and has failed the third time in a row.

    A new checkpoint begins the count anew. False: it is no longer this attempt's.
    """
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    if job.status in _ASKED:
        return finish(session, job_id, attempt, _ASKED[job.status], now=now)
    job.failures += 1
    session.flush()
    if job.failures >= MAX_CRASHES:
        return finish(session, job_id, attempt, JobStatus.FAILED, error, now=now)
    reason = str(error["message"]).partition("\n")[0]
    _requeue(session, job, reason, instant(now), backoff(job.failures))
    return True


def expire(session: Session, now: Now = None) -> list[str]:
    """Recovers the jobs whose lease has run out; returns the ids that wait again, to be published at once.

    A job that was being cancelled or paused then is, and one that has lost too many leases has failed.
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
        if job.status in _ASKED:
            finish(session, job.id, job.attempt, _ASKED[job.status], now=now)
        elif job.lost_leases >= MAX_LOST_LEASES:
            finish(session, job.id, job.attempt, JobStatus.FAILED, _worker_lost(job), now=now)
        else:
            _requeue(
                session,
                job,
                f"Its worker {job.worker} has not been heard of since its lease ran out.",
                moment,
                backoff(job.lost_leases),
            )
            requeued.append(job.id)
    return requeued


def next_due(session: Session) -> float | None:
    """Seconds by the database's clock until `expire` or `stale_queued` finds a job, if nothing else comes."""
    ends = select(func.min(Job.lease_expires_at)).where(Job.status.in_(HELD)).scalar_subquery()
    published = select(func.min(Job.published_at)).where(Job.status == JobStatus.QUEUED).scalar_subquery()
    lease_ends, last_rung, now = session.execute(select(ends, published, clock())).one()
    again = None if last_rung is None else last_rung + timedelta(seconds=REPUBLISH_SECONDS)
    return min(((due - now).total_seconds() for due in (lease_ends, again) if due), default=None)


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


def _reached(session: Session, job_id: str) -> dict[str, Any]:
    """How far a job has come: its step, and its newest checkpoint."""
    newest = (
        select(Checkpoint.id)
        .where(Checkpoint.job_id == job_id, Checkpoint.deleted_at.is_(None))
        .order_by(*NEWEST_FIRST)
        .limit(1)
    )
    step = session.scalar(select(Job.step).where(Job.id == job_id))
    return {"step": step, "checkpoint_id": session.scalar(newest)}


def _held(session: Session, job_id: str, attempt: int) -> Job | None:
    """The job, if it is still this attempt's; it then stays so until the transaction ends."""
    held = select(Job).where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(HELD))
    return session.scalar(held.with_for_update(), execution_options=_CORE)


def backoff(times: int) -> float:
    """Seconds before the next try: none the first time, then one, two, four, and so on."""
    return min(2.0 ** (times - 2), LONGEST_BACKOFF) if times > 1 else 0.0


def _requeue(session: Session, job: Job, reason: str, moment: ColumnElement[datetime], wait: float) -> None:
    """The job waits again, for `wait` seconds and then for nobody but a worker."""
    session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(
            status=JobStatus.QUEUED,
            lease_expires_at=None,
            eta_seconds=None,
            run_after=shifted(moment, wait) if wait else None,
            # Published anew as soon as it may run.
            published_at=shifted(moment, wait - REPUBLISH_SECONDS) if wait else moment,
        ),
        execution_options=_CORE,
    )
    session.refresh(job)
    events.add(
        session,
        job.id,
        EventType.REQUEUED,
        f"The job waits for a worker again. {reason}",
        level="warning",
        data={
            "attempt": job.attempt,
            "worker": job.worker,
            "lost_leases": job.lost_leases,
            "crashes": job.failures,
        },
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

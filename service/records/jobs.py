"""Training jobs: created and cancelled by the API; what their workers do to them is in `leases`."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import String, cast, null, or_, select, update
from sqlalchemy.orm import Session

from service.errors import Conflict, Invalid, NotFound
from service.records import events
from service.records.columns import Now, instant, storable
from service.records.endings import crashed, expire, finish, release, stale_queued
from service.records.events import EventType
from service.records.ids import plausible
from service.records.leases import begin, claim, fence, renew, report, set_resolved
from service.records.pages import Page, newest_first
from service.records.status import TERMINAL, DatasetStatus, JobStatus, allowed
from service.records.tables import Dataset, Job

__all__ = [
    "begin",
    "claim",
    "crashed",
    "create",
    "expire",
    "fence",
    "finish",
    "get",
    "longest_waiting",
    "page",
    "release",
    "renew",
    "report",
    "request_cancel",
    "set_resolved",
    "stale_queued",
]


def create(session: Session, spec: Mapping[str, Any], warnings: Sequence[str], steps: int) -> Job:
    """A new queued job for a resolved spec; publish its id after the transaction has committed.

    Each warning is an event, too.
    """
    job = Job(
        name=str(spec.get("name") or spec.get("preset") or spec["family"]),
        spec=dict(spec),
        preset=spec.get("preset"),
        dataset=str(spec["dataset"]),
        seed=int(spec["seed"]),
        metadata_=dict(spec.get("metadata") or {}),
        warnings=list(warnings),
        total_steps=steps,
    )
    session.add(job)
    session.flush()
    events.add(session, job.id, EventType.QUEUED, "The job waits for a worker.")
    for warning in warnings:
        events.add(session, job.id, EventType.ALERT, warning, level="warning")
    return job


def get(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """The job, or `NotFound`. `lock` keeps others from changing it until the transaction ends."""
    job = None
    if plausible(job_id):
        job = session.get(Job, job_id, with_for_update=lock or None, populate_existing=lock)
    if job is None:
        raise NotFound(
            "job_not_found",
            f"There is no job {job_id!r}.",
            hint="GET /v1/jobs lists the jobs.",
            param="job_id",
        )
    return job


def page(
    session: Session,
    limit: int = 20,
    after: str | None = None,
    *,
    status: JobStatus | Sequence[JobStatus] | None = None,
    dataset: str | None = None,
    preset: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Page[Job]:
    query = select(Job)
    if status is not None:
        query = query.where(Job.status.in_([status] if isinstance(status, JobStatus) else list(status)))
    if dataset is not None:
        query = query.where(Job.dataset == dataset)
    if preset is not None:
        query = query.where(Job.preset == preset)
    for key, value in (metadata or {}).items():
        if '"' in key or "\\" in key or "\x00" in key:
            raise Invalid(
                "bad_metadata_key",
                f"The metadata key {key!r} holds a quote, a backslash or NUL, which cannot be searched for.",
                hint="Filter by another key.",
                param="metadata",
            )
        query = query.where(cast(Job.metadata_[key].as_string(), String) == storable(value))
    return newest_first(session, query, Job.id, limit, after)


def longest_waiting(session: Session, now: Now = None) -> str | None:
    """The queued job that a worker should take next; those whose dataset is not prepared yet do not count."""
    return session.scalar(
        select(Job.id)
        .outerjoin(Dataset, Dataset.id == Job.dataset)
        .where(
            Job.status == JobStatus.QUEUED,
            or_(Job.run_after.is_(None), Job.run_after <= instant(now)),
            or_(Dataset.id.is_(None), Dataset.status != DatasetStatus.PENDING),
        )
        .order_by(Job.id)
        .limit(1)
    )


def request_cancel(session: Session, job_id: str, now: Now = None) -> Job:
    """Cancels a waiting job at once, asks a running one to stop, and is `Conflict` for one that is over."""
    job = get(session, job_id, lock=True)
    if job.status == JobStatus.CANCELLING:
        return job
    after = JobStatus.CANCELLED if allowed(job.status, JobStatus.CANCELLED) else JobStatus.CANCELLING
    if job.status in TERMINAL or not allowed(job.status, after):
        raise Conflict(
            "job_not_cancellable",
            f"The job is {job.status.value}; only one that is not yet over can be cancelled.",
            hint="Nothing needs to be done.",
        )
    values: dict[str, Any] = {"status": after, "cancel_requested_at": instant(now)}
    if after == JobStatus.CANCELLED:
        values["finished_at"] = instant(now)
    _changed(session, job, **values)
    if after == JobStatus.CANCELLED:
        how = "while it waited" if job.attempt else "before it had started"
        events.add(session, job.id, EventType.CANCELLED, f"The job was cancelled {how}.")
    return job


def request_pause(session: Session, job_id: str, now: Now = None) -> Job:
    """Asks a running job to save a checkpoint and stop; `Conflict` for one that does not run."""
    job = get(session, job_id, lock=True)
    if job.status == JobStatus.PAUSING:
        return job
    if not allowed(job.status, JobStatus.PAUSING):
        raise Conflict(
            "job_not_pausable",
            f"The job is {job.status.value}; only a running one can be paused.",
            hint="One that waits, or will not be wanted again, can be cancelled; both can be resumed later.",
        )
    return _changed(session, job, status=JobStatus.PAUSING, pause_requested_at=instant(now))


def request_resume(session: Session, job_id: str, now: Now = None) -> Job:
    """Lets a paused, failed or cancelled job wait for a worker again; publish its id after the commit.

    It goes on from its last checkpoint, with as many tries as a new one.
    """
    job = get(session, job_id, lock=True)
    if job.status not in (JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED):
        raise Conflict(
            "job_not_resumable",
            f"The job is {job.status.value}; only a paused, failed or cancelled one can be resumed.",
            hint="A job that has succeeded can be trained for longer as a new one, with a larger budget.",
        )
    message = f"The job was {job.status.value}, and was asked to go on. It waits for a worker."
    events.add(session, job.id, EventType.QUEUED, message)
    forgotten = ("error", "finished_at", "run_after", "cancel_requested_at", "pause_requested_at")
    return _changed(
        session,
        job,
        status=JobStatus.QUEUED,
        published_at=instant(now),
        failures=0,
        lost_leases=0,
        **dict.fromkeys(forgotten, null()),
    )


def _changed(session: Session, job: Job, **values: Any) -> Job:
    session.execute(
        update(Job).where(Job.id == job.id).values(**values), execution_options={"synchronize_session": False}
    )
    session.refresh(job)
    return job

"""The grids of images that a job makes while it trains; each is named by its step."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records import events
from service.records.events import EventType
from service.records.ids import plausible
from service.records.leases import fence
from service.records.tables import Sample


def add(session: Session, job_id: str, *, attempt: int, step: int, images: int, artifact: str) -> bool:
    """Records a stored grid, with its event; False: the job is no longer this attempt's."""
    if not fence(session, job_id, attempt):
        return False
    session.merge(Sample(job_id=job_id, step=step, images=images, artifact=artifact))
    events.add(
        session,
        job_id,
        EventType.SAMPLE,
        f"Sample images at step {step}.",
        step=step,
        data={"images": images},
    )
    return True


def list(  # noqa: A001 - read as `samples.list`, like every resource is
    session: Session, job_id: str, limit: int | None = None, after: int | None = None
) -> Sequence[Sample]:
    """A job's grids, newest first: at most `limit` of those before the step `after`."""
    query = select(Sample).where(Sample.job_id == job_id).order_by(Sample.step.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(Sample.step < after)).all()


def get(session: Session, job_id: str, step: int) -> Sample:
    found = session.get(Sample, (job_id, step)) if plausible(job_id) and 0 <= step < 2**63 else None
    if found is None:
        raise NotFound(
            "sample_not_found",
            f"The job {job_id!r} has no samples of step {step}.",
            hint=f"GET /v1/jobs/{job_id}/samples lists them." if plausible(job_id) else None,
            param="step",
        )
    return found

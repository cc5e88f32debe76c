"""Stored networks: every checkpoint that is listed here was complete, and hashed, before it was recorded."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records import events
from service.records.events import EventType
from service.records.ids import plausible
from service.records.leases import fence
from service.records.pages import Page, newest_first
from service.records.tables import Checkpoint, Job

# The score that says which checkpoint of a job is best: lower is better.
BEST_BY = "fid"


class Flagged(NamedTuple):
    """The ids of a job's best and last checkpoint."""

    best: str
    last: str


def add(
    session: Session,
    job_id: str,
    *,
    attempt: int,
    step: int,
    images: int,
    artifact: str,
    size_bytes: int,
    sha256: str,
    scores: Mapping[str, float] | None = None,
) -> Checkpoint | None:
    """Records a stored checkpoint, with its event; None: the job is no longer this attempt's.

    A step that an earlier attempt has saved keeps its id. A new one is progress, which forgives lost leases.
    """
    if not fence(session, job_id, attempt):
        return None
    found = session.scalar(select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step))
    if found is None:
        found = Checkpoint(job_id=job_id, step=step)
        session.execute(
            update(Job).where(Job.id == job_id).values(failures=0, lost_leases=0),
            execution_options={"synchronize_session": False},
        )
    found.images, found.artifact, found.size_bytes, found.sha256 = images, artifact, size_bytes, sha256
    found.scores = dict(scores or {})
    session.add(found)
    session.flush()
    events.add(
        session,
        job_id,
        EventType.CHECKPOINT,
        f"Checkpoint at step {step}.",
        step=step,
        data={"checkpoint_id": found.id, "images": images, "size_bytes": size_bytes},
    )
    return found


def get(session: Session, checkpoint_id: str) -> Checkpoint:
    found = session.get(Checkpoint, checkpoint_id) if plausible(checkpoint_id) else None
    if found is None:
        raise NotFound(
            "checkpoint_not_found",
            f"There is no checkpoint {checkpoint_id!r}.",
            hint="GET /v1/checkpoints lists the checkpoints.",
            param="checkpoint_id",
        )
    return found


def page(
    session: Session, limit: int = 20, after: str | None = None, *, job_id: str | None = None
) -> Page[Checkpoint]:
    query = select(Checkpoint)
    if job_id is not None:
        query = query.where(Checkpoint.job_id == job_id)
    return newest_first(session, query, Checkpoint.id, limit, after)


def flags(session: Session, job_ids: Collection[str]) -> dict[str, Flagged]:
    """The best and the last checkpoint of each job that has one; without scores the best is the last."""
    score = Checkpoint.scores[BEST_BY].as_float()
    by_step = func.row_number().over(partition_by=Checkpoint.job_id, order_by=Checkpoint.step.desc())
    by_score = func.row_number().over(
        partition_by=Checkpoint.job_id, order_by=(score.is_(None), score, Checkpoint.step.desc())
    )
    ranked = (
        select(Checkpoint.id, Checkpoint.job_id, by_step.label("by_step"), by_score.label("by_score"))
        .where(Checkpoint.job_id.in_(job_ids))
        .subquery()
    )
    best: dict[str, str] = {}
    last: dict[str, str] = {}
    for row in session.execute(select(ranked).where((ranked.c.by_step == 1) | (ranked.c.by_score == 1))):
        if row.by_score == 1:
            best[row.job_id] = row.id
        if row.by_step == 1:
            last[row.job_id] = row.id
    return {job_id: Flagged(best[job_id], last[job_id]) for job_id in last}

"""Which checkpoints stay: the newest, the best, the pinned, and those that something waits for."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from models.checkpoint_folders import STATE
from service.errors import Conflict
from service.records import checkpoints, jobs, unwanted
from service.records.columns import clock
from service.records.status import OVER, TERMINAL, JobStatus
from service.records.tables import Checkpoint, Evaluation, ImageBatch, Job

NEWEST = 2
"""Of every job so many stay, with all that it needs to go on from them: one may turn out damaged."""

AT_ONCE = 500
"""The reconciler gives up so many in one transaction, in which SQLite lets nobody else write."""


def pin(session: Session, checkpoint_id: str, *, pinned: bool) -> Checkpoint:
    """A pinned checkpoint stays, whatever else is cleaned up."""
    found = checkpoints.get(session, checkpoint_id, lock=True)
    found.pinned = pinned
    return found


def remove(session: Session, checkpoint_id: str) -> None:
    """Deletes one for good, pinned or not; `Conflict` while something needs it."""
    found = checkpoints.get(session, checkpoint_id, lock=True)
    job = jobs.get(session, found.job_id, lock=True)
    if job.status not in TERMINAL and checkpoints.latest_first(session, job.id)[0].id == found.id:
        raise _needed(
            f"The job {job.id} is {job.status.value} and would go on from it.", "Cancel the job first."
        )
    if _waited_for(session, [found.id]):
        raise _needed(
            "Images, an evaluation or a job that starts from it wait.", "Delete it when they are done."
        )
    _delete(session, found)


def tidy(session: Session, job_id: str) -> None:
    """After a new checkpoint of the job: what its spec does not keep goes."""
    rows = checkpoints.latest_first(session, job_id)
    wishes = jobs.get(session, job_id).spec.get("checkpoints") or {}
    keep_last, keep_best = wishes.get("keep_last"), wishes.get("keep_best", 1)
    scored = [row for row in rows if row.merit is not None]
    best = sorted(scored, key=lambda row: row.merit or 0.0, reverse=True)[:keep_best]
    spare = [
        row
        for position, row in enumerate(rows[NEWEST:], NEWEST)
        if (row.interim or (keep_last is not None and position >= keep_last))
        and not row.pinned
        and row not in best
    ]
    _delete_unless_waited_for(session, spare)
    _give_up_states(session, rows[NEWEST:])


def pass_over(session: Session, job_id: str, step: int) -> None:
    """No attempt goes on from a checkpoint behind `step`: the job makes it again. Their weights stay."""
    rows = checkpoints.latest_first(session, job_id)
    _give_up_states(session, [row for row in rows if row.step > step])


def fit(session: Session, budget: int | None) -> int:
    """Deletes the oldest checkpoints until all together take `budget` bytes, up to `AT_ONCE` of them.

    Returns how many bytes have to stay beyond it: the best and the newest of a job are never deleted. Jobs
    that have succeeded give up what only going on from them would need.
    """
    _give_up_what_succeeded(session)
    if budget is None:
        return 0
    sizes = func.sum(Checkpoint.size_bytes + func.coalesce(Checkpoint.state_bytes, 0))
    over = int(session.scalar(select(sizes).where(checkpoints.LIVING)) or 0) - budget
    if over <= 0:
        return 0
    ranked = checkpoints.ranked().subquery()
    spare = session.scalars(
        select(Checkpoint)
        .join(ranked, ranked.c.id == Checkpoint.id)
        .where(ranked.c.by_step > NEWEST, ranked.c.by_score > 1, Checkpoint.pinned.is_(False))
        .order_by(Checkpoint.created_at, Checkpoint.id)
        .limit(AT_ONCE)
    ).all()
    waited_for = _waited_for(session, [row.id for row in spare])
    go: list[Checkpoint] = []
    for row in spare:
        if over > 0 and row.id not in waited_for:
            over -= row.size_bytes + (row.state_bytes or 0)
            go.append(row)
    _delete(session, *go)
    return 0 if len(spare) == AT_ONCE else max(0, over)  # the next look goes on


def _delete(session: Session, *rows: Checkpoint) -> None:
    now = session.scalar(select(clock())) if rows else None
    for row in rows:
        row.deleted_at, row.state_bytes = now, None
    unwanted.add(session, *map(checkpoints.folder_of, rows))


def _delete_unless_waited_for(session: Session, rows: Sequence[Checkpoint]) -> None:
    waited_for = _waited_for(session, [row.id for row in rows])
    _delete(session, *(row for row in rows if row.id not in waited_for))


def _give_up_what_succeeded(session: Session) -> None:
    """States, and interim checkpoints but one that is the last, or scored: it may be the best."""
    succeeded = Checkpoint.job_id.in_(select(Job.id).where(Job.status == JobStatus.SUCCEEDED))
    held = select(Checkpoint).where(checkpoints.LIVING, succeeded)
    _give_up_states(session, session.scalars(held.where(Checkpoint.state_bytes.is_not(None)).limit(AT_ONCE)))
    later = aliased(Checkpoint)
    newer = exists().where(
        later.job_id == Checkpoint.job_id, later.step > Checkpoint.step, later.deleted_at.is_(None)
    )
    spare = Checkpoint.interim & Checkpoint.pinned.is_(False) & Checkpoint.merit.is_(None) & newer
    _delete_unless_waited_for(session, session.scalars(held.where(spare).limit(AT_ONCE)).all())


def _give_up_states(session: Session, rows: Iterable[Checkpoint]) -> None:
    """No job will go on from these; their weights stay."""
    go = [row for row in rows if row.state_bytes is not None]
    for row in go:
        row.state_bytes = None
    unwanted.add(session, *(f"{checkpoints.folder_of(row)}/{STATE}" for row in go))


def _waited_for(session: Session, ids: Collection[str]) -> set[str]:
    """Of these the checkpoints that images, evaluations or jobs that start from them wait for."""
    if not ids:
        return set()
    starts = Job.spec["init_from"].as_string()
    queries = (
        *(
            select(table.checkpoint_id).where(table.checkpoint_id.in_(ids), table.status.not_in(OVER))
            for table in (ImageBatch, Evaluation)
        ),
        select(starts).where(starts.in_(ids), Job.status.not_in(TERMINAL)),
    )
    return {found for query in queries for found in session.scalars(query) if found}


def _needed(message: str, hint: str) -> Conflict:
    return Conflict("checkpoint_in_use", message, hint=hint)

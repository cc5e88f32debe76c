"""Stored networks: every checkpoint that is listed here was complete, and hashed, before it was recorded."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records import events, unwanted
from service.records.events import EventType
from service.records.ids import plausible
from service.records.leases import fence
from service.records.merit import best_by, is_own, merit
from service.records.pages import Page, newest_first
from service.records.tables import Checkpoint, Job

LIVING = Checkpoint.deleted_at.is_(None)
"""Deleted ones stay as rows: what was made from them still names them."""


class Stored(NamedTuple):
    """What loads a checkpoint, and whose it is."""

    id: str
    job_id: str
    artifact: str
    sha256: str


class Trained(NamedTuple):
    """A checkpoint by its id, and the job and the spec that trained it."""

    id: str
    job_id: str
    spec: Mapping[str, Any]


# The one that its job would go on from comes first: later ones without a state were damaged, and passed over.
NEWEST_FIRST = (Checkpoint.state_bytes.is_(None), Checkpoint.step.desc())

# Built once, for they are read for each image; of columns, which cost a third of what whole rows do.
_STORED = select(Checkpoint.id, Checkpoint.job_id, Checkpoint.artifact, Checkpoint.sha256).where(
    Checkpoint.id.in_(bindparam("ids", expanding=True)), LIVING
)
_TRAINED = (
    select(Checkpoint.id, Checkpoint.job_id, Job.spec, Checkpoint.deleted_at)
    .join(Job, Job.id == Checkpoint.job_id)
    .where(Checkpoint.id == bindparam("id"))
)


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
    state_bytes: int | None = None,
    interim: bool = False,
    scores: Mapping[str, float] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Checkpoint | None:
    """Records a stored checkpoint, with its event; None: the job is no longer this attempt's.

    `scores` are those of the job's own evaluation at this step, where it came first; see `set_scores`.

    `state_bytes` is the size of what a job needs to go on from it; `interim` where its spec asks for none.
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
    elif found.artifact != artifact:
        unwanted.add(session, folder_of(found))
    found.images, found.artifact, found.size_bytes, found.sha256 = images, artifact, size_bytes, sha256
    found.state_bytes, found.interim, found.deleted_at = state_bytes, interim, None
    _fill(found, {}, None, None)
    if scores is not None:
        _fill(found, scores, details, best_by(_spec(session, job_id)))
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


def set_scores(
    session: Session,
    job_id: str,
    *,
    attempt: int,
    step: int,
    scores: Mapping[str, float],
    details: Mapping[str, Any],
) -> bool:
    """Stores what the job's own evaluation measured at a step; False: no checkpoint of that step is stored.

    False as well where the job is no longer this attempt's.
    """
    if not fence(session, job_id, attempt):
        return False
    found = session.scalar(select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step))
    if found is None:
        return False
    _fill(found, scores, details, best_by(_spec(session, job_id)))
    return True


def offer_scores(
    session: Session,
    checkpoint_id: str,
    request: Mapping[str, Any],
    scores: Mapping[str, float],
    details: Mapping[str, Any],
) -> None:
    """Takes what an evaluation measured on request, unless the checkpoint has scores of other settings.

    Those with the settings of the job's own evaluation are always taken, and they alone rank it.
    """
    found = session.scalar(select(Checkpoint).where(Checkpoint.id == checkpoint_id).with_for_update())
    if found is None:
        return
    spec = _spec(session, found.job_id)
    own = is_own(spec, request)
    same = found.score_details is not None and _settings(found.score_details) == _settings(details)
    if same:
        scores, details = {**found.scores, **scores}, {**(found.score_details or {}), **details}
    if same or own or found.score_details is None:
        _fill(found, scores, details, best_by(spec) if own else None)


def get(session: Session, checkpoint_id: str, *, lock: bool = False) -> Checkpoint:
    """The checkpoint, or `NotFound`. `lock` keeps others from changing it until the transaction ends."""
    found = None
    if plausible(checkpoint_id):
        found = session.get(Checkpoint, checkpoint_id, with_for_update=lock or None, populate_existing=lock)
    if found is None or found.deleted_at is not None:
        raise _not_found(checkpoint_id, was_there=found is not None)
    return found


def trained(session: Session, checkpoint_id: str) -> Trained:
    """By which spec the checkpoint was trained; `NotFound` as of `get`."""
    found = None
    if plausible(checkpoint_id):
        found = session.connection().execute(_TRAINED, {"id": checkpoint_id}).one_or_none()
    if found is None or found.deleted_at is not None:
        raise _not_found(checkpoint_id, was_there=found is not None)
    return Trained(found.id, found.job_id, found.spec)


def _not_found(checkpoint_id: str, *, was_there: bool) -> NotFound:
    code, message = "checkpoint_not_found", f"There is no checkpoint {checkpoint_id!r}."
    if was_there:
        code, message = "checkpoint_deleted", f"The checkpoint {checkpoint_id!r} was deleted."
    return NotFound(code, message, hint="GET /v1/checkpoints lists the checkpoints.", param="checkpoint_id")


def living(session: Session, ids: Collection[str]) -> dict[str, Stored]:
    """Those of these that were not deleted, nor their jobs, by id."""
    found = session.connection().execute(_STORED, {"ids": list(ids)})
    return {row.id: Stored(*row) for row in found}


def folder_of(row: Checkpoint) -> str:
    """The key below which all its files are stored."""
    return row.artifact.rpartition("/")[0]


def page(
    session: Session, limit: int = 20, after: str | None = None, *, job_id: str | None = None
) -> Page[Checkpoint]:
    query = select(Checkpoint).where(LIVING)
    if job_id is not None:
        query = query.where(Checkpoint.job_id == job_id)
    return newest_first(session, query, Checkpoint.id, limit, after)


def latest_first(session: Session, job_id: str) -> Sequence[Checkpoint]:
    """A job's checkpoints: those that it could go on from, and the others, that of the highest step first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id, LIVING)
    return session.scalars(query.order_by(*NEWEST_FIRST)).all()


def flags(session: Session, job_ids: Collection[str]) -> dict[str, Flagged]:
    """The best and the last checkpoint of each job that has one; without scores the best is the last."""
    found = ranked().where(Checkpoint.job_id.in_(job_ids)).subquery()
    best: dict[str, str] = {}
    last: dict[str, str] = {}
    for row in session.execute(select(found).where((found.c.by_step == 1) | (found.c.by_score == 1))):
        if row.by_score == 1:
            best[row.job_id] = row.id
        if row.by_step == 1:
            last[row.job_id] = row.id
    return {job_id: Flagged(best[job_id], last[job_id]) for job_id in last}


def ranked() -> Select[tuple[str, str, int, int]]:
    """The ids of all checkpoints and their jobs, numbered within a job: the newest first, the best first."""
    score = Checkpoint.merit
    by_step = func.row_number().over(partition_by=Checkpoint.job_id, order_by=NEWEST_FIRST)
    by_score = func.row_number().over(
        partition_by=Checkpoint.job_id, order_by=(score.is_(None), score.desc(), *NEWEST_FIRST)
    )
    numbers = by_step.label("by_step"), by_score.label("by_score")
    return select(Checkpoint.id, Checkpoint.job_id, *numbers).where(LIVING)


def _spec(session: Session, job_id: str) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = session.scalars(select(Job.spec).where(Job.id == job_id)).one()
    return spec


def _fill(
    row: Checkpoint, scores: Mapping[str, float], details: Mapping[str, Any] | None, by: str | None
) -> None:
    row.scores = dict(scores)
    row.score_details = None if details is None else dict(details)
    row.merit = merit(scores, by)


def _settings(details: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same for scores to be comparable: all but what was found."""
    return {name: value for name, value in details.items() if name != "class_histogram"}

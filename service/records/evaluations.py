"""Evaluations asked of a checkpoint: queued by the API, measured by preparing workers."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records import checkpoints
from service.records.columns import Now
from service.records.ids import plausible
from service.records.pages import Page, newest_first
from service.records.requests import MAX_ATTEMPTS, Requests
from service.records.tables import Evaluation

_requests = Requests(
    Evaluation,
    "eval",
    {
        "code": "worker_lost",
        "message": f"The worker that measured this checkpoint vanished {MAX_ATTEMPTS} times.",
        "hint": "It may need more memory than a worker has: ask for fewer samples.",
    },
)
create = _requests.create
claim_next = _requests.claim_next
renew = _requests.renew
fail = _requests.fail
stale = _requests.stale


def get(session: Session, evaluation_id: str) -> Evaluation:
    found = session.get(Evaluation, evaluation_id) if plausible(evaluation_id) else None
    if found is None:
        raise NotFound(
            "evaluation_not_found",
            f"There is no evaluation {evaluation_id!r}.",
            hint="POST /v1/checkpoints/{id}/evaluations makes one.",
            param="evaluation_id",
        )
    return found


def page(session: Session, checkpoint_id: str, limit: int = 20, after: str | None = None) -> Page[Evaluation]:
    query = select(Evaluation).where(Evaluation.checkpoint_id == checkpoint_id)
    return newest_first(session, query, Evaluation.id, limit, after)


def finish(
    session: Session,
    evaluation_id: str,
    attempt: int,
    *,
    scores: Mapping[str, float],
    details: Mapping[str, Any],
    now: Now = None,
) -> bool:
    """Ends the evaluation, and has its checkpoint take the scores; False: it is no longer this attempt's."""
    result = {"scores": dict(scores), "details": dict(details)}
    if not _requests.finish(session, evaluation_id, attempt, result, now):
        return False
    row = get(session, evaluation_id)
    checkpoints.offer_scores(session, row.checkpoint_id, row.request, scores, details)
    return True

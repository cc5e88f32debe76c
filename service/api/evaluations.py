"""Evaluations of a checkpoint: ordered, shown and listed."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.bodies import JsonBytes, json_body, parse_model
from service.api.dependencies import Database, LinkMaker, Links, ListPage, Publisher, naming_cursor
from service.api.evaluation_replies import EvaluationOrder, EvaluationReply, EvaluationResult
from service.api.evaluation_requests import EXAMPLES, EvaluationRequest, order
from service.api.idempotency import REUSED, IdempotencyHeader
from service.api.problems import responses
from service.api.replies import Listing, listing
from service.api.stored_specs import OTHER_VERSION, facts_of
from service.api.waiting import wait_until
from service.api.wishes import PREFER, wish_of
from service.errors import Conflict
from service.queue import evaluations_channel
from service.records import checkpoints, evaluations, jobs
from service.records.idempotency import Once, once
from service.records.status import OVER
from service.records.tables import Evaluation

router = APIRouter(tags=["evaluations"])


@router.post(
    "/checkpoints/{checkpoint_id}/evaluations",
    operation_id="createEvaluation",
    summary="Measure a checkpoint",
    status_code=202,
    responses={
        200: {
            "model": EvaluationReply,
            "description": "With `Prefer: wait=N`: it was over within N seconds.",
        },
        202: {
            "description": "The evaluation is stored and waits for a worker.",
            "headers": {"Location": {"description": "The evaluation.", "schema": {"type": "string"}}},
        },
        **responses(
            400,
            404,
            413,
            415,
            s409=f"{OTHER_VERSION} Or its dataset was deleted. {REUSED}",
            s422="This cannot be measured of the checkpoint.",
        ),
    },
    openapi_extra={**json_body("EvaluationRequest", EXAMPLES), "parameters": [PREFER]},
)
async def create_evaluation(
    checkpoint_id: str,
    request: Request,
    response: Response,
    body: JsonBytes,
    database: Database,
    publisher: Publisher,
    links: Links,
    idempotency: IdempotencyHeader,
) -> EvaluationReply:
    """Answers 202 at once, unless `Prefer: wait=N` says to wait; `status` tells of a failure."""
    asked, wish = parse_model(EvaluationRequest, body), wish_of(request, default=0.0)
    row = await run_in_threadpool(_order, database, checkpoint_id, asked, idempotency.of(body))
    # Listened to before anybody knows of it, so that its completion cannot be missed.
    async with publisher.listen(evaluations_channel(row.id)) as bell:
        await run_in_threadpool(publisher.send, "atelier.evaluate", row.id)
        if wish.wait_seconds > 0:
            row = await wait_until(
                request,
                bell,
                row,
                lambda: run_in_threadpool(_read, database, row.id),
                lambda seen: seen.status in OVER,
                wish.wait_seconds,
            )
    reply = _reply(row, links)
    if wish.applied is not None:
        response.headers["Preference-Applied"] = wish.applied
    if row.status in OVER:
        response.status_code = 200
    else:
        response.headers["Location"] = reply.urls["self"]
    return reply


@router.get(
    "/evaluations/{evaluation_id}",
    operation_id="getEvaluation",
    summary="Get an evaluation",
    responses=responses(404),
)
def get_evaluation(evaluation_id: str, database: Database, links: Links) -> EvaluationReply:
    return _reply(_read(database, evaluation_id), links)


@router.get(
    "/checkpoints/{checkpoint_id}/evaluations",
    operation_id="listEvaluations",
    summary="List a checkpoint's evaluations",
    responses=responses(404),
)
def list_evaluations(
    checkpoint_id: str, database: Database, links: Links, page: ListPage
) -> Listing[EvaluationReply]:
    """Those that were asked for, newest first; the training's own are among the job's events."""
    with database.read() as session:
        checkpoints.get(session, checkpoint_id)
        if page.after is not None:
            with naming_cursor(page.after):
                evaluations.get(session, page.after)
        found = evaluations.page(session, checkpoint_id, page.limit, page.after)
    data = [_reply(row, links) for row in found.items]
    return listing(data, has_more=found.has_more, id_of=lambda evaluation: evaluation.id)


def _order(
    database: Database, checkpoint_id: str, asked: EvaluationRequest, named: Once | None
) -> Evaluation:
    with database.transaction() as session:
        return once(
            session,
            named,
            lambda: _ordered(session, checkpoint_id, asked),
            lambda made: evaluations.get(session, made),
        )


def _ordered(session: Session, checkpoint_id: str, asked: EvaluationRequest) -> Evaluation:
    checkpoint = checkpoints.get(session, checkpoint_id)
    job = jobs.get(session, checkpoint.job_id)
    facts = facts_of(session, job.dataset)
    if facts is None:
        raise Conflict(
            "dataset_missing",
            f"The dataset {job.dataset!r} was deleted, so there is nothing to compare images with.",
            hint="Upload it again, and train on it.",
        )
    return evaluations.create(session, checkpoint.id, order(asked, job, facts))


def _read(database: Database, evaluation_id: str) -> Evaluation:
    with database.read() as session:
        return evaluations.get(session, evaluation_id)


def _reply(row: Evaluation, links: LinkMaker) -> EvaluationReply:
    return EvaluationReply(
        id=row.id,
        checkpoint_id=row.checkpoint_id,
        status=row.status,
        request=EvaluationOrder.model_validate(row.request),
        result=None if row.result is None else EvaluationResult.model_validate(row.result),
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        urls={
            "self": links(f"/v1/evaluations/{row.id}"),
            "checkpoint": links(f"/v1/checkpoints/{row.checkpoint_id}"),
        },
    )

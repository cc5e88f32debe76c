"""Training jobs: created from a spec, planned by a dry run, listed, shown and cancelled."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from models import presets
from models.spec import Plan
from models.spec.fields import Text
from service.api.bodies import JsonBytes, json_body, parse_object
from service.api.dependencies import (
    Database,
    LinkMaker,
    Links,
    ListPage,
    Publisher,
    ServiceSettings,
    naming_cursor,
)
from service.api.idempotency import REUSED, IdempotencyHeader
from service.api.problems import invalid, responses
from service.api.replies import JobPlanReply, JobProgress, JobReply, Listing, listing
from service.api.schema import JOB_REQUEST
from service.api.stored_specs import check_resumable, check_start, facts_of
from service.api.waiting import while_connected
from service.records import checkpoints, jobs
from service.records.idempotency import Once, once
from service.records.status import JobStatus
from service.records.tables import Job

router = APIRouter(prefix="/jobs", tags=["jobs"])

NO_WORKER = (
    "parameters and memory_bytes are null: no worker answered in {seconds:g} s; "
    "see that a `sample` worker runs"
)

_EXAMPLES = {
    "preset": ("A preset as it is", {"preset": "dcgan"}),
    "overrides": (
        "A preset with overrides",
        {
            "name": "fashion",
            "preset": "dcgan",
            "dataset": "fashion-mnist",
            "seed": 7,
            "budget": {"images": 300000},
            "optimizer": {"learning_rate": 0.0002, "schedule": {"kind": "cosine", "warmup_steps": 200}},
            "metadata": {"team": "vision"},
        },
    ),
    "diffusion": ("A diffusion model", {"preset": "ddpm", "dataset": "digits", "budget": {"images": 200000}}),
}


@router.post(
    "",
    operation_id="createJob",
    summary="Create a job, or plan one",
    status_code=202,
    response_model=JobReply,
    responses={
        200: {"model": JobPlanReply, "description": "With `dry_run=true`: what the job would be."},
        202: {
            "description": "The job is stored and waits for a worker.",
            "headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}},
        },
        **responses(
            400, 413, 415, s409=f"The dataset is not ready. {REUSED}", s422="Fields of the spec are wrong."
        ),
    },
    openapi_extra=json_body(JOB_REQUEST, _EXAMPLES),
)
async def create_job(
    request: Request,
    response: Response,
    body: JsonBytes,
    database: Database,
    publisher: Publisher,
    settings: ServiceSettings,
    links: Links,
    idempotency: IdempotencyHeader,
    *,
    dry_run: Annotated[bool, Query(description="Only say what the job would be; nothing is stored.")] = False,
) -> JobReply | Response:
    """A preset plus overrides, or a whole spec. Posting the reply's `spec` repeats the run."""
    raw = parse_object(body)
    if not dry_run:
        job = await run_in_threadpool(_accept, raw, idempotency.of(body), database, publisher, links)
        response.headers["Location"] = job.urls["self"]
        return job
    plan = await run_in_threadpool(_plan, raw, database)
    seconds = settings.describe_seconds
    spec = plan.spec.model_dump(mode="json")
    counted = await while_connected(request, publisher.ask("atelier.describe", spec, timeout=seconds))
    warnings = list(plan.warnings)
    if counted is None or "parameters" not in counted:
        warnings.append(NO_WORKER.format(seconds=seconds))
        counted = {}
    planned = JobPlanReply(
        spec=plan.spec,
        warnings=warnings,
        parameters=counted.get("parameters"),
        steps=plan.steps,
        memory_bytes=counted.get("memory_bytes"),
    )
    return Response(planned.model_dump_json(), media_type="application/json")


@router.get("", operation_id="listJobs", summary="List the jobs", responses=responses(404))
def list_jobs(
    request: Request,
    database: Database,
    links: Links,
    page: ListPage,
    status: Annotated[list[JobStatus] | None, Query(description="Only those of these statuses.")] = None,
    dataset: Annotated[Text | None, Query(description="Only those on this dataset.", max_length=100)] = None,
    preset: Annotated[Text | None, Query(description="Only those from this preset.", max_length=100)] = None,
    metadata: Annotated[
        list[Text] | None,
        Query(
            description="Only those with this label, as `team:vision`; several must all hold. "
            "`metadata[team]=vision` says the same.",
            examples=["team:vision"],
        ),
    ] = None,
) -> Listing[JobReply]:
    """Newest first."""
    labels = _labels(request, metadata or [])
    with database.read() as session:
        if page.after is not None:
            with naming_cursor(page.after):
                jobs.get(session, page.after)
        found = jobs.page(
            session, page.limit, page.after, status=status, dataset=dataset, preset=preset, metadata=labels
        )
        data = _replies(session, links, found.items)
    return listing(data, has_more=found.has_more, id_of=lambda job: job.id)


@router.get("/{job_id}", operation_id="getJob", summary="Get a job", responses=responses(404))
def get_job(job_id: str, database: Database, links: Links) -> JobReply:
    with database.read() as session:
        return _replies(session, links, [jobs.get(session, job_id)])[0]


@router.post(
    "/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    responses=responses(404, s409="The job is over already."),
)
def cancel_job(job_id: str, database: Database, links: Links) -> JobReply:
    """A queued job is `cancelled` at once; a running one is `cancelling` until its process is gone."""
    with database.transaction() as session:
        return _replies(session, links, [jobs.request_cancel(session, job_id)])[0]


@router.post(
    "/{job_id}/pause",
    operation_id="pauseJob",
    summary="Pause a job",
    responses=responses(404, s409="The job does not run."),
)
def pause_job(job_id: str, database: Database, links: Links) -> JobReply:
    """The job is `pausing` until it has saved a checkpoint and its process is gone, and then `paused`."""
    with database.transaction() as session:
        return _replies(session, links, [jobs.request_pause(session, job_id)])[0]


@router.post(
    "/{job_id}/resume",
    operation_id="resumeJob",
    summary="Resume a job",
    responses=responses(
        404,
        s409="The job is not paused, failed or cancelled, or what it is trained on or from was deleted.",
    ),
)
def resume_job(job_id: str, database: Database, publisher: Publisher, links: Links) -> JobReply:
    """A paused, failed or cancelled job is `queued` again, and goes on from its last checkpoint.

    On a CPU it ends with the very weights that it would have ended with uninterrupted.
    """
    with database.transaction() as session:
        job = jobs.request_resume(session, job_id)
        check_resumable(session, job)
        reply = _replies(session, links, [job])[0]
    publisher.send("atelier.train", job_id)
    return reply


def _accept(
    raw: dict[str, Any], asked: Once | None, database: Database, publisher: Publisher, links: LinkMaker
) -> JobReply:
    with database.transaction() as session:

        def make() -> Job:
            plan = presets.plan(raw, lambda name: facts_of(session, name, keep=True))
            check_start(session, plan.spec)
            return jobs.create(session, plan.spec.model_dump(mode="json"), plan.warnings, plan.steps)

        job = once(session, asked, make, lambda job_id: jobs.get(session, job_id))
        reply = _replies(session, links, [job])[0]
    # Best effort: without Redis the stored row is published later, or found by an idle worker.
    publisher.send("atelier.train", job.id)
    return reply


def _plan(raw: dict[str, Any], database: Database) -> Plan:
    with database.read() as session:
        plan = presets.plan(raw, lambda name: facts_of(session, name))
        check_start(session, plan.spec)
    return plan


def _labels(request: Request, pairs: Sequence[str]) -> dict[str, str]:
    """The metadata filter: `metadata=team:vision` or `metadata[team]=vision`."""
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition(":")
        if not separator:
            raise invalid({"metadata": f"{pair!r} is not of the form key:value"})
        labels[key] = value
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            labels[name.removeprefix("metadata[").removesuffix("]")] = value
    if any("\x00" in text for pair in labels.items() for text in pair):
        raise invalid({"metadata": "control characters are not allowed"})
    return labels


def _replies(session: Session, links: LinkMaker, rows: Sequence[Job]) -> list[JobReply]:
    flags = checkpoints.flags(session, [row.id for row in rows])
    return [_reply(row, links, *flags.get(row.id, (None, None))) for row in rows]


def _reply(row: Job, links: LinkMaker, best: str | None, last: str | None) -> JobReply:
    own = f"/v1/jobs/{row.id}"
    pages = (
        "metrics",
        "metrics.png",
        "tensorboard",
        "events",
        "logs",
        "samples",
        "checkpoints",
        "cancel",
        "pause",
        "resume",
    )
    return JobReply(
        id=row.id,
        name=row.name,
        status=row.status,
        health=row.health,
        preset=row.preset,
        dataset=row.dataset,
        seed=row.seed,
        metadata=row.metadata_,
        spec=row.spec,
        warnings=row.warnings,
        attempt=row.attempt,
        progress=JobProgress(
            step=row.step,
            total_steps=row.total_steps,
            images=row.images,
            images_per_second=row.images_per_second,
            eta_seconds=row.eta_seconds,
        ),
        error=row.error,
        best_checkpoint=best,
        last_checkpoint=last,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        urls={"self": links(own), **{page.replace(".", "_"): links(f"{own}/{page}") for page in pages}},
    )

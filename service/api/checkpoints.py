"""Stored networks: listed, shown and downloaded."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy.orm import Session

from models.spec.diffusion import IN_TIMESTEPS
from service.api.bodies import JsonBytes, json_body, parse_model
from service.api.dependencies import (
    Artifacts,
    Database,
    LinkMaker,
    Links,
    ListPage,
    Paging,
    Publisher,
    naming_cursor,
)
from service.api.files import file_content, stored_file
from service.api.image_replies import CheckpointChange, CheckpointReply
from service.api.problems import responses
from service.api.replies import Listing, listing
from service.api.waiting import while_connected
from service.errors import AtelierError, Invalid, Unavailable
from service.records import checkpoints, jobs, retention
from service.records.tables import Checkpoint

router = APIRouter(tags=["checkpoints"])

EXPORT_SECONDS = 60.0


@router.get(
    "/jobs/{job_id}/checkpoints",
    operation_id="listJobCheckpoints",
    summary="List a job's checkpoints",
    responses=responses(404),
)
def list_job_checkpoints(
    job_id: str, database: Database, links: Links, page: ListPage
) -> Listing[CheckpointReply]:
    with database.read() as session:
        jobs.get(session, job_id)
        return _page(session, links, page, job_id)


@router.get(
    "/checkpoints",
    operation_id="listCheckpoints",
    summary="List all checkpoints",
    responses=responses(404),
)
def list_checkpoints(database: Database, links: Links, page: ListPage) -> Listing[CheckpointReply]:
    with database.read() as session:
        return _page(session, links, page, None)


@router.get(
    "/checkpoints/{checkpoint_id}",
    operation_id="getCheckpoint",
    summary="Get a checkpoint",
    responses=responses(404),
)
def get_checkpoint(checkpoint_id: str, database: Database, links: Links) -> CheckpointReply:
    with database.read() as session:
        return _replies(session, links, [checkpoints.get(session, checkpoint_id)])[0]


@router.patch(
    "/checkpoints/{checkpoint_id}",
    operation_id="updateCheckpoint",
    summary="Pin a checkpoint, or unpin it",
    responses=responses(400, 404, 413, 415, s422="Fields are wrong."),
    openapi_extra=json_body("CheckpointChange", {"pin": ("Keep it", {"pinned": True})}),
)
def update_checkpoint(
    checkpoint_id: str, body: JsonBytes, database: Database, links: Links
) -> CheckpointReply:
    """A pinned checkpoint stays, whatever else is cleaned up."""
    change = parse_model(CheckpointChange, body)
    with database.transaction() as session:
        changed = retention.pin(session, checkpoint_id, pinned=change.pinned)
        return _replies(session, links, [changed])[0]


@router.delete(
    "/checkpoints/{checkpoint_id}",
    operation_id="deleteCheckpoint",
    summary="Delete a checkpoint",
    status_code=204,
    responses=responses(404, s409="Its job would go on from it, or something else waits for it."),
)
def delete_checkpoint(checkpoint_id: str, database: Database) -> None:
    """For good, pinned or not; the images that were made from it stay."""
    with database.transaction() as session:
        retention.remove(session, checkpoint_id)


@router.get(
    "/checkpoints/{checkpoint_id}/download",
    operation_id="downloadCheckpoint",
    summary="Download a checkpoint",
    response_class=Response,
    responses={
        **file_content("application/octet-stream", "application/zip"),
        **responses(
            404,
            s422="The checkpoint cannot be had in this format.",
            s503="No worker made the export in time.",
        ),
    },
)
async def download_checkpoint(
    checkpoint_id: str,
    request: Request,
    database: Database,
    artifacts: Artifacts,
    publisher: Publisher,
    format: Annotated[  # noqa: A002
        Literal["safetensors", "diffusers"],
        Query(
            description="`diffusers`: a pipeline folder as a zip, made when first asked for; "
            "of diffusion models with a UNet, without labels, and by timesteps."
        ),
    ] = "safetensors",
) -> Response:
    """The weights with the spec in their metadata, or a pipeline that plain `diffusers` loads."""
    checkpoint, exportable = await run_in_threadpool(_find, database, checkpoint_id)
    stem = f"{checkpoint.id}-step{checkpoint.step}"
    if format == "safetensors":
        return await run_in_threadpool(
            stored_file,
            request,
            artifacts,
            checkpoint.artifact,
            "application/octet-stream",
            filename=f"{stem}.safetensors",
            etag=checkpoint.sha256,
        )
    if not exportable:
        raise Invalid(
            "no_diffusers_export",
            "diffusers has pipelines for UNets without labels that go by timesteps, and not for this model.",
            hint="Download it with format=safetensors.",
            param="format",
        )
    key = checkpoint.artifact.rpartition("/")[0] + "/diffusers.zip"
    if not await run_in_threadpool(artifacts.exists, key):
        await _export(request, publisher, checkpoint.id)
    return await run_in_threadpool(
        stored_file, request, artifacts, key, "application/zip", filename=f"{stem}-diffusers.zip"
    )


async def _export(request: Request, publisher: Publisher, checkpoint_id: str) -> None:
    answer = await while_connected(
        request, publisher.ask("atelier.export", checkpoint_id, timeout=EXPORT_SECONDS)
    )
    if answer is None:
        raise Unavailable(
            "export_not_made",
            "No worker has made the diffusers folder in time.",
            hint="See that a `sample` worker runs, and ask again.",
        )
    if "key" not in answer:
        error = answer.get("error") or {}
        raise AtelierError(
            error.get("code", "export_failed"),
            error.get("message", "The diffusers folder could not be made."),
            hint=error.get("hint"),
        )


def _find(database: Database, checkpoint_id: str) -> tuple[Checkpoint, bool]:
    """The checkpoint, and whether diffusers has a pipeline for its networks."""
    with database.read() as session:
        checkpoint = checkpoints.get(session, checkpoint_id)
        spec = jobs.get(session, checkpoint.job_id).spec
    network, schedule = spec.get("network") or {}, spec.get("noise_schedule") or {}
    exportable = network.get("kind") == "unet" and schedule.get("kind") in IN_TIMESTEPS
    return checkpoint, exportable and spec.get("conditional") is None


def _page(session: Session, links: LinkMaker, page: Paging, job_id: str | None) -> Listing[CheckpointReply]:
    if page.after is not None:
        with naming_cursor(page.after):
            checkpoints.get(session, page.after)
    found = checkpoints.page(session, page.limit, page.after, job_id=job_id)
    data = _replies(session, links, found.items)
    return listing(data, has_more=found.has_more, id_of=lambda checkpoint: checkpoint.id)


def _replies(session: Session, links: LinkMaker, rows: Sequence[Checkpoint]) -> list[CheckpointReply]:
    flags = checkpoints.flags(session, {row.job_id for row in rows})
    return [
        CheckpointReply(
            id=row.id,
            job_id=row.job_id,
            step=row.step,
            images=row.images,
            scores=row.scores,
            score_details=row.score_details,
            size_bytes=row.size_bytes,
            state_bytes=row.state_bytes,
            sha256=row.sha256,
            best=flags[row.job_id].best == row.id,
            last=flags[row.job_id].last == row.id,
            pinned=row.pinned,
            interim=row.interim,
            created_at=row.created_at,
            urls={
                "self": links(f"/v1/checkpoints/{row.id}"),
                "job": links(f"/v1/jobs/{row.job_id}"),
                "download": links(f"/v1/checkpoints/{row.id}/download"),
                "images": links(f"/v1/checkpoints/{row.id}/images"),
                "evaluations": links(f"/v1/checkpoints/{row.id}/evaluations"),
            },
        )
        for row in rows
    ]

"""Stored networks: listed, shown, pinned and deleted."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy.orm import Session

from service.api.bodies import JsonBytes, json_body, parse_model
from service.api.dependencies import (
    Database,
    LinkMaker,
    Links,
    ListPage,
    Paging,
    naming_cursor,
)
from service.api.image_replies import CheckpointChange, CheckpointReply
from service.api.problems import responses
from service.api.replies import Listing, listing
from service.records import checkpoints, jobs, retention
from service.records.tables import Checkpoint

router = APIRouter(tags=["checkpoints"])


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

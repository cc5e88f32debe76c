"""Stored networks as files: as they are stored, or in the format of another library."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from models.spec.exporting import ExportFormat, foreign_to_diffusers
from service.api.dependencies import Artifacts, Database, Publisher
from service.api.files import file_content, stored_file
from service.api.problems import responses
from service.api.stored_specs import spec_of
from service.api.waiting import while_connected
from service.errors import AtelierError, Invalid, Unavailable
from service.records import checkpoints
from service.records.exports import export_key
from service.records.tables import Checkpoint

router = APIRouter(tags=["checkpoints"])

EXPORT_SECONDS = 60.0

Format = Annotated[
    ExportFormat,
    Query(
        description="`safetensors`: every weight, with the spec in the metadata. The others are zips, made "
        "when first asked for, with a model card (`README.md`) and images (`samples.png`). `diffusers`: a "
        "pipeline's folder, of diffusion models with a UNet, without labels, and by timesteps. `onnx`: the "
        "network that samples as `model.onnx`. `torch_export`: the same as `model.pt2`, for "
        "`torch.export.load`. `card`: the card and the images alone, to lay beside the safetensors file."
    ),
]


@router.get(
    "/checkpoints/{checkpoint_id}/download",
    operation_id="downloadCheckpoint",
    summary="Download a checkpoint",
    response_class=Response,
    responses={
        **file_content("application/octet-stream", "application/zip"),
        **responses(
            404,
            s409="The checkpoint's spec is of another version of the service.",
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
    format: Format = ExportFormat.SAFETENSORS,  # noqa: A002
) -> Response:
    """The weights with the spec in their metadata, or the model as other libraries load it.

    An ONNX model or a program is the generator of a GAN (`latents` to `images`) or one evaluation of a
    denoiser (`images` and `time` to `prediction`); a conditional one takes `labels` as well.
    """
    checkpoint = await run_in_threadpool(_find, database, checkpoint_id, format)
    stem = f"{checkpoint.id}-step{checkpoint.step}"
    if format is ExportFormat.SAFETENSORS:
        return await run_in_threadpool(
            stored_file,
            request,
            artifacts,
            checkpoint.artifact,
            "application/octet-stream",
            filename=f"{stem}.safetensors",
            etag=checkpoint.sha256,
        )
    key = export_key(checkpoint, format)
    if not await run_in_threadpool(artifacts.exists, key):
        key = await _export(request, publisher, checkpoint.id, format)
    return await run_in_threadpool(
        stored_file, request, artifacts, key, "application/zip", filename=f"{stem}-{format}.zip"
    )


async def _export(request: Request, publisher: Publisher, checkpoint_id: str, exported: ExportFormat) -> str:
    """The key of the archive that a worker has made."""
    answer = await while_connected(
        request, publisher.ask("atelier.export", checkpoint_id, exported.value, timeout=EXPORT_SECONDS)
    )
    if answer is None:
        raise Unavailable(
            "export_not_made",
            "No worker has made the export in time.",
            hint="See that a `sample` worker runs, and ask again: what it makes meanwhile is kept.",
        )
    if "key" not in answer:
        error = answer.get("error") or {}
        raise AtelierError(
            error.get("code", "export_failed"),
            error.get("message", "The export could not be made."),
            hint=error.get("hint"),
        )
    return str(answer["key"])


def _find(database: Database, checkpoint_id: str, exported: ExportFormat) -> Checkpoint:
    """The checkpoint; Invalid where it cannot be had in this format."""
    with database.read() as session:
        checkpoint = checkpoints.get(session, checkpoint_id)
        if exported is not ExportFormat.DIFFUSERS:
            return checkpoint
        foreign = foreign_to_diffusers(spec_of(checkpoints.trained(session, checkpoint_id)))
    if foreign is not None:
        raise Invalid(
            "no_diffusers_export",
            f"diffusers has no pipeline for {foreign}: its own are for UNets without labels that go by "
            "timesteps.",
            hint="Download it with format=onnx, torch_export or safetensors.",
            param="format",
        )
    return checkpoint

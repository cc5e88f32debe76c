"""A job's curves and samples as files for TensorBoard."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from service.api.dependencies import Artifacts, Database
from service.api.files import made_content
from service.api.methods import HEADERS_ONLY
from service.api.problems import responses
from service.artifacts import CHUNK_BYTES
from service.artifacts import Artifacts as Store
from service.errors import NotFound
from service.event_files import stored_event_files
from service.records import jobs

router = APIRouter(prefix="/jobs/{job_id}", tags=["metrics"])


@router.get(
    "/tensorboard",
    operation_id="downloadTensorBoard",
    summary="Download a job's TensorBoard files",
    response_class=Response,
    responses={**made_content("application/zip"), **responses(404)},
)
def download_tensorboard(request: Request, job_id: str, database: Database, artifacts: Artifacts) -> Response:
    """A zip with one event file an attempt, in a folder named by the job.

    Unpack those of several jobs in one place, and `tensorboard --logdir` shows them side by side. A running
    job's file is a few seconds old, or some minutes when it runs for hours.
    """
    with database.read() as session:
        job = jobs.get(session, job_id)
    keys = stored_event_files(artifacts, job.id, job.attempt)
    if not keys:
        raise NotFound(
            "tensorboard_not_found",
            f"The job {job.id!r} has no TensorBoard files.",
            hint="They are stored from about ten seconds of training on.",
        )
    packed = _zip(artifacts, job.id, keys)
    headers = {
        "Content-Disposition": f'attachment; filename="{job.id}-tensorboard.zip"',
        "Content-Length": str(packed.seek(0, 2)),
    }
    chunks = iter(()) if HEADERS_ONLY in request.scope else _chunks(packed)
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


def _zip(artifacts: Store, folder: str, keys: Sequence[str]) -> IO[bytes]:
    """The files in a temporary file, which is gone once it is closed."""
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the reply reads it, and closes it
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in keys:
            archive.writestr(f"{folder}/{PurePosixPath(key).name}", artifacts.read(key))
    return packed


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

"""Stored files as replies: streamed, with their length, name and hash."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from service.api.methods import HEADERS_ONLY
from service.artifacts import Artifacts

CHUNK_BYTES = 1 << 20
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def stored_file(
    request: Request,
    artifacts: Artifacts,
    key: str,
    media_type: str,
    *,
    filename: str | None = None,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The artifact, one chunk of it in memory at a time; 304 where the client has it already."""
    described = dict(headers or {})
    if etag is not None:
        described["ETag"] = f'"{etag}"'
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=described)
    if filename is not None:
        described["Content-Disposition"] = f'attachment; filename="{filename}"'
    # Stored files never change; a browser must not guess another type than is declared.
    described |= {"Content-Length": str(artifacts.size(key)), "X-Content-Type-Options": "nosniff"}
    chunks = iter(()) if HEADERS_ONLY in request.scope else _chunks(artifacts, key)
    return StreamingResponse(chunks, media_type=media_type, headers=described)


def file_content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of an operation that answers with a file."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The file.", "content": dict.fromkeys(media_types, schema)}}


def _chunks(artifacts: Artifacts, key: str) -> Iterator[bytes]:
    with artifacts.open(key) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

"""Stored files as replies: streamed, whole or from where a download broke off, with name and hash."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from service.api.methods import HEADERS_ONLY
from service.api.problems import RangeNotSatisfiable, problem, responses
from service.artifacts import Artifacts

MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "npz": "application/zip",  # numpy's files are zip archives, and have no type of their own
}
"""By the end of a picture's name."""

SMALL = 64 * 1024
"""Bytes that are read at once: each chunk of a stream costs a thread's turn, more than such a file does."""

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


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
    """The artifact or the part of it that is asked for, a chunk at a time; 304 where the client has it.

    `etag` is for content with a hash of its own; otherwise the tag is the store's mark of the version.
    """
    size, version = artifacts.describe(key)
    tag = f'"{etag or version}"'
    described = {**(headers or {}), "ETag": tag, "Accept-Ranges": "bytes"}
    if request.method == "GET" and _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=described)
    if filename is not None:
        described["Content-Disposition"] = f'attachment; filename="{filename}"'
    part = _part(request, tag, size)
    if part is not None and not part:
        return _unsatisfiable(request, size)
    wanted = range(size) if part is None else part
    if part is not None:
        described["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    # A browser must not guess another type than is declared.
    described |= {"Content-Length": str(len(wanted)), "X-Content-Type-Options": "nosniff"}
    chunks = iter(()) if HEADERS_ONLY in request.scope else artifacts.chunks(key, wanted.start, wanted.stop)
    status = 200 if part is None else 206
    if len(wanted) <= SMALL:
        return Response(b"".join(chunks), status, media_type=media_type, headers=described)
    return StreamingResponse(chunks, status, media_type=media_type, headers=described)


def file_content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of an operation that answers with `stored_file`."""
    whole = made_content(*media_types)
    part = {**whole[200], "description": "The part of the file that the header `Range` asks for."}
    unchanged = {"description": "The client's copy, by `If-None-Match`, is the stored one."}
    return {**whole, 206: part, 304: unchanged, 416: responses(416)[416]}


def made_content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of an operation that answers with a file that is made for this reply."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The file.", "content": dict.fromkeys(media_types, schema)}}


def _has(tags: str, tag: str) -> bool:
    """Whether the header `If-None-Match` lists the tag; one that a proxy made weak is as good here."""
    return tags.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in tags.split(","))


def _part(request: Request, tag: str, size: int) -> range | None:
    """The bytes of the header `Range`, none of them if there are none such; None: the whole file.

    Several ranges, other units and what cannot be read are ignored, as RFC 9110 allows, and so is a range of
    a version that is not stored any more.
    """
    asked = _ONE_RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or request.method != "GET" or HEADERS_ONLY in request.scope:
        return None
    if request.headers.get("if-range", tag) != tag:
        return None
    first, last = asked.groups()
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def _unsatisfiable(request: Request, size: int) -> Response:
    error = RangeNotSatisfiable(
        "range_not_satisfiable",
        f"The file has {size} bytes, and none of those that the header Range asks for.",
        hint="Leave the header out for the whole file.",
    )
    return problem(request, error, {"Content-Range": f"bytes */{size}"})

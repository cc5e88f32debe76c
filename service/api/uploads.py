"""Reads a multipart form with one file as it arrives: the file goes to disk, and every part is counted."""

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.bodies import too_large
from service.api.dependencies import ServiceSettings
from service.api.problems import BadRequest, UnsupportedMediaType, invalid
from service.errors import Unavailable

FILE_FIELD = "file"
MAX_FIELD_BYTES = 4096
MAX_PARTS = 16
# What boundaries, headers and the other fields may add to the file.
FORM_BYTES = 64 * 1024
WRITE_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """A received form: its text fields, and the file, which is removed after the request if still there."""

    fields: dict[str, str]
    path: Path
    size: int
    digest: bytes
    """SHA-256 of the fields and the file: the same for the same form between other boundaries."""


class _Form:
    """Collects the parts that the parser announces; the file's bytes wait in `pending` to be written."""

    def __init__(self, boundary: bytes, limit: int) -> None:
        self.fields: dict[str, bytearray] = {}
        self.pending = bytearray()
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.has_file = False
        self.ended = False
        self._limit = limit
        self._parts = 0
        self._part = ""
        self._header_name = self._header_value = b""
        self._disposition = b""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header(name=data[start:end]),
                "on_header_value": lambda data, start, end: self._header(value=data[start:end]),
                "on_header_end": self._header_ended,
                "on_headers_finished": self._named,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        self._disposition = b""

    def _header(self, name: bytes = b"", value: bytes = b"") -> None:
        self._header_name += name
        self._header_value += value

    def _header_ended(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _named(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part in self.fields or (self._part == FILE_FIELD and self.has_file):
            raise invalid({self._part: "was sent twice"})
        if self._part == FILE_FIELD:
            self.has_file = True
        else:
            self.fields[self._part] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == FILE_FIELD:
            self.size += end - start
            if self.size > self._limit:
                raise too_large(self._limit)
            self.pending += data[start:end]
            return
        field = self.fields[self._part]
        field += data[start:end]
        if len(field) > MAX_FIELD_BYTES:
            raise invalid({self._part: f"is longer than {MAX_FIELD_BYTES} bytes"})

    def _end(self) -> None:
        self.ended = True


async def _receive(request: Request, settings: ServiceSettings) -> AsyncIterator[Upload]:
    limit = settings.max_upload_bytes
    form = _Form(_boundary(request), limit)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + FORM_BYTES:
        raise too_large(limit)
    # Beside the stored artifacts of the embedded stack, so that storing is a rename and no copy.
    with _on_disk():
        path = await run_in_threadpool(_temporary, settings.data / "uploads")
    try:
        # Closing is among what can fail: it writes what is buffered.
        with _on_disk(), path.open("wb") as file:
            await _copy(request, form, file, limit)
        texts = _texts(form)
        form.sha256.update(json.dumps(texts, sort_keys=True).encode())
        yield Upload(texts, path, form.size, form.sha256.digest())
    finally:
        path.unlink(missing_ok=True)


ReceivedUpload = Annotated[Upload, Depends(_receive)]
"""The multipart form of the request, wholly received."""


async def _copy(request: Request, form: _Form, file: BinaryIO, limit: int) -> None:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit + FORM_BYTES:
            raise too_large(limit)
        try:
            form.parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        if len(form.pending) >= WRITE_BYTES:
            await run_in_threadpool(_flush, form, file)
    await run_in_threadpool(_flush, form, file)
    if not form.ended:
        raise _malformed("it ends before its last boundary")
    if not form.size:
        raise invalid({FILE_FIELD: "is empty or missing; send the archive as the form's part `file`"})


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType(
            "unsupported_media_type",
            f"The body is {kind.decode('latin-1') or 'of no declared type'}; "
            "this operation takes multipart/form-data.",
            hint="With curl: -F name=shapes -F file=@shapes.zip",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:
        raise _malformed("the Content-Type header names no boundary of 1 to 70 characters")
    return boundary


def _temporary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        return Path(file.name)


def _flush(form: _Form, file: BinaryIO) -> None:
    file.write(form.pending)
    form.sha256.update(form.pending)
    form.pending.clear()


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "upload_not_stored",
            f"The file could not be stored: {error.strerror}.",
            hint="Nothing was kept. The operator may need to free disk space.",
        ) from error


def _texts(form: _Form) -> dict[str, str]:
    try:
        return {name: bytes(value).decode() for name, value in form.fields.items()}
    except UnicodeDecodeError:
        raise _malformed("a field is not UTF-8") from None


def _malformed(reason: str) -> BadRequest:
    return BadRequest(
        "malformed_form",
        f"The multipart form cannot be read: {reason}.",
        hint="With curl: -F name=shapes -F file=@shapes.zip",
    )

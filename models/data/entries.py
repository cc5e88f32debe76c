"""One file of an upload: told by its first bytes, read within limits, or dropped with a reason."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from models.data import names
from models.data.errors import FileRefusedError
from models.data.limits import MIB, Limits

LITTER = "it was written by the operating system"
HEAD_BYTES = 512

# First bytes of what people (and attackers) put among images, with the words the report uses for it.
FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "an archive inside the archive"),
    (b"\x1f\x8b", "an archive inside the archive"),
    (b"BZh", "an archive inside the archive"),
    (b"\xfd7zXZ\x00", "an archive inside the archive"),
    (b"7z\xbc\xaf", "an archive inside the archive"),
    (b"Rar!", "an archive inside the archive"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"8BPS", "a Photoshop file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an XML or SVG file"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file whose first bytes are those of a PNG, JPEG or WebP image."""

    name: str
    parts: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is left out, and why."""

    name: str
    reason: str


Entries = Iterator[Found | Dropped]


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def image_format(head: bytes) -> str | None:
    """The Pillow format that the first bytes announce, among the three that are read."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return None


def check_name(name: str) -> tuple[str, ...]:
    """The parts of a name that may belong to a training image; litter and hidden files are refused."""
    parts = names.split(name)
    if names.is_litter(parts):
        raise FileRefusedError(LITTER)
    if names.is_hidden(parts):
        raise FileRefusedError("it is a hidden file")
    return parts


def read_image(stream: Readable, limits: Limits, count_bytes: Callable[[int], None]) -> bytes:
    """The whole file if it begins like an image; no more than its head otherwise."""
    head = _read_exactly(stream, HEAD_BYTES)
    count_bytes(len(head))
    if image_format(head) is None:
        raise FileRefusedError(_foreign_reason(head))
    pieces, total = [head], len(head)
    while piece := stream.read(MIB):
        count_bytes(len(piece))
        total += len(piece)
        if total > limits.entry_bytes:
            raise FileRefusedError(f"it is larger than {limits.entry_bytes / MIB:.0f} MiB")
        pieces.append(piece)
    return b"".join(pieces)


def _read_exactly(stream: Readable, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return data


def _foreign_reason(head: bytes) -> str:
    if not head:
        return "it is empty"
    text = head.lstrip()
    what = next((words for magic, words in FOREIGN if text.startswith(magic)), None)
    if what is None and head[257:262] == b"ustar":
        what = "an archive inside the archive"
    is_what = f"it is {what}" if what else "it is not an image"
    return f"{is_what}; only PNG, JPEG and WebP images are read"

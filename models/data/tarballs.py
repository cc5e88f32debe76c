"""Tar archives, plain or compressed, read forward only and never extracted."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Self

from models.data.entries import Dropped, Entries, Found, Readable, check_name, read_image
from models.data.errors import DatasetError, FileRefusedError
from models.data.limits import MIB, Limits, Meter
from models.data.names import LONGEST

XZ_MEMORY = 128 * MIB  # `xz -9` asks for 65 MiB; a header may ask for 4 GiB
DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, RecursionError, ValueError)


def read_tar(path: Path, limits: Limits) -> Entries:
    """Every member of a tar file in its own order: its bytes if it looks like an image, else a reason."""
    meter = Meter(limits, path.stat().st_size)
    try:
        with path.open("rb") as file:
            source = _MeteredReader(_decompressed(file), meter, limits)
            with tarfile.open(fileobj=source, mode="r|", tarinfo=_StrictTarInfo) as tar:
                yield from _members(tar, source, meter)
    except DAMAGED as error:
        raise _unreadable(str(error)) from error


def _members(tar: tarfile.TarFile, source: "_MeteredReader", meter: Meter) -> Entries:
    while (member := tar.next()) is not None:
        # Neither the members nor their shared headers may pile up over half a million entries.
        tar.members = []  # type: ignore[attr-defined]  # typeshed leaves it out
        tar.pax_headers = {}
        meter.count_entry()
        source.expect(member.size)
        if member.isdir():
            continue
        try:
            yield _member(tar, member, meter.limits)
        except FileRefusedError as refusal:
            yield Dropped(member.name[:LONGEST], str(refusal))  # it may be megabytes long


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> Found:
    if member.issym():
        raise FileRefusedError("it is a symbolic link")
    if member.islnk():
        raise FileRefusedError("it is a hard link")
    if not member.isreg() or member.issparse():
        raise FileRefusedError("it is a device or another special file")
    parts = check_name(member.name)
    stream = tar.extractfile(member)
    if stream is None:
        raise FileRefusedError("it is not a regular file")
    return Found(member.name, parts, read_image(stream, limits, lambda _: None))


def _decompressed(file: BinaryIO) -> Readable:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file, mode="rb")
    if magic.startswith(b"\xfd7zXZ\x00"):
        return _XzReader(file)
    return file


class _MeteredReader(io.RawIOBase):
    """Counts what leaves the decompressor, and stops a member that takes more than it announced.

    tarfile reads headers whole into memory at whatever size they declare, which a few compressed bytes can
    make gigabytes.
    """

    def __init__(self, inner: Readable, meter: Meter, limits: Limits) -> None:
        self._inner = inner
        self._meter = meter
        self._slack = limits.header_bytes
        self._left = self._slack

    def expect(self, size: int) -> None:
        """The next `size` bytes are a member's data; its successor's headers may follow."""
        self._left = size + self._slack

    def read(self, size: int = -1, /) -> bytes:
        data = self._inner.read(size)
        self._meter.count_bytes(len(data))
        self._left -= len(data)
        if self._left < 0:
            raise DatasetError(
                "unsafe_archive",
                f"A header of the archive is larger than {self._slack / MIB:.0f} MiB.",
                "Make the archive anew with an ordinary tar or zip program.",
            )
        return data


class _XzReader:
    """An xz stream under a memory limit, which lzma.LZMAFile does not offer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = self._new_decoder()

    @staticmethod
    def _new_decoder() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while True:
            feed = b""
            if self._decoder.eof:  # another stream, or padding, may follow
                feed = (self._decoder.unused_data or self._file.read(MIB)).lstrip(b"\x00")
                if not feed:
                    return b""
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input:
                feed = self._file.read(64 * 1024)
                if not feed:
                    raise EOFError("the compressed data ends early")
            if data := self._decoder.decompress(feed, max_length=size):
                return data


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; a set cut short must not pass as whole."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HEADER_DAMAGE as error:
            raise _unreadable(str(error)) from error


HEADER_DAMAGE = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]  # typeshed leaves the subclasses of HeaderError out
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
)


def _unreadable(detail: str) -> DatasetError:
    return DatasetError(
        "unreadable_archive",
        f"The file is not a zip or tar archive, or it is damaged or incomplete ({detail}).",
        "Upload a zip, tar, tar.gz, tar.bz2 or tar.xz file of PNG, JPEG or WebP images.",
    )

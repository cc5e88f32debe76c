"""Uploaded archives and local folders as a stream of image files; nothing is extracted to disk."""

import io
import os
import stat
import zipfile
import zlib
from pathlib import Path

from models.data.entries import Dropped, Entries, Found, check_name, read_image
from models.data.errors import DatasetError, FileRefusedError
from models.data.limits import Limits, Meter, too_many_entries
from models.data.tarballs import read_tar

# zipfile expands a whole block at once with the other methods, whatever its size.
ZIP_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
DAMAGED_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError, EOFError, NotImplementedError)
DAMAGED_ENTRY = (*DAMAGED_ZIP, zlib.error, RuntimeError)


def read_archive(path: Path, limits: Limits) -> Entries:
    """The files of a zip or tar archive, told apart by content and not by name."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic in {b"PK\x03\x04", b"PK\x05\x06"}:
        return read_zip(path, limits)
    return read_tar(path, limits)


def read_zip(path: Path, limits: Limits) -> Entries:
    """Every entry of a zip file in its own order: its bytes if it looks like an image, else a reason."""
    meter = Meter(limits, path.stat().st_size)
    with _GuardedFile(path, limits) as file:
        try:
            archive = zipfile.ZipFile(file)
        except DAMAGED_ZIP as error:
            raise DatasetError(
                "unreadable_archive",
                f"The zip archive is damaged or incomplete ({error}).",
                "Upload it again, or make it anew.",
            ) from error
        file.guarding = False
        with archive:
            _refuse_overlaps(archive.infolist())
            for info in archive.infolist():
                meter.count_entry()
                if not info.is_dir():
                    yield _zip_entry(archive, info, meter)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, meter: Meter) -> Found | Dropped:
    try:
        parts = check_name(info.filename)
        _check_kind(info)
        with archive.open(info) as stream:
            return Found(info.filename, parts, read_image(stream, meter.limits, meter.count_bytes))
    except FileRefusedError as refusal:
        return Dropped(info.filename, str(refusal))
    except DAMAGED_ENTRY:
        return Dropped(info.filename, "it is damaged inside the archive")


def _check_kind(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise FileRefusedError("it is a symbolic link")
    if kind not in {0, stat.S_IFREG}:
        raise FileRefusedError("it is a device or another special file")
    if info.flag_bits & 1:
        raise FileRefusedError("it is encrypted; upload an archive without a password")
    if info.compress_type not in ZIP_METHODS:
        raise FileRefusedError("its compression method is not supported; use deflate, zip's usual one")


def _refuse_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Entries that share bytes make a small zip unpack without end; no honest program writes them."""
    previous_end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < previous_end:
            raise DatasetError(
                "unsafe_archive",
                "Entries of the zip archive overlap.",
                "Make the archive anew with an ordinary zip program.",
            )
        previous_end = info.header_offset + zipfile.sizeFileHeader + info.compress_size  # type: ignore[attr-defined]


class _GuardedFile(io.FileIO):
    """A zip file whose central directory is measured before zipfile makes an object of each record."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        self._limits = limits
        self.guarding = True

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = -1 if size is None else size
        if self.guarding and wanted > self._limits.directory_bytes:
            raise too_many_entries(self._limits)
        data = super().read(wanted) or b""
        if self.guarding and data.count(b"PK\x01\x02") > self._limits.entries:
            raise too_many_entries(self._limits)
        return data


def read_folder(root: Path, limits: Limits) -> Entries:
    """The files of a local folder, by name; links are not followed."""
    for folder, subfolders, files in os.walk(root):
        subfolders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            yield _folder_file(path, path.relative_to(root).as_posix(), limits)


def _folder_file(path: Path, name: str, limits: Limits) -> Found | Dropped:
    try:
        parts = check_name(name)
        if path.is_symlink() or not path.is_file():
            return Dropped(name, "it is a link or a special file")
        with path.open("rb") as stream:
            return Found(name, parts, read_image(stream, limits, lambda _: None))
    except FileRefusedError as refusal:
        return Dropped(name, str(refusal))
    except OSError as error:
        return Dropped(name, f"it cannot be read ({error.strerror})")

"""Stored files by key, in a folder, in S3 or behind any fsspec address; each is whole or not there."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from service.artifact_errors import explained, missing, unavailable
from service.downloads import Downloads
from service.errors import Invalid, NotFound
from service.filesystems import open_filesystem, upload_options
from service.local_files import commit, take_over

CHUNK_BYTES = 4 << 20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST_KEY = 512


class Description(NamedTuple):
    """A stored file's length, and a mark that is another one whenever the file is."""

    size: int
    version: str


class Artifacts:
    """A store of files. `cache` is where files of a store on another machine are kept once downloaded.

    A method that does not find its key raises `NotFound`; one that the store lets down, `Unavailable`.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self._fs, self._root = open_filesystem(url)
        self.is_local = isinstance(self._fs, LocalFileSystem)
        """Whether its files are on this machine, and reading a small one takes no time to speak of."""
        self._downloads = Downloads(cache or Path(tempfile.gettempdir()) / f"atelier-cache-{os.getuid()}")

    def put_file(self, local: Path, key: str) -> None:
        """Takes a file over: afterwards it is under `key` and no longer at `local`."""
        target, size = self._path(key), local.stat().st_size
        with explained():
            if self.is_local:
                take_over(local, Path(target))
                return
            self._fs.put_file(str(local), target, **upload_options(self._fs, size))
        local.unlink()

    def put_bytes(self, data: bytes, key: str) -> None:
        target = self._path(key)
        with explained():
            if self.is_local:
                commit(Path(target), lambda temporary: temporary.write_bytes(data))
            else:
                self._fs.pipe_file(target, data, **upload_options(self._fs, len(data)))

    def open(self, key: str) -> BinaryIO:
        """The file to read here and there in; `chunks` is for one that is read from end to end."""
        with explained(key):
            return self.local(key).open("rb")

    def read(self, key: str) -> bytes:
        with explained(key):
            return bytes(self._fs.cat_file(self._path(key)))

    def chunks(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`: nothing else is read, and one chunk is in memory."""
        how = {"block_size": CHUNK_BYTES, "cache_type": "none"}
        with explained(key), self._fs.open(self._path(key), "rb", **how) as file:
            file.seek(start)
            while start < stop:
                chunk = file.read(min(CHUNK_BYTES, stop - start))
                if not chunk:
                    raise OSError(errno.EIO, f"{key} is shorter than it was")
                start += len(chunk)
                yield chunk

    def exists(self, key: str) -> bool:
        try:
            self._info(key)
        except NotFound:
            return False
        return True

    def describe(self, key: str) -> Description:
        info = self._info(key)
        return Description(int(info["size"]), _hash(_mark(info)))

    def size(self, key: str) -> int:
        return self.describe(key).size

    def names(self, prefix: str) -> set[str]:
        """The files and folders right below `prefix`, by the last part of their names."""
        path = self._path(prefix)
        try:
            with explained(prefix):
                return {found.rstrip("/").rpartition("/")[2] for found in self._fs.ls(path, detail=False)}
        except NotFound:
            return set()

    def delete(self, prefix: str) -> None:
        """Removes the file of this key, or all files below it; nothing to remove is no error."""
        path = self._path(prefix)
        with contextlib.suppress(NotFound), explained(prefix):
            self._fs.rm(path, recursive=True)

    def local(self, key: str) -> Path:
        """The artifact as a file on this machine, not to be changed: the stored one or a download."""
        path, info = self._path(key), self._info(key)
        if self.is_local:
            return Path(path)
        name = key.rpartition("/")[2]
        return self._downloaded(key, {name: info}) / name

    def local_folder(self, prefix: str) -> Path:
        """A folder on this machine with all artifacts below `prefix`, not to be changed."""
        path = self._path(prefix)
        if self.is_local:
            with explained(prefix), os.scandir(path):
                return Path(path)
        with explained(prefix):
            found = self._fs.find(path, detail=True)
        below = {name.removeprefix(path): info for name, info in found.items() if info["type"] == "file"}
        # Whatever else somebody put there is none of this service's, and its name may lead anywhere.
        files = {name[1:]: info for name, info in below.items() if name[:1] == "/" and _is_key(name[1:])}
        if not files:
            raise missing(prefix)
        return self._downloaded(prefix, files)

    def check(self) -> None:
        """Raises `Unavailable` unless a file can be written, read and removed."""
        key = f"checks/{secrets.token_hex(8)}"
        self.put_bytes(b"atelier", key)
        try:
            intact = self.read(key) == b"atelier"
        except NotFound as error:
            raise unavailable() from error
        self.delete(key)
        if not intact:
            raise unavailable()

    def _info(self, key: str) -> Mapping[str, Any]:
        """What the store knows of a file; a folder is none."""
        path = self._path(key)
        with explained(key):
            info: Mapping[str, Any] = self._fs.info(path)
        if info["type"] != "file":
            raise missing(key)
        return info

    def _downloaded(self, key: str, files: Mapping[str, Mapping[str, Any]]) -> Path:
        """A folder with these files; with one that was replaced in the store it is another folder."""
        marks = [f"{name}\n{_mark(info)}" for name, info in sorted(files.items())]
        size = sum(info["size"] for info in files.values())

        def fill(folder: Path) -> None:
            for name, info in files.items():
                self._fetch(info, folder / name)

        with explained(key):
            return self._downloads.folder(_hash(self._root, key, *marks), size, fill)

    def _fetch(self, info: Mapping[str, Any], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fs.get_file(info["name"], str(target))
        except FileNotFoundError:
            raise
        except Exception:  # noqa: BLE001  once more: a connection may break within a file, which no client repeats
            self._fs.get_file(info["name"], str(target))
        if target.stat().st_size != info["size"]:
            raise OSError(errno.EIO, f"{info['name']} was replaced while it was downloaded, or came in part")

    def _path(self, key: str) -> str:
        if not _is_key(key):
            raise Invalid(
                "bad_artifact_key",
                f"{key!r} is not a key of an artifact.",
                hint="A key is names of letters, digits, '.', '_' and '-' joined by '/'.",
            )
        return f"{self._root}/{key}"


def _is_key(text: str) -> bool:
    return len(text) <= _LONGEST_KEY and all(_PART.fullmatch(part) for part in text.split("/"))


def _mark(info: Mapping[str, Any]) -> str:
    """What differs between two versions of a file: the store's own mark where it has one, else the time."""
    return str(info.get("ETag") or (info.get("mtime", info.get("created")), info["size"]))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

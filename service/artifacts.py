"""Stored files by key, in a folder or behind any fsspec address; a file is there whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import Invalid, NotFound, Unavailable

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST_KEY = 512


class Artifacts:
    """A store of files. `cache` is where files of a store on another machine are kept once downloaded."""

    def __init__(self, url: str, cache: Path | None = None) -> None:
        filesystem, root = fsspec.core.url_to_fs(url)
        self._fs: Any = filesystem
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(filesystem, LocalFileSystem)
        self._cache = cache or Path(tempfile.gettempdir()) / f"atelier-cache-{os.getuid()}"

    def put_file(self, local: Path, key: str) -> None:
        """Takes a file over: afterwards it is under `key` and no longer at `local`."""
        target = self._path(key)
        if not self._is_local:
            self._fs.put_file(str(local), target)
            local.unlink()
            return

        Path(target).parent.mkdir(parents=True, exist_ok=True)
        _sync(local)
        try:
            local.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # A rename cannot cross into another filesystem.
            _commit(Path(target), lambda temporary: shutil.copyfile(local, temporary))
            local.unlink()
        else:
            _sync(Path(target).parent)

    def put_bytes(self, data: bytes, key: str) -> None:
        target = self._path(key)
        if self._is_local:
            _commit(Path(target), lambda temporary: temporary.write_bytes(data))
        else:
            self._fs.pipe_file(target, data)

    def open(self, key: str) -> BinaryIO:
        with self._naming(key):
            return cast("BinaryIO", self._fs.open(self._path(key), "rb"))

    def read(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def exists(self, key: str) -> bool:
        return bool(self._fs.isfile(self._path(key)))

    def size(self, key: str) -> int:
        with self._naming(key):
            return int(self._fs.info(self._path(key))["size"])

    def delete(self, prefix: str) -> None:
        """Removes the file of this key, or all files below it; nothing to remove is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(prefix), recursive=True)

    def local(self, key: str) -> Path:
        """The artifact as a file on this machine, not to be changed: the stored one or a download."""
        path = self._path(key)
        if self._is_local:
            if not Path(path).is_file():
                raise _missing(key)
            return Path(path)
        with self._naming(key):
            # The store's own mark of a version, so that an artifact that was replaced is downloaded again.
            version = hashlib.sha256(f"{path}\n{self._fs.ukey(path)}".encode()).hexdigest()[:32]
            target = self._cache / version / path.rsplit("/", 1)[-1]
            if not target.is_file():
                _commit(target, lambda temporary: self._fs.get_file(path, str(temporary)))
        return target

    def local_folder(self, prefix: str) -> Path:
        """A folder on this machine with all artifacts below `prefix`, not to be changed."""
        path = self._path(prefix)
        if self._is_local:
            if not Path(path).is_dir():
                raise _missing(prefix)
            return Path(path)
        names = sorted(self._fs.find(path))
        if not names:
            raise _missing(prefix)
        versions = "\n".join(f"{name}\n{self._fs.ukey(name)}" for name in names)
        target = self._cache / hashlib.sha256(versions.encode()).hexdigest()[:32]
        if not target.is_dir():
            self._download(path, names, target)
        return target

    def check(self) -> None:
        """Raises `Unavailable` unless a file can be written, read and removed."""
        key = f"checks/{secrets.token_hex(8)}"
        try:
            self.put_bytes(b"atelier", key)
            intact = self.read(key) == b"atelier"
            self.delete(key)
        except Exception as error:  # every fsspec backend has errors of its own
            raise _unavailable() from error
        if not intact:
            raise _unavailable()

    def _download(self, path: str, names: list[str], target: Path) -> None:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            for name in names:
                file = temporary / name.removeprefix(path).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(name, str(file))
            with contextlib.suppress(OSError):  # another process was first; its copy is the same
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _path(self, key: str) -> str:
        if len(key) > _LONGEST_KEY or not all(_PART.fullmatch(part) for part in key.split("/")):
            raise Invalid(
                "bad_artifact_key",
                f"{key!r} is not a key of an artifact.",
                hint="A key is names of letters, digits, '.', '_' and '-' joined by '/'.",
            )
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _naming(self, key: str) -> Any:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError):
            raise _missing(key) from None


def _commit(target: Path, write: Callable[[Path], Any]) -> None:
    """Writes to a temporary name, forces it to the disk, and renames: the target is whole or is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _missing(key: str) -> NotFound:
    return NotFound(
        "artifact_missing", f"The artifact {key!r} is not stored.", hint="It may have been deleted."
    )


def _unavailable() -> Unavailable:
    return Unavailable(
        "artifacts_unavailable",
        "The artifact store cannot be written and read.",
        hint="Check ATELIER_ARTIFACTS_URL, its permissions and its free space.",
    )

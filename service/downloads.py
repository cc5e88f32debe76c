"""Copies of artifacts of another machine: shared by processes, bounded, and never removed in use."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from models.durable import sync
from service.artifact_errors import FULL
from service.errors import Unavailable

LIMIT_BYTES = 20 << 30
# A training holds four: its dataset, its checkpoint, another job's weights, the classifiers.
HELD = 8
GRACE = 60.0  # seconds between the making of a folder and its lock, at the very most


class Downloads:
    """Folders by name, each made whole or not at all; the ones that were not used for longest make room.

    A process holds a lock on those that it used last, `HELD` of them, and so does one that is still being
    filled. The operating system lets go of the locks of a process that ends, however it ends.
    """

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._held: OrderedDict[str, int] = OrderedDict()  # descriptors, which carry the locks
        self._lock = threading.Lock()
        weakref.finalize(self, _let_go, self._held)

    def folder(self, name: str, size: int, fill: Callable[[Path], None]) -> Path:
        """The folder of this name, not to be changed; one that is not there is filled with `size` bytes."""
        target = self._folder / name
        self._make_private()
        if (descriptor := _locked(target)) is None:
            descriptor = self._made(target, size, fill)
        os.utime(target)
        self._hold(name, descriptor)
        return target

    def _made(self, target: Path, size: int, fill: Callable[[Path], None]) -> int:
        self._make_room(size)
        try:
            return self._filled(target, fill)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise Unavailable(
                "downloads_full",
                f"There is no room on this machine for a download of {size} bytes.",
                hint="Free space on the disk of ATELIER_DATA.",
            ) from error

    def _filled(self, target: Path, fill: Callable[[Path], None]) -> int:
        """Fills a folder and renames it to the target; the descriptor that holds it."""
        while True:
            temporary = target.with_name(f".{secrets.token_hex(8)}")
            temporary.mkdir(mode=0o700)
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                fill(temporary)
                for path in _below(temporary):
                    sync(path)
                if _renamed(temporary, target):
                    return descriptor
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                os.close(descriptor)
                raise
            # Another process was first; its copy is the same, and may have been removed since.
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(descriptor)
            if (other := _locked(target)) is not None:
                return other

    def _hold(self, name: str, descriptor: int) -> None:
        with self._lock:
            before = self._held.pop(name, None)
            self._held[name] = descriptor
            oldest = self._held.popitem(last=False)[1] if len(self._held) > HELD else None
        for done in (before, oldest):
            if done is not None:
                os.close(done)

    def _make_room(self, size: int) -> None:
        """Removes what killed processes left, and the longest unused until `size` more bytes fit."""
        found = [(path, *_used_and_size(path)) for path in self._folder.iterdir()]
        total = sum(bytes_ for _, _, bytes_ in found)
        for path, used, bytes_ in sorted(found, key=lambda one: one[1]):
            left_over = path.name.startswith(".") and time.time() - used > GRACE
            full = total + size > self._limit or shutil.disk_usage(self._folder).free < size
            if (left_over or (full and not path.name.startswith("."))) and _removed(path):
                total -= bytes_

    def _make_private(self) -> None:
        """Nobody else may put files here, which this user would take for the store's."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise Unavailable(
                "downloads_unsafe",
                f"The folder for downloads, {self._folder}, belongs to somebody else.",
                hint="Remove it, or give this process an ATELIER_DATA of its own.",
            )
        if found.st_mode & 0o077:
            self._folder.chmod(0o700)


def _let_go(held: OrderedDict[str, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)


def _locked(path: Path, how: int = fcntl.LOCK_SH) -> int | None:
    """A descriptor of the folder with a lock on it; None where there is no such folder, or no such lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
        # It may have been removed, and even replaced, before the lock was had.
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except OSError:  # somebody uses it, or it has just been removed
        os.close(descriptor)
        return None
    os.close(descriptor)
    return None


def _removed(path: Path) -> bool:
    """Whether nobody used it, so that it is gone now."""
    descriptor = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return False
    try:
        # By another name first: a process that is killed here must not leave half of it under its own.
        away = path.with_name(f".{secrets.token_hex(8)}")
        path.rename(away)
        shutil.rmtree(away, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True


def _renamed(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # whatever has become of the other one since
            return False
        raise
    return True


def _used_and_size(path: Path) -> tuple[float, int]:
    """When it was last used, and how many bytes it holds; what goes while it is looked at counts nothing."""
    try:
        used = path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0, 0
    return used, sum(_size(file) for file in _below(path))


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)

"""Puts files where they are to stay on this machine: whole, on the disk, or not at all."""

import errno
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.durable import sync


def commit(target: Path, write: Callable[[Path], Any]) -> None:
    """Writes to a temporary name, forces it to the disk, and renames."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def take_over(source: Path, target: Path) -> None:
    """Moves a file: by a rename, or as a copy where the target is on another filesystem."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(source)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        commit(target, lambda temporary: shutil.copyfile(source, temporary))
        source.unlink()
    else:
        sync(target.parent)

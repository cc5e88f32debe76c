"""Files that are still there after the power went."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SavedFile:
    """A file on disk."""

    path: Path
    sha256: str
    size_bytes: int


def sync_folder(folder: Path) -> None:
    """What was renamed in it stays renamed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

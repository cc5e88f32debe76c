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


def sync(path: Path) -> None:
    """What was written to the file, or renamed in the folder, stays so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

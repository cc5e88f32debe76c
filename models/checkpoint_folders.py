"""The folder of one checkpoint: its files, and a manifest, written last, that says they are all there."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.durable import SavedFile, sync

MANIFEST = "manifest.json"
STATE = "state.safetensors"
"""What a run needs beside its weights to go on; without it the weights still make images."""


def files(folder: Path) -> list[Path]:
    """The checkpoint's files, the manifest last: whoever copies them in this order copies it whole or not."""
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    return [*(folder / name for name in sorted(listed)), folder / MANIFEST]


def commit(folder: Path, saved: Iterable[SavedFile]) -> None:
    """Write the manifest of files that lie in `folder`: until then there is no checkpoint."""
    listed = {file.path.name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for file in saved}
    part = folder / f".{MANIFEST}.part"
    part.write_text(json.dumps({"files": listed}, indent=1) + "\n")
    part.replace(folder / MANIFEST)
    sync(folder)
    sync(folder.parent)


def is_intact(folder: Path) -> bool:
    """Whether every file is there as it was written, to the last bit."""
    try:
        listed = json.loads((folder / MANIFEST).read_text())["files"]
        return bool(listed) and all(
            sha256_of(folder / Path(name).name) == facts["sha256"] for name, facts in listed.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def newest_first(parent: Path) -> Iterator[Path]:
    """The folders in `parent` that are named by a step and are intact, the highest step first."""
    folders = (folder for folder in parent.glob("*") if folder.name.isdecimal())
    return (folder for folder in sorted(folders, key=lambda one: -int(one.name)) if is_intact(folder))


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The folder of one checkpoint: its files, and a manifest, written last, that says they are all there."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.tensor_files import SavedFile, sync_folder

MANIFEST = "manifest.json"


def commit(folder: Path, files: Iterable[SavedFile]) -> None:
    """Write the manifest of files that lie in `folder`: until then there is no checkpoint."""
    listed = {file.path.name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for file in files}
    part = folder / f".{MANIFEST}.part"
    part.write_text(json.dumps({"files": listed}, indent=1) + "\n")
    part.replace(folder / MANIFEST)
    sync_folder(folder)
    sync_folder(folder.parent)


def is_intact(folder: Path) -> bool:
    """Whether every file is there as it was written, to the last bit."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return bool(files) and all(
            _sha256(folder / Path(name).name) == facts["sha256"] for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def newest_first(parent: Path) -> Iterator[Path]:
    """The folders in `parent` that are named by a step and are intact, the highest step first."""
    folders = (folder for folder in parent.glob("*") if folder.name.isdecimal())
    return (folder for folder in sorted(folders, key=lambda one: -int(one.name)) if is_intact(folder))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

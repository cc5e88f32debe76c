"""A data set by name or path, packed at first use: what `python -m models train` calls."""

import hashlib
import os
from pathlib import Path

from models.data.builtin import LOADERS, build_builtin
from models.data.errors import DatasetError
from models.data.packed import FACTS, VERSION, PackedDataset, cached
from models.data.packing import pack_archive, pack_folder


def default_cache() -> Path:
    """`ATELIER_CACHE`, or ~/.cache/atelier."""
    return Path(os.environ.get("ATELIER_CACHE") or Path.home() / ".cache" / "atelier")


def open_dataset(name_or_path: str, cache: Path | None = None) -> PackedDataset:
    """A built-in name, a packed folder, a folder of images, or an archive of images.

    What has to be packed is kept in `cache` (by default `default_cache()`) for the next time.
    """
    cache = cache or default_cache()
    if name_or_path in LOADERS:
        target = cache / f"{name_or_path}-v{VERSION}"
        return cached(
            target, lambda folder: build_builtin(name_or_path, folder, downloads=cache / "downloads")
        )
    path = Path(name_or_path).expanduser()
    if (path / FACTS).is_file():
        return PackedDataset.open(path)
    if not path.exists():
        raise DatasetError(
            "unknown_dataset",
            f"{name_or_path!r} is neither a built-in data set nor a file or folder.",
            f"Use {' or '.join(LOADERS)}, or the path of an archive or folder of images.",
        )
    pack = pack_folder if path.is_dir() else pack_archive
    target = cache / f"files-{_state_of(path)}-v{VERSION}"
    return cached(target, lambda folder: pack(path, folder))


def _state_of(path: Path) -> str:
    """A hash of where the files are, how large, and when they were written, which a change of any changes."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        state = file.lstat()
        digest.update(
            os.fsencode(file.absolute()) + f"\x00{state.st_size}\x00{state.st_mtime_ns}\x00".encode()
        )
    return digest.hexdigest()[:32]

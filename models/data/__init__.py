"""Images -> packed uint8 arrays -> a seeded, resumable stream of batches.

Everything but the stream is free of torch; the stream is imported when it is first asked for, so that a
process that only packs never pays for it.
"""

from typing import TYPE_CHECKING, Any

from models.data.builtin import build_builtin
from models.data.errors import DatasetError
from models.data.opening import default_cache, open_dataset
from models.data.packed import PackedDataset
from models.data.packing import pack_archive, pack_folder

if TYPE_CHECKING:
    from models.data.stream import BatchStream, split

__all__ = [
    "BatchStream",
    "DatasetError",
    "PackedDataset",
    "build_builtin",
    "default_cache",
    "open_dataset",
    "pack_archive",
    "pack_folder",
    "split",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in {"BatchStream", "split"}:
            from models.data import stream

            return getattr(stream, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

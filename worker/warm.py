"""Checkpoints that a sampling worker has in memory: those that were used last, within a number of bytes."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch

from models.checkpoints import LoadedCheckpoint
from models.out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)


class Kept(NamedTuple):
    """A loaded checkpoint and the bytes of its tensors."""

    loaded: LoadedCheckpoint
    size_bytes: int


class WarmCheckpoints:
    """By id and content: a step that was trained again keeps its id. Others may look and drop, one loads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, checkpoint_id: str, sha256: str, load: Callable[[], LoadedCheckpoint]) -> LoadedCheckpoint:
        """The checkpoint, loaded if it is not here. One that is larger than the limit stays alone."""
        key = checkpoint_id, sha256
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key].loaded
        loaded = self._load(load)
        with self._lock:
            self._kept[key] = Kept(loaded, size_of(loaded))
            while len(self._kept) > 1 and sum(kept.size_bytes for kept in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return loaded

    def drop(self, checkpoint_ids: Collection[str] | None = None) -> None:
        """Let go of these, or of all."""
        with self._lock:
            for key in list(self._kept):
                if checkpoint_ids is None or key[0] in checkpoint_ids:
                    del self._kept[key]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def told(self) -> list[dict[str, Any]]:
        """What is here, the one that was used last at the end."""
        with self._lock:
            return [
                {"checkpoint_id": checkpoint_id, "size_bytes": kept.size_bytes}
                for (checkpoint_id, _), kept in self._kept.items()
            ]

    def _load(self, load: Callable[[], LoadedCheckpoint]) -> LoadedCheckpoint:
        """Without room beside the others it is tried without them."""
        try:
            return load()
        except Exception as error:
            if not is_out_of_memory(error) or not self._kept:
                raise
            logger.warning("memory is short: the checkpoints that were in it are dropped")
        self.drop()
        return load()


def size_of(loaded: LoadedCheckpoint) -> int:
    networks = loaded.networks.values()
    return sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())

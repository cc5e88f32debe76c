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
    """A loaded checkpoint, its id, and the bytes of its tensors."""

    checkpoint_id: str
    loaded: LoadedCheckpoint
    size_bytes: int


class WarmCheckpoints:
    """By content: a step that was trained again keeps its id. Other threads may look and drop, one loads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha256: str, checkpoint_id: str, load: Callable[[], LoadedCheckpoint]) -> LoadedCheckpoint:
        """The checkpoint, loaded if it is not here. One that is larger than the limit stays alone."""
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
                return self._kept[sha256].loaded
        loaded = self._load(load)
        with self._lock:
            self._kept[sha256] = Kept(checkpoint_id, loaded, size_of(loaded))
            while len(self._kept) > 1 and sum(kept.size_bytes for kept in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return loaded

    def drop(self, checkpoint_ids: Collection[str] | None = None) -> None:
        """Let go of these, or of all."""
        with self._lock:
            for sha256, kept in list(self._kept.items()):
                if checkpoint_ids is None or kept.checkpoint_id in checkpoint_ids:
                    del self._kept[sha256]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def told(self) -> list[dict[str, Any]]:
        """What is here, the one that was used last at the end."""
        with self._lock:
            return [
                {"checkpoint_id": kept.checkpoint_id, "size_bytes": kept.size_bytes}
                for kept in self._kept.values()
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

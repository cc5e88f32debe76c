"""The seeded, resumable stream of batches: no workers, pixels normalised and augmented on the device."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.packed import PackedDataset
from models.spec.augmentation import AugmentationSpec


def split(dataset: PackedDataset, held_out: float) -> tuple[Tensor, Tensor]:
    """Image numbers to train on and to hold out (a fraction of all), both in shuffled order.

    The split depends on the number of images alone, so that runs with different seeds and at different
    resolutions hold out the same images and can be compared.
    """
    order = torch.randperm(dataset.count, generator=_generator("held out", dataset.count))
    number = int(dataset.count * held_out)
    return order[number:], order[:number]


class BatchStream:
    """Endless batches of a packed set, in an order drawn anew for each epoch from (seed, epoch) alone.

    Batches run across the ends of epochs, so that every image is shown equally often and a set may be smaller
    than a batch. The state is one epoch and one position, which also seed the augmentations of the batch that
    begins there: a stream restored to it goes on bit for bit, and in the same order even with another batch
    size.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        indices: Tensor | None = None,
        augmentations: Sequence[AugmentationSpec] = (),
        value_range: tuple[int, int] = (-1, 1),
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        self._indices = torch.arange(dataset.count) if indices is None else indices.cpu()
        self._augmentations = tuple(augmentations)
        self._low, self._high = value_range
        if batch_size < 1 or len(self._indices) == 0:
            raise ValueError(
                f"batches of {batch_size} from {len(self._indices)} images: both must be at least 1"
            )
        self._labels = torch.from_numpy(np.array(dataset.labels, np.int64))
        self._resident = self._load() if not isinstance(dataset.images, np.memmap) else None
        self._epoch = self._draw(0)
        self._position = 0

    def next(self) -> tuple[Tensor, Tensor]:
        """Images as float32 B,C,H,W in the range on the device, and their labels as int64 B (-1 for none)."""
        seed = _seed("augmentations", self._seed, self._epoch.number, self._position)
        images, labels = self._read(torch.cat(list(self._take())))
        if self._augmentations:
            from models.data.augmentation import augment  # here: torchvision takes a second to import

            images, labels = augment(images, labels, self._augmentations, seed)
        return self._ranged(images), labels

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images of these numbers, never augmented, and their labels, on the device."""
        images, labels = self._read(indices)
        return self._ranged(images), labels

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch.number,
            "position": self._position,
            "seed": self._seed,
            "images": len(self._indices),
            "content_hash": self._dataset.content_hash,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the stream that gave `state` stood; it must be of the same data and seed."""
        for key in ("seed", "images", "content_hash"):
            mine = self.state_dict()[key]
            if state[key] != mine:
                raise ValueError(
                    f"the stream's {key} was {state[key]} and is now {mine}: it cannot be resumed"
                )
        self._epoch = self._draw(int(state["epoch"]))
        self._position = int(state["position"])

    def _take(self) -> Iterator[Tensor]:
        """The numbers of the next batch, as pieces of one epoch or more."""
        missing = self._batch_size
        while missing:
            if self._position == len(self._indices):
                self._epoch, self._position = self._draw(self._epoch.number + 1), 0
            piece = self._epoch.order[self._position : self._position + missing]
            self._position += len(piece)
            missing -= len(piece)
            yield piece

    def _draw(self, number: int) -> "_Epoch":
        generator = _generator(self._seed, number)
        order = self._indices[torch.randperm(len(self._indices), generator=generator)]
        return _Epoch(number, order)

    def _read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images of these numbers in [0, 1], which share no memory with the set, and their labels."""
        indices = indices.cpu()
        return self._pixels(indices).float().div_(255), self._labels[indices].to(self._device)

    def _ranged(self, images: Tensor) -> Tensor:
        return images.mul_(self._high - self._low).add_(self._low)

    def _load(self) -> Tensor:
        return _tensor(self._dataset.images).to(self._device)

    def _pixels(self, indices: Tensor) -> Tensor:
        if self._resident is not None:
            return self._resident[indices.to(self._device)]
        rows = torch.from_numpy(self._dataset.images[indices.numpy()])
        if self._device.type == "cuda":
            return rows.pin_memory().to(self._device, non_blocking=True)
        return rows.to(self._device)


@dataclass(frozen=True)
class _Epoch:
    """The order of one pass over the images."""

    number: int
    order: Tensor


def _generator(*of: int | str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(_seed(*of))


def _seed(*of: int | str) -> int:
    """63 bits of a hash."""
    digest = hashlib.sha256("/".join(map(str, of)).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def _tensor(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Shares memory when it may; a read-only array is copied, since torch cannot promise not to write."""
    return torch.from_numpy(images if images.flags.writeable else images.copy())

"""A packed data set: a folder of images.npy, labels.npy and dataset.json, and nothing else to know.

A set that was made of files also has names.json: which image came from which.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.errors import DatasetError
from models.spec.data import DatasetFacts, pixel_std

VERSION = 1
MAPPED_FROM = 512 * 1024**2  # bytes of pixels that are no longer held in memory
IMAGES, LABELS, FACTS = "images.npy", "labels.npy", "dataset.json"
PACKED_FILES = (IMAGES, LABELS, FACTS)
HASHED_AT_ONCE = 256  # images
NAMES = "names.json"
"""Beside them where the set was made of files: the file that each image came from."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PackedDataset:
    """Uint8 images N,C,H,W (C is 1 or 3, H = W) with int32 labels N, where -1 is no label.

    `mean` and `std` are per channel, of pixels scaled to [0, 1].
    """

    folder: Path
    name: str
    count: int
    channels: int
    resolution: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    content_hash: str
    dropped: tuple[Mapping[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The set packed in `folder`; its images are read, or mapped, at first use."""
        try:
            facts: dict[str, Any] = json.loads((folder / FACTS).read_text("utf-8"))
            if facts.pop("version") != VERSION:
                raise _damaged(folder, "it was packed by another version of Atelier")
            for key in ("classes", "mean", "std", "dropped"):
                facts[key] = tuple(facts[key])
            opened = cls(folder=folder, **facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder, f"{FACTS}: {error}") from error
        opened._check_arrays()
        return opened

    @cached_property
    def images(self) -> Pixels:
        """N,C,H,W; memory-mapped and read-only when larger than 512 MB."""
        path = self.folder / IMAGES
        mapped = path.stat().st_size > MAPPED_FROM
        images: Pixels = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return images

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        labels: NDArray[np.int32] = np.load(self.folder / LABELS, allow_pickle=False)
        return labels

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """The file that each image came from, as a report may show it; None where that is not known."""
        path = self.folder / NAMES
        return tuple(json.loads(path.read_text("utf-8"))) if path.is_file() else None

    def class_counts(self) -> dict[str, int]:
        """How many images each class has; empty for an unlabelled set."""
        numbers = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return {name: int(number) for name, number in zip(self.classes, numbers, strict=True)}

    @property
    def facts(self) -> DatasetFacts:
        """What a spec needs to know of this set to be resolved."""
        std = pixel_std(self.mean, self.std)
        return DatasetFacts(self.name, self.count, self.resolution, self.channels, self.classes, std)

    def at(self, resolution: int, channels: int, cache: Path | None = None) -> "PackedDataset":
        """The same images at another size (LANCZOS) or in grey or colour, kept in `cache` for the next time.

        Without a cache folder the copy is kept beside this one.
        """
        if (resolution, channels) == (self.resolution, self.channels):
            return self
        if channels not in (1, 3):
            raise DatasetError(
                "bad_channels",
                f"Images have 1 or 3 channels, not {channels}.",
                "Set data.channels to 1 or 3.",
            )
        stem = f"packed-{self.content_hash[:32]}-{resolution}x{channels}"
        rows = (converted(image, resolution, channels) for image in self.images)
        shape = (self.count, channels, resolution, resolution)
        return cached(
            self.folder.with_name(stem) if cache is None else cache / stem,
            lambda folder: write_packed(
                folder, self.name, rows, shape, self.labels, self.classes, self.dropped
            ),
        )

    def check_content(self) -> None:
        """Reads all of it; DatasetError unless it is what was packed, to the last bit."""
        images = np.load(self.folder / IMAGES, mmap_mode="r", allow_pickle=False)
        digest = _digest(self._shape)
        for start in range(0, self.count, HASHED_AT_ONCE):
            digest.update(images[start : start + HASHED_AT_ONCE].tobytes())
        if _finished(digest, self.labels, self.classes) != self.content_hash:
            raise _damaged(self.folder, f"{IMAGES} or {LABELS} is not what was packed")

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return (self.count, self.channels, self.resolution, self.resolution)

    def _check_arrays(self) -> None:
        shape = self._shape
        for file, dtype, expected in ((IMAGES, np.uint8, shape), (LABELS, np.int32, (self.count,))):
            try:
                array = np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise _damaged(self.folder, f"{file}: {error}") from error
            if array.shape != expected or array.dtype != dtype:
                raise _damaged(self.folder, f"{file} holds {array.dtype}{array.shape}, not {expected}")


def write_packed(
    folder: Path,
    name: str,
    rows: Iterable[Pixels],
    shape: tuple[int, int, int, int],
    labels: NDArray[np.int32],
    classes: Sequence[str],
    dropped: Sequence[Mapping[str, str]] = (),
) -> PackedDataset:
    """Write `rows` (uint8 C,H,W; shape[0] of them) one by one, so that memory does not grow with the set."""
    folder.mkdir(parents=True, exist_ok=True)
    count, channels, resolution, _ = shape
    histogram = np.zeros((channels, 256), np.int64)
    digest = _digest(shape)
    written = 0
    with (folder / IMAGES).open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            data = row.tobytes()
            file.write(data)
            digest.update(data)
            histogram += _histogram(row)
            written += 1
    if written != count:
        raise ValueError(f"{written} images were written where {count} were announced")
    labels = labels.astype(np.int32)
    np.save(folder / LABELS, labels)
    mean, std = _moments(histogram)
    packed = PackedDataset(
        folder,
        name,
        count,
        channels,
        resolution,
        tuple(classes),
        mean,
        std,
        _finished(digest, labels, classes),
        tuple(dropped),
    )
    facts = {"version": VERSION, **asdict(packed)}
    del facts["folder"]
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False), "utf-8")
    return packed


def converted(image: Pixels, resolution: int, channels: int) -> Pixels:
    """One C,H,W image resized by LANCZOS and turned into grey (ITU-R 601 luma) or colour."""
    picture = Image.fromarray(
        image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    )
    picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(picture.resize((resolution, resolution), Image.Resampling.LANCZOS))
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def cached(target: Path, build: Callable[[Path], object]) -> PackedDataset:
    """The set in `target`, built there if it is missing or damaged."""
    if target.is_dir():
        try:
            packed = PackedDataset.open(target)
            packed.check_content()
        except DatasetError:
            shutil.rmtree(target, ignore_errors=True)
        else:
            return packed
    with _becoming(target) as folder:
        build(folder)
    return PackedDataset.open(target)


@contextmanager
def _becoming(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `target` at the end; whoever finishes first wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _digest(shape: Sequence[int]) -> "hashlib._Hash":
    """Of what a set holds: its shape, then each image's bytes; `_finished` adds labels and classes."""
    return hashlib.sha256(repr(tuple(int(size) for size in shape)).encode())


def _finished(digest: "hashlib._Hash", labels: NDArray[np.int32], classes: Sequence[str]) -> str:
    digest.update(labels.astype("<i4").tobytes())
    digest.update(json.dumps(list(classes)).encode())
    return digest.hexdigest()


def _histogram(row: Pixels) -> NDArray[np.int64]:
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in row])


def _moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel from exact counts, so that no order of summing can matter."""
    values = np.arange(256)
    total = histogram.sum(axis=1)
    mean = (histogram @ values) / total
    variance = (histogram @ values**2) / total - mean**2
    std = np.sqrt(np.maximum(variance, 0.0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _damaged(folder: Path, detail: str) -> DatasetError:
    place = Path(*folder.parts[-3:])  # errors are shown to clients, whom the rest of the path tells nothing
    return DatasetError(
        "damaged_dataset",
        f"{place} is not a packed data set, or it is damaged ({detail}).",
        "Put a backup in its place, or upload the images again.",
    )

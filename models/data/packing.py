"""An archive or a folder of images -> a packed data set, with a report of every file that was left out."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from models.data import names
from models.data.archives import read_archive, read_folder
from models.data.cleaning import clean, shorter_side
from models.data.entries import LITTER, Dropped, Entries, Found
from models.data.errors import DatasetError, FileRefusedError
from models.data.labelling import Labelled, Row, label
from models.data.limits import GIB, Limits
from models.data.packed import NAMES, PackedDataset, Pixels, write_packed

RESOLUTIONS = (16, 32, 64, 128, 256)
ROOMY = 4 * GIB  # a chosen resolution keeps the packed set below this
SCRATCH = "scratch.bin"

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True)
class Survey:
    """What a first look at the headers found: how many files there are, and their shorter sides."""

    files: int
    sides: Counter[int]


def pack_archive(
    archive: Path,
    folder: Path,
    *,
    resolution: int | None = None,
    name: str | None = None,
    progress: Progress = silent,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> PackedDataset:
    """Pack the zip or tar `archive` into `folder`, within constant memory; DatasetError says why not.

    Without a `resolution` the smallest of 16 to 256 that holds the median image is taken.
    The result depends on the files in the archive alone, not on their order.
    """
    source = Source(lambda: read_archive(archive, limits), name or archive.stem)
    return _pack(source, folder, resolution, progress, limits)


def pack_folder(images: Path, folder: Path) -> PackedDataset:
    """Pack a local folder of images as `pack_archive` packs an archive of it."""
    limits = Limits()
    source = Source(lambda: read_folder(images, limits), images.name)
    return _pack(source, folder, None, silent, limits)


@dataclass(frozen=True)
class Source:
    """Files that can be read through more than once, and what to call the set made of them."""

    entries: Callable[[], Entries]
    name: str


def choose_resolution(sides: Counter[int], count: int) -> int:
    """The smallest resolution that holds the median side, halved while the set would pass four gigabytes."""
    ordered = sorted(sides.elements())
    median = ordered[len(ordered) // 2] if ordered else RESOLUTIONS[0]
    chosen = next((size for size in RESOLUTIONS if size >= median), RESOLUTIONS[-1])
    while count * 3 * chosen**2 > ROOMY and chosen > RESOLUTIONS[0]:
        chosen //= 2
    return chosen


def _pack(
    source: Source, folder: Path, resolution: int | None, progress: Progress, limits: Limits
) -> PackedDataset:
    survey = _survey(source.entries(), progress)
    size = resolution or choose_resolution(survey.sides, survey.files)
    if survey.files * 3 * size**2 > limits.packed_bytes:
        raise DatasetError(
            "dataset_too_large",
            f"{survey.files:,} images at {size} pixels are more than {limits.packed_bytes / GIB:.0f} GiB.",
            "Choose a smaller resolution or fewer images.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / SCRATCH
    try:
        with scratch.open("w+b") as file:
            rows, dropped = _decode(source.entries(), survey.files, size, file, progress)
            labelled = label(rows, limits)
            report = _report(dropped + labelled.dropped, limits)
            if not labelled.rows:
                raise _no_images(report, survey.files)
            return _write(folder, source.name, labelled, size, file, report)
    finally:
        scratch.unlink(missing_ok=True)


def _survey(entries: Entries, progress: Progress) -> Survey:
    """Count the files and look at their sizes; the total of the progress grows while they are found."""
    files, sides = 0, Counter[int]()
    for entry in entries:
        files += 1
        if isinstance(entry, Found):
            try:
                sides[shorter_side(entry.data)] += 1
            except FileRefusedError:
                continue  # the second reading reports it, with the reason
        progress(0, files)
    return Survey(files, sides)


def _decode(
    entries: Entries, total: int, resolution: int, scratch: BinaryIO, progress: Progress
) -> tuple[list[Row], list[Dropped]]:
    """Clean every image into the scratch file, in the order of the archive."""
    rows: list[Row] = []
    dropped: list[Dropped] = []
    folders: dict[str, str] = {}  # one string for each folder, not one for each image
    offset = 0
    for done, entry in enumerate(entries, start=1):
        if isinstance(entry, Dropped):
            dropped.append(entry)
        else:
            try:
                pixels = clean(entry.data, resolution)
            except FileRefusedError as refusal:
                dropped.append(Dropped(entry.name, str(refusal)))
            else:
                path = "/".join(entry.parts[:-1])
                # Three equal channels were reduced to one, so that equal pictures have equal bytes.
                digest = hashlib.sha256(pixels.tobytes()).digest()
                grey = pixels.shape[0] == 1
                rows.append(Row(entry.name, folders.setdefault(path, path), digest, offset, grey))
                offset += scratch.write(pixels.tobytes())
        progress(done, max(done, total))
    return rows, dropped


def _write(
    folder: Path,
    name: str,
    labelled: Labelled,
    resolution: int,
    scratch: BinaryIO,
    report: list[dict[str, str]],
) -> PackedDataset:
    channels = 1 if all(row.grey for row in labelled.rows) else 3
    shape = (len(labelled.rows), channels, resolution, resolution)
    pixels = _pixels(labelled.rows, channels, resolution, scratch)
    labels = np.array(labelled.labels, np.int32)
    packed = write_packed(folder, name, pixels, shape, labels, labelled.classes, report)
    files = [names.display(row.name) for row in labelled.rows]
    (folder / NAMES).write_text(json.dumps(files, ensure_ascii=False), "utf-8")
    return packed


def _pixels(rows: list[Row], channels: int, resolution: int, scratch: BinaryIO) -> Iterator[Pixels]:
    for row in rows:
        stored = 1 if row.grey else 3
        scratch.seek(row.offset)
        data = scratch.read(stored * resolution**2)
        image = np.frombuffer(data, np.uint8).reshape(stored, resolution, resolution)
        yield np.broadcast_to(image, (channels, resolution, resolution))


def _report(dropped: list[Dropped], limits: Limits) -> list[dict[str, str]]:
    """Each dropped file by name, in order; litter, and what is too much to list, in one line each."""
    litter = sum(entry.reason == LITTER for entry in dropped)
    listed = sorted(
        (entry for entry in dropped if entry.reason != LITTER), key=lambda entry: (entry.name, entry.reason)
    )
    report = [
        {"name": names.display(entry.name), "reason": entry.reason} for entry in listed[: limits.reported]
    ]
    if len(listed) > limits.reported:
        more = len(listed) - limits.reported
        report.append({"name": "…", "reason": f"{more:,} more files were dropped; they are not listed"})
    if litter:
        report.append({"name": "__MACOSX, .DS_Store, Thumbs.db …", "reason": f"{LITTER} ({litter:,} files)"})
    return report


def _no_images(report: list[dict[str, str]], files: int) -> DatasetError:
    example = f" For example {report[0]['name']}: {report[0]['reason']}." if report else ""
    return DatasetError(
        "no_images",
        f"The archive holds no usable image ({files:,} files were dropped).{example}",
        "Upload PNG, JPEG or WebP images of at least 8×8 pixels, flat or in one folder for each class.",
        dropped=report,
    )

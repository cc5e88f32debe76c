"""Which class each image belongs to, and which images say the same thing twice or contradict each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.data import names
from models.data.entries import Dropped
from models.data.errors import DatasetError
from models.data.limits import Limits

UNLABELLED = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One decoded image: its entry name, its folder, and where its pixels wait in the scratch file."""

    name: str
    folder: str  # "a/b" of the entry a/b/1.png
    digest: bytes
    offset: int
    grey: bool


@dataclass(frozen=True)
class Labelled:
    """The images that stay, in order, with the class of each (-1 for none), and those that went."""

    rows: list[Row]
    labels: list[int]
    classes: tuple[str, ...]
    dropped: list[Dropped]


def label(rows: Sequence[Row], limits: Limits) -> Labelled:
    """Sort by name, take each image's class from its folder, drop strays, duplicates and contradictions.

    The class is the folder directly around the image. One folder around everything is no class. When some
    images lie in class folders and some outside, the larger group decides what kind of set this is and the
    smaller is dropped: a logo beside ten classes, or a forgotten subfolder beside ten thousand flat images.
    """
    ordered = sorted(rows, key=lambda row: (row.name, row.digest))
    classes_of, strays = _classes(ordered)
    kept, repeated = _distinct([row for row in ordered if classes_of[row.folder] is not None], classes_of)
    kept_classes = [classes_of[row.folder] or UNLABELLED for row in kept]
    classes = tuple(sorted(set(kept_classes) - {UNLABELLED}))
    if len(classes) > limits.classes:
        raise DatasetError(
            "too_many_classes",
            f"The archive has {len(classes):,} classes (folders); at most {limits.classes:,} are allowed.",
            "Put the images flat into the archive if their folders are no classes.",
        )
    number = {name: index for index, name in enumerate(classes)} | {UNLABELLED: -1}
    return Labelled(kept, [number[name] for name in kept_classes], classes, strays + repeated)


def _classes(rows: Sequence[Row]) -> tuple[dict[str, str | None], list[Dropped]]:
    """The class of each folder: UNLABELLED in a flat set, None for folders whose images are strays."""
    folders = {row.folder for row in rows}
    top = _common_top(folders)
    flat = sum(row.folder == top for row in rows)
    if flat == 0 or flat * 2 <= len(rows):
        classes = {folder: _class_name(folder) if folder != top else None for folder in folders}
        reason = "it lies outside the class folders"
    else:
        classes = {folder: UNLABELLED if folder == top else None for folder in folders}
        reason = "it lies in a subfolder, while most images lie flat and have no class"
    strays = [Dropped(row.name, reason) for row in rows if classes[row.folder] is None]
    return classes, strays


def _common_top(folders: set[str]) -> str:
    """The longest path that begins every folder ("" for none): the wrapping of the archive."""
    split = [folder.split("/") if folder else [] for folder in folders]
    first, last = min(split, default=[]), max(split, default=[])
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return "/".join(first[:shared])


def _class_name(folder: str) -> str:
    return names.display(folder.rpartition("/")[2], limit=100)


def _distinct(rows: Sequence[Row], classes_of: dict[str, str | None]) -> tuple[list[Row], list[Dropped]]:
    """One image of each set of identical ones; none where they lie under different classes."""
    first: dict[bytes, Row] = {}
    classes: dict[bytes, set[str]] = {}
    for row in rows:
        first.setdefault(row.digest, row)
        classes.setdefault(row.digest, set()).add(classes_of[row.folder] or UNLABELLED)
    kept, dropped = [], []
    for row in rows:
        among = classes[row.digest]
        if len(among) > 1:
            listed = ", ".join(sorted(among)[:5])
            dropped.append(Dropped(row.name, f"the same picture lies under different classes ({listed})"))
        elif first[row.digest] is not row:
            original = names.display(first[row.digest].name)
            dropped.append(Dropped(row.name, f"it is a duplicate of {original}"))
        else:
            kept.append(row)
    return kept, dropped

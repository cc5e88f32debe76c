"""Datasets: claims a pending one, packs it, stores it, and records what was found or why it failed."""

import contextlib
import io
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from models.data import DatasetError, PackedDataset, build_builtin, pack_archive
from models.data.packed import NAMES, PACKED_FILES
from models.data.preview import draw_preview
from service.errors import NotFound, Unavailable
from service.records import datasets
from service.records.database import Database
from worker.failures import failure
from worker.resources import Resources
from worker.supervisor import worker_name

logger = logging.getLogger(__name__)

WRITE_EVERY = 0.5  # seconds between two writes of changed progress
RENEW_EVERY = 20.0  # seconds between two writes of unchanged progress; the lease lasts longer
MEMORY_HINT = "Upload fewer or smaller images, or give the worker more memory."
FAILURE_HINT = "The worker's log holds the details. Upload the archive again; if it fails again, report it."


@dataclass(frozen=True)
class Task:
    """A claimed dataset: what to pack, at which resolution, as which attempt."""

    dataset_id: str
    attempt: int
    name: str
    builtin: bool
    resolution: int | None


def prepare(dataset_id: str, resources: Resources) -> None:
    """Pack a pending dataset and make it `ready` or `failed`; nothing happens if it is done or another's.

    While the database is away the dataset stays pending: its lease runs out, and the reconciler has it tried
    again.
    """
    task = _claim(dataset_id, resources.database)
    if task is None:
        return
    try:
        with _own_folder(task, resources) as folder, ProgressWriter(resources.database, task) as progress:
            packed = _pack(task, resources, folder, progress)
            classes = packed.class_counts()
            _store(task, resources, packed)
        recorded = _record(task, resources.database, packed, classes)
    except LostError:
        recorded = False
    except Unavailable as error:
        logger.warning("dataset %s: attempt %d is given up: %s", dataset_id, task.attempt, error)
        return
    except DatasetError as error:
        logger.info("dataset %s cannot be used: %s", dataset_id, error.message)
        recorded = _record_failure(task, resources.database, error)
    except Exception as error:
        logger.exception("dataset %s: attempt %d failed", dataset_id, task.attempt)
        recorded = _record_failure(task, resources.database, error)
    else:
        if recorded:
            resources.artifacts.delete(_upload(task))  # everything of it that is used is packed
    if not recorded:
        logger.warning("dataset %s: attempt %d was overtaken", dataset_id, task.attempt)
        _clean_up_after_deletion(dataset_id, resources)


def _claim(dataset_id: str, database: Database) -> Task | None:
    with database.transaction() as session:
        row = datasets.claim(session, dataset_id, worker_name())
        if row is None:
            return None
        return Task(row.id, row.attempt, row.name, row.builtin, row.resolution)


def _upload(task: Task) -> str:
    return f"datasets/{task.dataset_id}/upload"


@contextlib.contextmanager
def _own_folder(task: Task, resources: Resources) -> Iterator[Path]:
    """A folder for this attempt on the data folder's disk; those of attempts that were killed are removed."""
    parent = resources.settings.data / "preparing" / task.dataset_id
    shutil.rmtree(parent, ignore_errors=True)
    folder = parent / str(task.attempt)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # a later attempt may have its folder there already
            parent.rmdir()


def _pack(task: Task, resources: Resources, folder: Path, progress: "ProgressWriter") -> PackedDataset:
    if task.builtin:
        return build_builtin(task.dataset_id, folder / "packed", downloads=folder / "downloads")
    archive = resources.artifacts.local(_upload(task))
    return pack_archive(
        archive, folder / "packed", resolution=task.resolution, name=task.name, progress=progress.seen
    )


def _store(task: Task, resources: Resources, packed: PackedDataset) -> None:
    file = io.BytesIO()
    draw_preview(packed).save(file, "PNG", optimize=True)
    resources.artifacts.put_bytes(file.getvalue(), f"datasets/{task.dataset_id}/preview.png")
    names = () if packed.names is None else (NAMES,)
    for name in (*PACKED_FILES, *names):
        resources.artifacts.put_file(packed.folder / name, f"datasets/{task.dataset_id}/packed/{name}")


def _record(task: Task, database: Database, packed: PackedDataset, classes: dict[str, int]) -> bool:
    with database.transaction() as session:
        return datasets.ready(
            session,
            task.dataset_id,
            task.attempt,
            count=packed.count,
            classes=classes,
            channels=packed.channels,
            resolution=packed.resolution,
            mean=packed.mean,
            std=packed.std,
            content_hash=packed.content_hash,
            dropped=packed.dropped,
        )


def _record_failure(task: Task, database: Database, error: Exception) -> bool:
    reason = failure(error, code="preparation_failed", hint=FAILURE_HINT, memory_hint=MEMORY_HINT)
    with database.transaction() as session:
        return datasets.failed(
            session, task.dataset_id, task.attempt, reason, dropped=getattr(error, "dropped", ())
        )


def _clean_up_after_deletion(dataset_id: str, resources: Resources) -> None:
    """A dataset that was deleted while it was packed must not come back as files that nobody owns."""
    try:
        with resources.database.read() as session:
            datasets.get(session, dataset_id)
    except NotFound:
        resources.artifacts.delete(f"datasets/{dataset_id}")


class LostError(Exception):
    """The dataset was deleted, or another attempt has it: go no further."""


class ProgressWriter:
    """Writes what was last seen from a thread of its own: however long a step takes, the lease is renewed."""

    def __init__(self, database: Database, task: Task) -> None:
        self._database = database
        self._task = task
        self._seen = (0, 0)
        self._lost = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name=f"progress-{task.dataset_id}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def seen(self, done: int, total: int) -> None:
        """Called for every file; LostError when the work is for nothing."""
        self._seen = (done, total)
        if self._lost:
            raise LostError

    def _keep(self) -> None:
        written, waited = (0, 0), 0.0
        ending = False
        while not ending and not self._lost:
            ending = self._closing.wait(WRITE_EVERY)  # what was seen last is written, too
            waited += WRITE_EVERY
            seen = self._seen
            if seen != written or waited >= RENEW_EVERY:
                self._write(*seen)
                written, waited = seen, 0.0

    def _write(self, done: int, total: int) -> None:
        try:
            with self._database.transaction() as session:
                mine = datasets.progress(session, self._task.dataset_id, self._task.attempt, done, total)
        except Unavailable as error:
            logger.warning("dataset %s: progress waits: %s", self._task.dataset_id, error)
        else:
            self._lost = not mine

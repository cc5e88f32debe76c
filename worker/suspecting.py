"""Label suspects of an uploaded dataset: looked for while nothing else waits for a preparing worker.

For 60,000 images that takes minutes. An upload or an evaluation that comes meanwhile is waited for by
somebody, and nobody waits for this: it gives way, and begins anew when the reconciler rings again.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.data import PackedDataset
from service.errors import NotFound, Unavailable
from service.records import datasets, suspects
from worker.resources import Resources
from worker.supervisor import worker_name

if TYPE_CHECKING:
    from models.metrics.suspects import Suspect  # brings torch

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks at what else waits
RENEW_EVERY = 20.0  # seconds between two renewals of the lease


def suspect(dataset_id: str, resources: Resources, stopping: threading.Event) -> None:
    """Find the images whose label is probably wrong, store them with the packed set and record them.

    Nothing happens if they are known or another looks for them. A search that fails is tried again when its
    lease has run out, a few times; trainers that need its result find it themselves.
    """
    with resources.database.transaction() as session:
        if not suspects.claim(session, dataset_id, worker_name()):
            return
    watch = Watch(dataset_id, resources, stopping)
    try:
        watch.look()
        report = _found(dataset_id, resources, watch)
        with resources.database.transaction() as session:
            wanted = suspects.found(session, dataset_id, report)
    except GiveWayError:
        logger.info("dataset %s: the search for label suspects gives way", dataset_id)
        with resources.database.transaction() as session:
            wanted = suspects.put_off(session, dataset_id)
    except UnwantedError:
        wanted = False
    except Unavailable as error:
        logger.warning("dataset %s: the search for label suspects is given up: %s", dataset_id, error)
        return
    if not wanted:
        _clean_up_after_deletion(dataset_id, resources)


def _found(dataset_id: str, resources: Resources, watch: "Watch") -> list[dict[str, Any]]:
    from models.metrics.suspects import SUSPECTS, kept_suspects  # here: most calls end without torch

    packed = PackedDataset.open(resources.artifacts.local_folder(f"datasets/{dataset_id}/packed"))
    found = kept_suspects(packed, watch.seen)
    key = f"datasets/{dataset_id}/packed/{SUSPECTS}"
    if not resources.artifacts.exists(key):  # a store on another machine: this was its download
        resources.artifacts.put_bytes((packed.folder / SUSPECTS).read_bytes(), key)
    return report(found, packed)


def report(found: Iterable["Suspect"], packed: PackedDataset) -> list[dict[str, Any]]:
    """As records keep them: with the name of the file where it is known."""
    names = packed.names
    return [{**asdict(one), "name": None if names is None else names[one.index]} for one in found]


def _clean_up_after_deletion(dataset_id: str, resources: Resources) -> None:
    """A dataset that was deleted meanwhile must not leave a file that nobody owns."""
    try:
        with resources.database.read() as session:
            datasets.get(session, dataset_id)
    except NotFound:
        resources.artifacts.delete(f"datasets/{dataset_id}")


class GiveWayError(Exception):
    """Something that somebody waits for waits for this worker, or the worker is to stop."""


class UnwantedError(Exception):
    """The dataset was deleted, or somebody else has found its suspects."""


class Watch:
    """Called all the time while the search goes on; ends it, or keeps its lease."""

    def __init__(self, dataset_id: str, resources: Resources, stopping: threading.Event) -> None:
        self._dataset_id = dataset_id
        self._resources = resources
        self._stopping = stopping
        self._looked = self._renewed = time.monotonic()

    def seen(self) -> None:
        """Look, if the last look was long ago. Raises GiveWayError or UnwantedError."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self.look()
        if now - self._renewed >= RENEW_EVERY:
            self._renewed = now
            with self._resources.database.transaction() as session:
                if not suspects.renew(session, self._dataset_id):
                    raise UnwantedError

    def look(self) -> None:
        """Raises GiveWayError where something else is to be done."""
        if self._stopping.is_set() or not self._resources.publisher.idle("atelier.suspect"):
            raise GiveWayError

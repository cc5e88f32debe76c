"""Makes the queued images: one thread takes them in turn, whoever rang for them."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from models.checkpoints import LoadedCheckpoint, load
from models.sampling import generate, labels_of
from models.sampling.pictures import encode, grid, picture
from models.spec import DiffusionSpec, SamplerSpec
from service.errors import Unavailable
from service.queue import images_channel
from service.records import checkpoints, images
from worker.devices import resolve_device
from worker.failures import failure
from worker.resources import Resources
from worker.stored_weights import weights
from worker.supervisor import worker_name

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 3
RENEW_EVERY = 20.0
MEMORY_HINT = "Ask for fewer images at a time, or give the sampling worker more memory."


class Claim(NamedTuple):
    """A claimed row of images: what to make, and from which stored weights."""

    image_id: str
    attempt: int
    checkpoint_id: str
    artifact: str
    sha256: str
    request: dict[str, Any]


class Superseded(Exception):
    """The lease on the row was lost: another worker makes these images."""


class Sampler:
    """Doorbells may ring on any thread: the first one makes all that is queued, the others return at once."""

    def __init__(self, resources: Resources, stopping: threading.Event) -> None:
        self._resources = resources
        self._stopping = stopping
        self._device = resolve_device(resources.settings.device)
        self._loaded: OrderedDict[str, LoadedCheckpoint] = OrderedDict()
        self._rung = threading.Event()
        self._busy = threading.Lock()

    def ring(self) -> None:
        self._rung.set()
        # Looked at again once the lock is free: a ring that found it taken must not be lost.
        while self._rung.is_set() and self._busy.acquire(blocking=False):
            try:
                while self._rung.is_set():
                    self._rung.clear()
                    self._make_all()
            finally:
                self._busy.release()

    def _make_all(self) -> None:
        while not self._stopping.is_set() and (claim := self._claim()) is not None:
            try:
                result = self._make(claim)
            except Superseded:
                logger.warning("images %s: another worker makes them", claim.image_id)
                continue
            except Exception as error:
                logger.exception("images %s could not be made", claim.image_id)
                hint = "The sampling worker's log has the traceback."
                self._fail(claim, failure(error, code="sampling_failed", hint=hint, memory_hint=MEMORY_HINT))
            else:
                self._finish(claim, result)
            # Routes that wait look into SQL when this rings, so it rings after the row says how it ended.
            self._resources.publisher.announce(images_channel(claim.image_id))

    def _claim(self) -> Claim | None:
        with self._resources.database.transaction() as session:
            row = images.claim_next(session, worker_name())
            if row is None:
                return None
            stored = checkpoints.get(session, row.checkpoint_id)
            return Claim(row.id, row.attempt, stored.id, stored.artifact, stored.sha256, row.request)

    def _finish(self, claim: Claim, result: dict[str, Any]) -> None:
        with self._resources.database.transaction() as session:
            images.finish(session, claim.image_id, claim.attempt, result)

    def _fail(self, claim: Claim, error: dict[str, str]) -> None:
        with self._resources.database.transaction() as session:
            images.fail(session, claim.image_id, claim.attempt, error)

    def _make(self, claim: Claim) -> dict[str, Any]:
        """Generate, encode and store; the result names the artifacts."""
        loaded, seeds, kind = self._load(claim), claim.request["seeds"], claim.request["format"]
        sampler = effective_sampler(loaded, claim.request.get("sampler"))
        labels = claim.request.get("labels") or labels_of(loaded.spec, seeds)
        made = generate(
            loaded.networks,
            loaded.spec,
            seeds,
            sampler=sampler,
            labels=labels,
            progress=self._renewal(claim),
        )
        text = {"checkpoint": claim.checkpoint_id}
        if sampler is not None:
            text["sampler"] = sampler.model_dump_json()
        store = self._resources.artifacts.put_bytes
        data = []
        for index, (image, seed) in enumerate(zip(made, seeds, strict=True)):
            key = f"images/{claim.image_id}/{index}.{kind}"
            label = None if labels is None else labels[index]
            store(
                encode(picture(image), kind, {**text, **told([seed], None if label is None else [label])}),
                key,
            )
            data.append({"index": index, "seed": seed, "label": label, "artifact": key})
        grid_key = None
        if len(seeds) > 1 or claim.request.get("layout") == "grid":
            grid_key = f"images/{claim.image_id}/grid.{kind}"
            store(encode(grid(made), kind, {**text, **told(seeds, labels)}), grid_key)
        return {"data": data, "grid": grid_key}

    def _load(self, claim: Claim) -> LoadedCheckpoint:
        # By content: a step that was trained again keeps its id.
        if claim.sha256 not in self._loaded:
            path = weights(self._resources.artifacts, claim.artifact, claim.sha256)
            self._loaded[claim.sha256] = load(path, device=self._device)
            if len(self._loaded) > KEPT_CHECKPOINTS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(claim.sha256)
        return self._loaded[claim.sha256]

    def _renewal(self, claim: Claim) -> Callable[[int, int], None]:
        """Keeps the lease while the images are made, and ends their making once it is lost."""
        renewed = time.monotonic()

        def renew(done: int, total: int) -> None:
            nonlocal renewed
            if time.monotonic() - renewed < RENEW_EVERY:
                return
            renewed = time.monotonic()
            try:
                with self._resources.database.transaction() as session:
                    held = images.renew(session, claim.image_id, claim.attempt)
            except Unavailable as error:
                logger.warning("images %s: the lease was not renewed: %s", claim.image_id, error)
            else:
                if not held:
                    raise Superseded(claim.image_id)

        return renew


def effective_sampler(loaded: LoadedCheckpoint, wanted: dict[str, Any] | None) -> SamplerSpec | None:
    """The sampler of the request, else the spec's own; None for a GAN, which has none."""
    if wanted is not None:
        return SamplerSpec.model_validate(wanted)
    return loaded.spec.sampler if isinstance(loaded.spec, DiffusionSpec) else None


def told(seeds: Sequence[int], labels: Sequence[int] | None) -> dict[str, str]:
    """The text in a PNG that is of its own images: their seeds, and their labels where they have some."""
    own = {"seed": ",".join(map(str, seeds))}
    return own if labels is None else {**own, "label": ",".join(map(str, labels))}

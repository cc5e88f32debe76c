"""Requests for images that are made together, and the batches in which they are: fair, and of one kind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor, stack

from models.sampling import Between, InitImages, Origin
from models.spec import DiffusionSpec, JobSpec, SamplerSpec
from service.records.checkpoints import Stored


class Kind(NamedTuple):
    """What images have to share to be made in one batch."""

    sha256: str
    sampler: str | None
    truncation: float | None
    strength: float | None


@dataclass(eq=False)
class Order:
    """One claimed request: its images, of which the first `len(made)` are made."""

    image_id: str
    attempt: int
    request: Mapping[str, Any]
    checkpoint: Stored
    sampler: SamplerSpec | None = None
    labels: list[int] | None = None
    init: Tensor | None = None
    """The image uint8 (C, H, W) that each of the images begins with, in place of noise."""
    made: list[Tensor] = field(default_factory=list)
    lost: bool = False
    """Another worker has it, or nobody wants it any more."""

    @property
    def seeds(self) -> list[int]:
        return list(self.request["seeds"])

    @property
    def origins(self) -> list[Origin]:
        """What each image is made from: its seed, or its place on the way between two."""
        way = self.request.get("interpolate")
        if way is None:
            return list(self.request["seeds"])
        last = way["steps"] - 1
        return [Between(way["from"], way["to"], step / last) for step in range(way["steps"])]

    @property
    def truncation(self) -> float | None:
        return self.request.get("truncation")

    @property
    def strength(self) -> float | None:
        """How much of `init` is changed; None where images begin with noise."""
        return self.request.get("strength")

    @property
    def left(self) -> int:
        return len(self.seeds) - len(self.made)

    @cached_property
    def kind(self) -> Kind:
        """Once its sampler is known."""
        sampler = None if self.sampler is None else self.sampler.model_dump_json()
        return Kind(self.checkpoint.sha256, sampler, self.truncation, self.strength)


class Share(NamedTuple):
    """The next images of one order that a batch makes: those from `start` to before `stop`."""

    order: Order
    start: int
    stop: int


class Superseded(Exception):
    """Nobody waits any more for the images that are being made."""


class Interrupted(Exception):
    """What went wrong with others that were let by, and is no fault of the batch in the making."""


class Turns:
    """Which kinds of images are in the making: a batch's, and those of batches that it lets by."""

    def __init__(self) -> None:
        self._making: list[Kind] = []
        self._last: Kind | None = None
        self._served: set[Order] = set()

    def free(self, orders: Iterable[Order]) -> list[Order]:
        """Those of other kinds, whose turn it is first: last comes the last batch's kind, then its orders."""
        free = [order for order in orders if order.kind not in self._making]
        return sorted(free, key=lambda order: (order.kind == self._last, order in self._served))

    @contextmanager
    def taken_by(self, batch: Sequence[Share]) -> Iterator[None]:
        self._making.append(batch[0].order.kind)
        try:
            yield
        finally:
            self._last, self._served = self._making.pop(), {share.order for share in batch}


def next_batch(orders: Sequence[Order], size: int) -> list[Share]:
    """At most `size` images of the first order's kind, an image of each order in turn.

    So a request for one image is in the next batch of its kind, however many another has asked for.
    """
    alike = [order for order in orders if order.kind == orders[0].kind]
    counts = dict.fromkeys(range(len(alike)), 0)
    room, open_ = size, list(counts)
    while room and open_:
        for i in open_[:room]:
            counts[i] += 1
        room -= min(room, len(open_))
        open_ = [i for i in open_ if counts[i] < alike[i].left]
    shares = [(alike[i], len(alike[i].made), count) for i, count in counts.items() if count]
    return [Share(order, start, start + count) for order, start, count in shares]


def effective_sampler(spec: JobSpec, wanted: Mapping[str, Any] | None) -> SamplerSpec | None:
    """The sampler of the request, else the spec's own; None for a GAN, which has none."""
    if wanted is not None:
        return SamplerSpec.model_validate(wanted)
    return spec.sampler if isinstance(spec, DiffusionSpec) else None


def init_images(batch: Sequence[Share]) -> InitImages | None:
    """What the images of a batch begin with, one each; None where that is noise."""
    strength = batch[0].order.strength
    begun = [share.order.init for share in batch for _ in range(share.start, share.stop)]
    if strength is None:
        return None
    return InitImages(stack([image for image in begun if image is not None]), strength)

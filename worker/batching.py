"""Requests for images that are made together, and the batches in which they are: fair, and of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from models.spec import SamplerSpec
from service.records.tables import Checkpoint


class Kind(NamedTuple):
    """What images have to share to be made in one batch."""

    sha256: str
    sampler: str | None


@dataclass(eq=False)
class Order:
    """One claimed request: its images, of which the first `len(made)` are made."""

    image_id: str
    attempt: int
    request: dict[str, Any]
    checkpoint: Checkpoint
    sampler: SamplerSpec | None = None
    labels: list[int] | None = None
    made: list[Tensor] = field(default_factory=list)
    lost: bool = False
    """Another worker has it, or nobody wants it any more."""

    @property
    def seeds(self) -> list[int]:
        return list(self.request["seeds"])

    @property
    def left(self) -> int:
        return len(self.seeds) - len(self.made)

    @property
    def kind(self) -> Kind:
        return Kind(self.checkpoint.sha256, None if self.sampler is None else self.sampler.model_dump_json())


class Share(NamedTuple):
    """The next images of one order that a batch makes: those from `start` to before `stop`."""

    order: Order
    start: int
    stop: int


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

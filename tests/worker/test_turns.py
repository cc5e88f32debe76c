"""Kinds of images that have to share a worker: none waits for all of another's, and no error is another's."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from models.sampling import generate
from models.spec import GanSpec
from service.errors import Unavailable
from service.records import images
from service.records.checkpoints import Stored
from service.records.status import RequestStatus
from tests.worker.made import TINY_DDPM, pictures, row
from worker import sampling
from worker.batching import Order, Turns, next_batch
from worker.resources import Resources
from worker.sampling import Sampler

Make = Callable[..., str]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SLOW = {**TINY_DDPM, "sampler": {"kind": "ddim", "steps": 20}}


@pytest.fixture
def sampler(resources: Resources) -> Sampler:
    return Sampler(resources, threading.Event())


@pytest.fixture(autouse=True)
def _let_others_by_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LET_BY_AFTER", 0.0)


class Course:
    """What is made when; `arrive` is called once, early in the first batch, which is of `first`."""

    def __init__(self, arrive: Callable[[], None], first: str = "diffusion") -> None:
        self.told: list[str] = []
        self._arrive = arrive
        self._first = first

    def generate(self, networks: Any, spec: Any, seeds: list[int], **options: Any) -> Any:
        name, progress = "gan" if isinstance(spec, GanSpec) else "diffusion", options.pop("progress")
        self.told.append(f"{name} begins")

        def noting(done: int, total: int) -> None:
            if done == 1 and self.told == [f"{self._first} begins"]:
                self._arrive()
            progress(done, total)

        made = generate(networks, spec, seeds, progress=noting, **options)
        self.told.append(f"{name} ends")
        return made


@SQLITE
def test_an_image_of_another_kind_is_made_within_a_long_batch(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when whoever asks for one small image waits for another's thousand steps."""
    slow, quick = create_checkpoint(**SLOW), create_checkpoint()
    asked: list[str] = []

    def arrive() -> None:
        asked.append(ask_images(quick, [5]))
        sampler.hear()

    course = Course(arrive)
    monkeypatch.setattr(sampling, "generate", course.generate)
    large = ask_images(slow, list(range(40)))
    sampler.ring()
    assert course.told == [
        "diffusion begins",
        "gan begins",
        "gan ends",
        "diffusion ends",
        *["diffusion begins", "diffusion ends"],
    ]
    small, all_of_them = row(resources, asked[0]), row(resources, large)
    assert small.finished_at
    assert all_of_them.finished_at
    assert small.finished_at < all_of_them.finished_at
    alone = ask_images(quick, [5])
    sampler.ring()
    assert pictures(resources, alone) == pictures(resources, asked[0])
    again = ask_images(slow, list(range(40)))
    sampler.ring()
    assert pictures(resources, again) == pictures(resources, large), "what was let by has changed the pixels"


@SQLITE
@pytest.mark.parametrize(("images_asked", "after"), [(1, 0.0), (32, 3600.0)], ids=["made", "soon made"])
def test_a_quick_batch_waits_for_nobody(
    images_asked: int,
    after: float,
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when images that are made, or nearly, are stored after the thousand steps of somebody else's."""
    monkeypatch.setattr(sampling, "LET_BY_AFTER", after)
    slow, quick = create_checkpoint(**SLOW), create_checkpoint()

    def arrive() -> None:
        ask_images(slow, [1])
        sampler.hear()

    course = Course(arrive, first="gan")
    monkeypatch.setattr(sampling, "generate", course.generate)
    ask_images(quick, list(range(images_asked)))
    sampler.ring()
    assert course.told == ["gan begins", "gan ends", "diffusion begins", "diffusion ends"]


@SQLITE
def test_an_outage_while_others_are_let_by_fails_nobody(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when a large request fails because the database was away when another's image was done."""
    slow, quick = create_checkpoint(**SLOW), create_checkpoint()

    def arrive() -> None:
        ask_images(quick, [5])
        sampler.hear()

    def away(*_: Any) -> None:
        raise Unavailable("database_unavailable", "The database did not answer.", hint="Wait.")

    monkeypatch.setattr(sampling, "generate", Course(arrive).generate)
    monkeypatch.setattr(images, "finish_all", away)
    large = ask_images(slow, [1])
    with pytest.raises(Unavailable):
        sampler.ring()
    assert (row(resources, large).status, row(resources, large).error) == (RequestStatus.RUNNING, None)


def order(checkpoint: str, count: int = 100) -> Order:
    return Order("img_", 1, {"seeds": list(range(count))}, Stored("ckpt_", "job_", "weights", checkpoint))


def test_whoever_comes_during_a_batch_is_in_the_next() -> None:
    """Breaks when a large request gets two batches before a small one of another kind gets any."""
    turns, large, small = Turns(), order("large"), order("small", 1)
    first = next_batch(turns.free([large]), 32)
    with turns.taken_by(first):
        assert turns.free([large, small]) == [small]
    assert turns.free([large, small]) == [small, large]


def test_of_many_alike_those_that_had_nothing_come_first() -> None:
    """Breaks when the first forty of fifty requests get all batches."""
    turns, alike = Turns(), [order("one") for _ in range(50)]
    with turns.taken_by(next_batch(turns.free(alike), 32)):
        assert turns.free(alike) == []
    assert turns.free(alike) == alike[32:] + alike[:32]

"""From archives as people have them to pictures: every mode, oblong images, sets smaller than a batch."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data import PackedDataset, pack_archive
from models.presets import plan
from models.training import train
from models.training.events import Evaluated, Event, Finished, Sampled
from tests.models.training.specs import SMALL

SIDES = ((40, 20), (20, 40))


def picture(number: int, mode: str, size: tuple[int, int] = (32, 32)) -> bytes:
    """Noise of this mode; with alpha where it has some."""
    width, height = size
    noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    elif mode == "P":
        image = image.quantize(16)
    else:
        image = image.convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(noise[..., 1]))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


@pytest.fixture
def packed(tmp_path: Path) -> Callable[[dict[str, bytes]], PackedDataset]:
    def pack(files: dict[str, bytes]) -> PackedDataset:
        archive = tmp_path / "upload.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        return pack_archive(archive, tmp_path / "packed", resolution=16)

    return pack


def events_of(dataset: PackedDataset, out: Path, preset: str, **overrides: Any) -> list[Event]:
    """Plans as the API does with this set's own facts, and trains for two steps of 64 images."""
    raw: dict[str, Any] = {
        "preset": preset,
        "seed": 5,
        "budget": {"steps": 2},
        "batch_size": 64,
        "threads": 1,
    }
    raw |= {"samples": {"count": 4}, "memory_format": "contiguous", "precision": "fp32", **SMALL[preset]}
    planned = plan({**raw, **overrides}, lambda _: dataset.facts)
    return list(train(planned.spec, dataset, out))


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)],
)
def test_every_mode_and_both_oblongs_are_learnt(
    packed: Callable[..., PackedDataset], tmp_path: Path, mode: str, channels: int
) -> None:
    """One to four channels, with and without alpha: each becomes the square that the networks take."""
    dataset = packed({f"{i}.img": picture(i, mode, SIDES[i % 2]) for i in range(4)})
    assert (dataset.count, dataset.channels, dataset.dropped) == (4, channels, ())
    events = events_of(dataset, tmp_path / "out", "dcgan", evaluation=None)
    assert isinstance(events[-1], Finished)
    (sampled,) = [event for event in events if isinstance(event, Sampled)][-1:]
    with Image.open(tmp_path / "out" / sampled.path) as grid:
        assert grid.mode == {1: "L", 3: "RGB"}[channels]


def test_modes_may_be_mixed(packed: Callable[..., PackedDataset], tmp_path: Path) -> None:
    modes = ("1", "L", "LA", "I;16", "RGB", "RGBA", "P", "CMYK")
    files = {
        f"{name}/{i}": picture(i + 100 * label, mode, SIDES[i % 2])
        for label, name in enumerate("ab")
        for i, mode in enumerate(modes)
    }
    dataset = packed(files)
    assert (dataset.count, dataset.channels, dataset.classes) == (16, 3, ("a", "b"))
    events = events_of(dataset, tmp_path / "out", "ddpm", evaluation={"samples": 64}, conditional={})
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("preset", ["dcgan", "ddpm"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_set_smaller_than_a_batch_is_learnt(
    packed: Callable[..., PackedDataset], tmp_path: Path, preset: str, count: int
) -> None:
    """Breaks when a run ends at its first evaluation, for want of an image that was held out."""
    dataset = packed({f"{i}.png": picture(i, "RGB") for i in range(count)})
    for held_out in (0.05, 0.5):
        events = events_of(dataset, tmp_path / "out", preset, evaluation={}, data={"held_out": held_out})
        assert isinstance(events[-1], Finished)
        measured = [event for event in events if isinstance(event, Evaluated)]
        assert measured
        assert all(event.samples == int(count * held_out) for event in measured)


@pytest.mark.parametrize("preset", ["dcgan", "ddpm"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_labelled_set_smaller_than_a_batch_has_the_scores_that_it_allows(
    packed: Callable[..., PackedDataset], tmp_path: Path, preset: str, count: int
) -> None:
    """Half of the set is scored against: one image has no distance to another, nor a covariance."""
    dataset = packed({f"{'ab'[i % 2]}/{i}.png": picture(i, "L") for i in range(count)})
    options: dict[str, Any] = {"evaluation": {"samples": 64}, "data": {"drop_suspects": True}}
    events = events_of(dataset, tmp_path / "out", preset, conditional={}, **options)
    assert isinstance(events[-1], Finished)
    scores = [event for event in events if isinstance(event, Evaluated)][-1].scores
    assert ("score/fid" in scores) == (count >= 4)
    assert "score/modes" in scores


def test_a_gan_learns_images_in_0_to_1(packed: Callable[..., PackedDataset], tmp_path: Path) -> None:
    """Of black images; breaks when what is made is taken for [-1, 1] on its way to the grid: never dark."""
    black = Image.new("L", (16, 16))
    files = {}
    for number in range(4):
        image = black.copy()
        image.putpixel((number, 0), 1)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files[f"{number}.png"] = buffer.getvalue()
    events = events_of(
        packed(files),
        tmp_path / "out",
        "dcgan",
        data={"range": [0, 1]},
        budget={"steps": 150},
        evaluation=None,
        ema=None,
        optimizer={"learning_rate": 0.005, "schedule": {"kind": "constant"}},
    )
    sampled = [event for event in events if isinstance(event, Sampled)]
    first, last = (
        np.asarray(Image.open(tmp_path / "out" / event.path)) for event in (sampled[0], sampled[-1])
    )
    inside = np.s_[2:66, 2:66]  # the first image of the grid, without the frame
    assert abs(first[inside].mean() - 127) < 40  # sigmoid(0) is grey
    assert last[inside].mean() < 90

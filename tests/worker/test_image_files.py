"""All that one may ask of images, from the queued row to the files: what they hold and what they tell."""

import base64
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.sampling.pictures import encode, picture
from models.spec import load_spec
from service.api.image_requests import ImagesRequest, order
from service.api.init_images import read_picture
from service.records import checkpoints, images, jobs
from service.records.status import RequestStatus
from worker.resources import Resources
from worker.sampling import Sampler

Make = Callable[..., str]
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TINY_DDPM: dict[str, Any] = {
    "preset": "ddpm",
    "generator": None,
    "discriminator": None,
    "network": {"channels": 8, "norm_groups": 4},
    "sampler": {"kind": "ddim", "steps": 4},
}
WAY = {"from": 5, "to": 9, "steps": 4}
Pixels = NDArray[np.uint8]


@pytest.fixture
def sampler(resources: Resources) -> Sampler:
    return Sampler(resources, threading.Event())


def result(resources: Resources, image_id: str) -> dict[str, Any]:
    with resources.database.read() as session:
        row = images.get(session, image_id)
    assert row.status == RequestStatus.SUCCEEDED, row.error
    assert row.result is not None
    return row.result


def opened(resources: Resources, key: str) -> Image.Image:
    return Image.open(io.BytesIO(resources.artifacts.read(key)))


def pixels(resources: Resources, image_id: str) -> list[Pixels]:
    return [
        np.asarray(opened(resources, one["artifact"])).astype(int)
        for one in result(resources, image_id)["data"]
    ]


def begun(seed: int, side: int = 16) -> dict[str, str]:
    """What the API puts into the row for a picture."""
    drawn = np.random.default_rng(seed).integers(0, 256, (1, side, side), dtype=np.uint8)
    return {"png": base64.b64encode(encode(picture(drawn))).decode(), "sha256": "ab" * 32}


def test_merged_requests_give_each_the_images_that_it_would_have_got_alone(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a batch is made with the truncation of another request in it."""
    checkpoint = create_checkpoint()
    asked: list[tuple[list[int], dict[str, Any]]] = [
        ([5, 6], {}),
        ([5, 6], {"truncation": 0.5}),
        ([5, 7], {"truncation": 0.5}),
        ([5, 6], {"truncation": 0.2}),
        ([5] * 4, {"interpolate": WAY}),
        ([5] * 4, {"interpolate": WAY, "truncation": 0.5}),
    ]
    merged = [ask_images(checkpoint, seeds, **how) for seeds, how in asked]
    sampler.ring()
    for image_id, (seeds, how) in zip(merged, asked, strict=True):
        alone = ask_images(checkpoint, seeds, **how)
        sampler.ring()
        assert np.array_equal(pixels(resources, alone), pixels(resources, image_id))
    plain, cut, cut_too, more, way, cut_way = (pixels(resources, one) for one in merged)
    assert np.array_equal(cut[0], cut_too[0])
    assert not np.array_equal(plain[0], more[0])
    nine = ask_images(checkpoint, [9])
    sampler.ring()
    assert np.array_equal(way[0], plain[0])
    assert np.array_equal(way[-1], pixels(resources, nine)[0])
    assert np.array_equal(cut_way[0], cut[0])


def test_merged_variations_begin_each_with_its_own_image(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when requests with one strength and different images share an image."""
    checkpoint = create_checkpoint(**TINY_DDPM)
    asked: list[dict[str, Any]] = [
        {"init_image": begun(1), "strength": 0.25},
        {"init_image": begun(2), "strength": 0.25},
        {"init_image": begun(1), "strength": 0.75},
        {},
    ]
    merged = [ask_images(checkpoint, [3, 4], **how) for how in asked]
    sampler.ring()
    for image_id, how in zip(merged, asked, strict=True):
        alone = ask_images(checkpoint, [3, 4], **how)
        sampler.ring()
        for one, other in zip(pixels(resources, alone), pixels(resources, image_id), strict=True):
            assert np.abs(one - other).max() <= 1
    first, second, stronger, _ = (pixels(resources, one) for one in merged)
    assert np.abs(first[0] - second[0]).max() > 1
    assert np.abs(first[0] - stronger[0]).max() > 1


@pytest.mark.parametrize("conditional", [None, {}])
def test_an_npz_holds_the_very_pixels_with_their_seeds_and_labels(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    conditional: dict[str, Any] | None,
) -> None:
    checkpoint = create_checkpoint(conditional=conditional)
    seeds = [7, 2**53 - 1, 8]
    archived, single = ask_images(checkpoint, seeds, format="npz"), ask_images(checkpoint, seeds)
    sampler.ring()
    made = result(resources, archived)
    assert (made["grid"], made["archive"]) == (None, f"images/{archived}/images.npz")
    assert [one["artifact"] for one in made["data"]] == [None, None, None]
    with np.load(io.BytesIO(resources.artifacts.read(made["archive"]))) as held:
        assert set(held.files) == {"images", "seeds", "labels"}
        assert (held["images"].dtype, held["images"].shape) == (np.uint8, (3, 16, 16, 1))
        assert np.array_equal(held["images"][..., 0], pixels(resources, single))
        assert held["seeds"].tolist() == seeds
        labels = [one["label"] for one in made["data"]]
        assert held["labels"].tolist() == ([-1] * 3 if conditional is None else labels)


def test_an_npz_of_an_interpolation_tells_the_way(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    archived = ask_images(create_checkpoint(), [5] * 4, interpolate=WAY, format="npz")
    sampler.ring()
    with np.load(io.BytesIO(resources.artifacts.read(result(resources, archived)["archive"]))) as held:
        assert (held["seeds"].tolist(), held["to_seeds"].tolist()) == ([5] * 4, [9] * 4)
        assert held["positions"].tolist() == [0, 1 / 3, 2 / 3, 1]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_shows_each_image_in_its_turn(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make, kind: str
) -> None:
    """Grey frames are exact in both formats."""
    moving = {"format": kind, "frame_milliseconds": 70}
    asked = ask_images(create_checkpoint(), [5] * 4, interpolate=WAY, animation=moving)
    sampler.ring()
    made = result(resources, asked)
    assert made["animation"] == f"images/{asked}/animation.{kind}"
    assert [(one["seed"], one["position"]) for one in made["data"]] == [
        (5, 0.0),
        (None, 1 / 3),
        (None, 2 / 3),
        (9, 1.0),
    ]
    film: Any = opened(resources, made["animation"])
    assert (film.n_frames, film.info["loop"], film.format) == (4, 0, kind.upper())
    for index, frame in enumerate(pixels(resources, asked)):
        film.seek(index)
        assert np.array_equal(np.asarray(film.convert("L")), frame)
        assert film.info["duration"] == 70


def test_a_png_tells_what_makes_it_again_and_nothing_else(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    gan, ddpm = create_checkpoint(), create_checkpoint(**TINY_DDPM)
    way = ask_images(gan, [5] * 4, interpolate=WAY, truncation=0.5)
    varied = ask_images(ddpm, [6], init_image=begun(1), strength=0.5)
    silent = ask_images(gan, [5, 6], truncation=0.5, metadata=False)
    sampler.ring()
    told = opened(resources, result(resources, way)["data"][2]["artifact"]).info
    assert json.loads(told.pop("interpolate")) == WAY
    assert told == {"checkpoint": gan, "truncation": "0.5", "step": "2"}
    assert opened(resources, result(resources, way)["grid"]).info["step"] == "0,1,2,3"
    told = opened(resources, result(resources, varied)["data"][0]["artifact"]).info
    assert json.loads(told.pop("sampler"))["kind"] == "ddim"
    image = "sha256:" + "ab" * 32
    assert told == {"checkpoint": ddpm, "seed": "6", "strength": "0.5", "init_image": image}
    made = result(resources, silent)
    for key in (made["grid"], *(one["artifact"] for one in made["data"])):
        assert opened(resources, key).info == {}


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_makes_smaller_files(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make, kind: str
) -> None:
    checkpoint = create_checkpoint()
    sizes = []
    for quality in (5, None):
        asked = ask_images(checkpoint, [5, 6], format=kind, quality=quality)
        sampler.ring()
        sizes.append(len(resources.artifacts.read(result(resources, asked)["data"][0]["artifact"])))
    assert sizes[0] < sizes[1]


def test_a_grid_has_its_columns_and_padding(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    asked = ask_images(create_checkpoint(), list(range(5)), grid={"columns": 4, "padding": 3})
    sampler.ring()
    made = result(resources, asked)
    together = np.asarray(opened(resources, made["grid"]))
    assert together.shape == (2 * 19 + 3, 4 * 19 + 3)
    assert np.array_equal(together[22:38, 3:19], pixels(resources, asked)[4])
    assert (together[:3] == 255).all()


@pytest.mark.parametrize(
    ("changed", "asked", "files"),
    [
        ({}, {"n": 2, "truncation": 0.5}, {"grid"}),
        ({}, {"interpolate": WAY, "animation": {"format": "gif"}, "format": "npz"}, {"animation", "archive"}),
        (TINY_DDPM, {"interpolate": WAY, "animation": {}}, {"grid", "animation"}),
        (TINY_DDPM, {"n": 1, "init_image": begun(1, side=50)["png"], "strength": 0.1}, set()),
        (TINY_DDPM, {"n": 3, "format": "jpeg", "quality": 50, "grid": {"columns": 3}}, {"grid"}),
    ],
    ids=["truncation", "gif", "webp", "init_image", "jpeg"],  # a set has another order in each process
)
def test_what_the_api_orders_is_what_a_worker_makes(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    changed: dict[str, Any],
    asked: dict[str, Any],
    files: set[str],
) -> None:
    """Breaks when one side writes a row that the other reads in another way."""
    checkpoint = create_checkpoint(**changed)
    with resources.database.transaction() as session:
        spec = load_spec(jobs.get(session, checkpoints.get(session, checkpoint).job_id).spec)
        wanted = ImagesRequest.model_validate(asked)
        picture_of = None if wanted.init_image is None else read_picture(wanted.init_image)
        image_id = images.create(session, checkpoint, order(wanted, spec, picture_of)).id
    sampler.ring()
    made = result(resources, image_id)
    assert {name for name in ("grid", "animation", "archive") if made[name]} == files
    for name in files:
        assert resources.artifacts.exists(made[name])

"""Images, descriptions and exports, in this process and through a real sampling worker."""

import asyncio
import io
import json
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image

from models.networks import count_parameters
from models.presets import plan
from models.sampling import labels_of
from models.spec import load_spec
from models.spec.data import BUILTIN_DATASETS
from service.errors import Unavailable
from service.records import checkpoints, images, jobs
from service.records.status import RequestStatus
from tests.worker.conftest import Training
from tests.worker.made import TINY_DDPM, pictures, row
from worker import renewal
from worker.resources import Resources
from worker.sampling import Sampler

Make = Callable[..., str]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def sampler(resources: Resources) -> Sampler:
    return Sampler(resources, threading.Event())


def test_an_image_is_the_same_alone_and_among_others(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a batch's size or company changes an image; a row a database, end to end to the files."""
    checkpoint = create_checkpoint()
    together, alone = ask_images(checkpoint, list(range(20))), ask_images(checkpoint, [17])
    sampler.ring()
    assert row(resources, together).status == row(resources, alone).status == RequestStatus.SUCCEEDED
    assert pictures(resources, alone)[17] == pictures(resources, together)[17]
    assert len(set(pictures(resources, together).values())) == 20


@SQLITE
def test_a_png_tells_how_it_was_made_and_nothing_else(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    gan, ddpm = create_checkpoint(), create_checkpoint(**TINY_DDPM)
    asked = ask_images(gan, [5]), ask_images(ddpm, [6])
    sampler.ring()
    by_gan = Image.open(io.BytesIO(pictures(resources, asked[0])[5])).info
    by_ddpm = Image.open(io.BytesIO(pictures(resources, asked[1])[6])).info
    assert by_gan == {"checkpoint": gan, "seed": "5"}
    used = {"kind": "ddim", "steps": 2, "eta": 0.0, "guidance_scale": 1.0}
    assert json.loads(by_ddpm.pop("sampler")) == used
    assert by_ddpm == {"checkpoint": ddpm, "seed": "6"}


@SQLITE
@pytest.mark.parametrize("changed", [{}, TINY_DDPM], ids=["gan", "diffusion"])
def test_each_image_tells_the_class_that_it_shows(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make, changed: dict[str, Any]
) -> None:
    """Breaks when a label is asked for and not used, or used and not told."""
    checkpoint = create_checkpoint(**changed, conditional={})
    asked = ask_images(checkpoint, [5, 5], labels=[3, 7])
    drawn = ask_images(checkpoint, [5, 6])
    sampler.ring()
    result = row(resources, asked).result
    assert result is not None
    assert [image["label"] for image in result["data"]] == [3, 7]
    read = [resources.artifacts.read(image["artifact"]) for image in result["data"]]
    assert [Image.open(io.BytesIO(png)).info["label"] for png in read] == ["3", "7"]
    assert Image.open(io.BytesIO(resources.artifacts.read(result["grid"]))).info["label"] == "3,7"
    pixels = [Image.open(io.BytesIO(png)).tobytes() for png in read]
    assert pixels[0] != pixels[1]
    with resources.database.read() as session:
        spec = load_spec(jobs.get(session, checkpoints.get(session, checkpoint).job_id).spec)
    own = row(resources, drawn).result
    assert own is not None
    assert [image["label"] for image in own["data"]] == labels_of(spec, [5, 6])


@SQLITE
@pytest.mark.parametrize(
    ("seeds", "layout", "has_grid"),
    [([1], "separate", False), ([1], "grid", True), ([1, 2], "separate", True)],
)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_grid_is_made_of_several_images_or_on_request(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    seeds: list[int],
    layout: str,
    has_grid: bool,
    kind: str,
) -> None:
    asked = ask_images(create_checkpoint(), seeds, layout=layout, format=kind)
    sampler.ring()
    result = row(resources, asked).result
    assert result is not None
    assert [image["artifact"] for image in result["data"]] == [
        f"images/{asked}/{index}.{kind}" for index in range(len(seeds))
    ]
    assert result["grid"] == (f"images/{asked}/grid.{kind}" if has_grid else None)
    if has_grid:
        assert Image.open(io.BytesIO(resources.artifacts.read(result["grid"]))).format == kind.upper()


@SQLITE
def test_images_that_cannot_be_made_fail_with_the_reason_and_the_next_are_made(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when one bad row ends the loop, or stays `running` for ever; and when a bit that has flipped
    makes images that nobody can make again.
    """
    lost, damaged, whole = create_checkpoint(), create_checkpoint(), create_checkpoint()
    with resources.database.read() as session:
        keys = [checkpoints.get(session, checkpoint).artifact for checkpoint in (lost, damaged)]
    resources.artifacts.delete(keys[0])
    content = bytearray(resources.artifacts.read(keys[1]))
    content[-9] ^= 1
    resources.artifacts.put_bytes(bytes(content), keys[1])
    asked = [ask_images(checkpoint, [1]) for checkpoint in (lost, damaged, whole)]
    sampler.ring()
    rows = [row(resources, image_id) for image_id in asked]
    assert [found.status for found in rows] == ["failed", "failed", "succeeded"]
    assert rows[0].error is not None
    assert rows[1].error is not None
    assert rows[0].error["code"] == "artifact_missing"
    assert rows[1].error["code"] == "checkpoint_damaged"


@SQLITE
def test_a_lease_that_cannot_be_renewed_once_costs_no_images(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when a database that is away for a second fails what is nearly made."""
    asked = ask_images(create_checkpoint(**TINY_DDPM), [1])
    tried = []

    def away(*arguments: object) -> set[str]:
        tried.append(arguments)
        raise Unavailable("database_unavailable", "The database did not answer.")

    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.0001)
    monkeypatch.setattr(images, "renew", away)
    sampler.ring()
    assert tried
    assert row(resources, asked).status == RequestStatus.SUCCEEDED


@SQLITE
def test_of_two_with_equal_weights_each_is_kept_as_itself(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a repeated run's checkpoint is never told as warm, and goes with the one it repeats."""
    made = [create_checkpoint() for _ in range(2)]
    for checkpoint_id in made:
        ask_images(checkpoint_id, [1])
        sampler.ring()
    assert [kept["checkpoint_id"] for kept in sampler.warm.told()] == made
    sampler.warm.drop([made[0]])
    assert [kept["checkpoint_id"] for kept in sampler.warm.told()] == made[1:]


@SQLITE
def test_those_used_last_stay_in_memory_within_the_limit_and_deleted_ones_go(
    resources: Resources, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a worker fills its memory with every checkpoint that it was ever asked for, or loads one
    for each request; and when a deleted one can still be had of it.
    """
    made = [create_checkpoint(generator={"ngf": 4, "nz": 8 + i}) for i in range(3)]
    one = Sampler(resources, threading.Event())
    ask_images(made[0], [1])
    one.ring()
    (told,) = one.warm.told()
    limited = resources.settings.model_copy(update={"warm_bytes": int(2.5 * told["size_bytes"])})
    others = (resources.database, resources.artifacts, resources.publisher)
    sampler = Sampler(Resources(limited, *others), threading.Event())
    for number in (0, 1, 0, 2):
        ask_images(made[number], [number])
        sampler.ring()
    assert [kept["checkpoint_id"] for kept in sampler.warm.told()] == [made[0], made[2]]
    sampler.forget_deleted()
    assert len(sampler.warm.told()) == 2
    with resources.database.transaction() as session:
        checkpoints.get(session, made[0]).deleted_at = datetime.now(UTC)
    sampler.forget_deleted()
    assert [kept["checkpoint_id"] for kept in sampler.warm.told()] == [made[2]]


@SQLITE
def test_a_long_training_delays_no_image_and_questions_are_answered(
    resources: Resources,
    training: Training,
    step_of: Callable[[str], int],
    start_worker: Callable[[str], Any],
    create_checkpoint: Make,
    ask_images: Make,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when images share a worker with trainings, or a sampling worker starts without torch."""
    sample_worker = start_worker("sample")
    image_id = ask_images(create_checkpoint(), [1, 2])
    resources.publisher.send("atelier.sample", image_id)
    wait_until(lambda: row(resources, image_id).status == RequestStatus.SUCCEEDED, "the images")
    assert row(resources, image_id).worker != ""

    spec = plan({"preset": "ddpm"}, BUILTIN_DATASETS.get).spec.model_dump(mode="json")
    ask = resources.publisher.ask
    described = asyncio.run(ask("atelier.describe", spec, timeout=180))
    assert described is not None, sample_worker.log
    assert described["parameters"] == count_parameters(load_spec(spec))
    assert described["memory_bytes"] > 0
    refused = asyncio.run(ask("atelier.describe", {"family": "none"}, timeout=180))
    assert refused is not None
    assert "error" in refused

    ddpm = create_checkpoint(**TINY_DDPM)
    exported = asyncio.run(ask("atelier.export", ddpm, "diffusers", timeout=180))
    assert exported is not None
    names = zipfile.ZipFile(resources.artifacts.open(exported["key"])).namelist()
    files = {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "README.md", "samples.png"}
    assert files <= set(names)
    assert asyncio.run(ask("atelier.export", ddpm, "diffusers", timeout=180)) == exported
    before = step_of(training.job_id)
    wait_until(lambda: step_of(training.job_id) > before, "the training goes on")

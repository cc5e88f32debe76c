"""Images, descriptions and exports, in this process and through a real sampling worker."""

import asyncio
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from models.networks import count_parameters
from models.presets import plan
from models.sampling import generate, labels_of
from models.spec import load_spec
from models.spec.data import BUILTIN_DATASETS
from service.errors import Unavailable
from service.records import checkpoints, images, jobs
from service.records.status import RequestStatus
from service.records.tables import ImageBatch
from tests.worker.conftest import Training
from worker import renewal, sampling
from worker.resources import Resources
from worker.sampling import Sampler

Make = Callable[..., str]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TINY_DDPM: dict[str, Any] = {
    "preset": "ddpm",
    "generator": None,
    "network": {"channels": 8, "norm_groups": 4},
    "sampler": {"kind": "ddim", "steps": 2},
}


def row(resources: Resources, image_id: str) -> ImageBatch:
    with resources.database.read() as session:
        return images.get(session, image_id)


def pictures(resources: Resources, image_id: str) -> dict[int, bytes]:
    """The stored files by seed."""
    result = row(resources, image_id).result
    assert result is not None
    return {image["seed"]: resources.artifacts.read(image["artifact"]) for image in result["data"]}


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
    gan, ddpm = create_checkpoint(), create_checkpoint(**without_gan(TINY_DDPM))
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
    changed = without_gan(changed) if changed else {}
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
    asked = ask_images(create_checkpoint(**without_gan(TINY_DDPM)), [1])
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
@pytest.mark.parametrize("changed", [{}, TINY_DDPM], ids=["gan", "diffusion"])
def test_requests_for_one_checkpoint_are_made_in_one_batch(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
) -> None:
    """Breaks when thirty clients that ask for one image each wait for each other's."""
    sizes: list[int] = []

    def counted(networks: Any, spec: Any, seeds: list[int], **options: Any) -> Any:
        sizes.append(len(seeds))
        return generate(networks, spec, seeds, **options)

    monkeypatch.setattr(sampling, "generate", counted)
    checkpoint = create_checkpoint(**(without_gan(changed) if changed else {}))
    asked = [ask_images(checkpoint, [seed]) for seed in range(30)]
    sampler.ring()
    assert {row(resources, image_id).status for image_id in asked} == {RequestStatus.SUCCEEDED}
    assert sizes == [30]
    assert [*pictures(resources, asked[7])] == [7]


@SQLITE
def test_a_small_request_overtakes_a_large_one(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when one client's thousand images keep all others waiting, of this checkpoint or another."""
    first, second = create_checkpoint(), create_checkpoint(generator={"ngf": 4, "nz": 3})
    large, small, other = ask_images(first, list(range(300))), ask_images(first, [1]), ask_images(second, [1])
    sampler.ring()
    ends = {image_id: row(resources, image_id).finished_at for image_id in (large, small, other)}
    assert all(end is not None for end in ends.values())
    assert max(ends[small], ends[other]) < ends[large]


@SQLITE
def test_what_nobody_wants_any_more_is_not_made(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when a worker goes on for minutes with images that another has taken over."""
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.01)
    asked = ask_images(create_checkpoint(**without_gan(TINY_DDPM)), list(range(1000)))
    thread = threading.Thread(target=sampler.ring)
    thread.start()
    while row(resources, asked).status != RequestStatus.RUNNING:
        time.sleep(0.01)
    with resources.database.transaction() as session:
        images.get(session, asked).attempt += 1
    thread.join(60)
    assert not thread.is_alive()
    found = row(resources, asked)
    assert (found.status, found.result) == (RequestStatus.RUNNING, None)


@SQLITE
def test_a_batch_that_is_too_large_for_the_memory_is_made_in_halves(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when requests that would each have fitted fail because they were merged."""

    def small_memory(networks: Any, spec: Any, seeds: list[int], **options: Any) -> Any:
        if len(seeds) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(networks, spec, seeds, **options)

    monkeypatch.setattr(sampling, "generate", small_memory)
    checkpoint = create_checkpoint()
    asked = [ask_images(checkpoint, [seed, seed + 100]) for seed in range(20)]
    sampler.ring()
    assert {row(resources, image_id).status for image_id in asked} == {RequestStatus.SUCCEEDED}


@SQLITE
def test_every_row_is_made_once_however_many_ring(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a ring that finds the loop busy is lost, or two threads share one network."""
    checkpoint = create_checkpoint()
    asked: list[str] = []
    lock = threading.Lock()

    def order_and_ring() -> None:
        for seed in range(5):
            image_id = ask_images(checkpoint, [seed])
            with lock:
                asked.append(image_id)
            sampler.ring()

    threads = [threading.Thread(target=order_and_ring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [row(resources, image_id) for image_id in asked]
    assert {(found.status, found.attempt) for found in rows} == {(RequestStatus.SUCCEEDED, 1)}


@SQLITE
def test_few_checkpoints_stay_in_memory(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a worker fills its memory with every checkpoint that it was ever asked for."""
    for seed in range(sampling.KEPT_CHECKPOINTS + 2):
        ask_images(create_checkpoint(generator={"ngf": 4, "nz": 2 + seed}), [seed])
    sampler.ring()
    assert len(sampler._loaded) == sampling.KEPT_CHECKPOINTS


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

    ddpm = create_checkpoint(**without_gan(TINY_DDPM))
    exported = asyncio.run(ask("atelier.export", ddpm, "diffusers", timeout=180))
    assert exported is not None
    names = zipfile.ZipFile(resources.artifacts.open(exported["key"])).namelist()
    files = {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "README.md", "samples.png"}
    assert files <= set(names)
    assert asyncio.run(ask("atelier.export", ddpm, "diffusers", timeout=180)) == exported
    before = step_of(training.job_id)
    wait_until(lambda: step_of(training.job_id) > before, "the training goes on")


def without_gan(spec: dict[str, Any]) -> dict[str, Any]:
    """The changes to the tiny spec that make it a diffusion model's: null removes, as in RFC 7396."""
    return {**spec, "discriminator": None}

"""From a posted spec to images, over HTTP, on the real embedded stack: one test a path."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from service.client import Client
from tests.service.conftest import RunningStack, start_up

GAN = {
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "batch_size": 16,
    "budget": {"steps": 12},
    "evaluation": {"samples": 100, "seed": 3},
}
DDPM = {
    "evaluation": {"scores": ["kid"], "samples": 20, "sampler": {"steps": 2}},
    "network": {"channels": 8, "multipliers": [1, 2], "norm_groups": 4},
    "batch_size": 16,
    "budget": {"steps": 8},
    "sampler": {"kind": "ddim", "steps": 5},
}
SPECS = {"dcgan": {"preset": "dcgan", **GAN}, "ddpm": {"preset": "ddpm", **DDPM}}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = start_up(tmp_path_factory.mktemp("end") / "data")
    try:
        running.wait_for("Ctrl-C stops it.")
        yield running
    finally:
        running.end()


@pytest.fixture(scope="session")
def client(stack: RunningStack) -> Any:
    url, key = ((stack.folder / name).read_text().strip() for name in ("url", "api-key"))
    with Client(url, key) as client:
        yield client


def finished(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    job = client.post("/v1/jobs", spec)
    *_, last = client.follow(f"/v1/jobs/{job['id']}", every=0.2)
    assert last["status"] == "succeeded", last["error"]
    return last


@pytest.fixture(scope="session")
def trained(client: Client) -> dict[str, dict[str, Any]]:
    """One finished job of each family."""
    return {name: finished(client, spec) for name, spec in SPECS.items()}


def checkpoint_of(job: dict[str, Any]) -> str:
    best = job["best_checkpoint"]
    return best if isinstance(best, str) else best["id"]


def losses(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    series = client.get(f"/v1/jobs/{job['id']}/metrics", max_points=1000)["series"]
    machine = ("rate/", "memory/")  # what a run has of the machine, and not of its spec
    return {key: points["value"] for key, points in series.items() if not key.startswith(machine)}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize("preset", SPECS)
def test_a_finished_jobs_spec_posted_again_gives_the_same_losses(
    client: Client, trained: dict[str, dict[str, Any]], preset: str
) -> None:
    first = trained[preset]
    again = finished(client, first["spec"])
    assert again["spec"] == first["spec"]
    assert losses(client, again) == losses(client, first)
    assert len(losses(client, first)) >= 3


@pytest.mark.parametrize("preset", SPECS)
def test_an_image_depends_on_its_own_seed_alone(
    client: Client, trained: dict[str, dict[str, Any]], preset: str
) -> None:
    checkpoint = checkpoint_of(trained[preset])
    many = client.make_images(checkpoint, {"n": 5, "seed": 40})
    alone = client.make_images(checkpoint, {"n": 1, "seed": 43})
    together, single = (pixels(client.read(batch["data"][i]["url"])) for batch, i in ((many, 3), (alone, 0)))
    assert [image["seed"] for image in many["data"]] == [40, 41, 42, 43, 44]
    assert np.abs(together - single).max() <= (0 if preset == "dcgan" else 1)
    others = pixels(client.read(many["data"][0]["url"]))
    assert (others != single).any()


@pytest.mark.parametrize("preset", SPECS)
def test_an_evaluation_gives_the_numbers_of_the_training_itself(
    client: Client, trained: dict[str, dict[str, Any]], preset: str
) -> None:
    """Breaks when scores on request cannot be compared with those of the run."""
    checkpoint = client.get(f"/v1/checkpoints/{checkpoint_of(trained[preset])}")
    assert checkpoint["scores"]
    path = f"/v1/checkpoints/{checkpoint['id']}/evaluations"
    asked = client.post(path, {}, headers={"Prefer": "respond-async"})
    *_, evaluation = client.follow(f"/v1/evaluations/{asked['id']}", every=0.2)
    assert evaluation["status"] == "succeeded", evaluation["error"]
    assert evaluation["result"]["scores"] == checkpoint["scores"]
    assert evaluation["result"]["details"] == checkpoint["score_details"]
    assert [one["id"] for one in client.items(path, 10)] == [asked["id"]]


def test_the_best_checkpoint_has_the_lowest_distance(
    client: Client, trained: dict[str, dict[str, Any]]
) -> None:
    job = trained["dcgan"]
    stored = list(client.items(f"/v1/jobs/{job['id']}/checkpoints", 100))
    scored = {one["id"]: one["scores"]["fid"] for one in stored if one["scores"]}
    assert len(scored) > 1
    assert min(scored, key=lambda name: scored[name]) == checkpoint_of(job)
    curve = client.get(f"/v1/jobs/{job['id']}/metrics", keys="score/fid")["series"]["score/fid"]["value"]
    assert sorted(curve) == sorted(scored.values())


def test_chosen_classes_are_shown(client: Client) -> None:
    """Breaks when labels or guidance are lost between the request and the picture."""
    checkpoint = checkpoint_of(finished(client, {**SPECS["ddpm"], "conditional": {}, "evaluation": None}))
    asked = {"seeds": [5, 5, 5], "labels": [1, 1, 8], "guidance_scale": 2.0}
    batch = client.make_images(checkpoint, asked)
    assert [image["label"] for image in batch["data"]] == [1, 1, 8]
    assert batch["sampler"]["guidance_scale"] == 2.0
    same, again, other = (pixels(client.read(image["url"])) for image in batch["data"])
    assert np.abs(same - again).max() <= 1
    assert (same != other).any()


def test_the_diffusers_folder_makes_the_same_images(
    client: Client, trained: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    from diffusers import DDIMPipeline, DDPMPipeline

    checkpoint = checkpoint_of(trained["ddpm"])
    archive = client.read(f"/v1/checkpoints/{checkpoint}/download?format=diffusers")
    with zipfile.ZipFile(io.BytesIO(archive)) as folder:
        folder.extractall(tmp_path)
    clipped = {"use_clipped_model_output": True}
    for kind, pipeline, options in (("ddim", DDIMPipeline, clipped), ("ddpm", DDPMPipeline, {})):
        ours = client.make_images(checkpoint, {"n": 2, "seed": 7, "sampler": {"kind": kind, "steps": 10}})
        generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
        plain = pipeline.from_pretrained(tmp_path)
        plain.set_progress_bar_config(disable=True)
        theirs = plain(batch_size=2, generator=generators, num_inference_steps=10, **options).images
        for image, reference in zip(ours["data"], theirs, strict=True):
            difference = pixels(client.read(image["url"])) - np.asarray(reference).astype(int)
            assert np.abs(difference).max() <= 1


def test_a_dry_run_counts_parameters_and_stores_nothing(client: Client) -> None:
    before = client.get("/v1/jobs", limit=1)["data"]
    plan = client.post("/v1/jobs", {"preset": "dcgan", "data": {"resolution": 64}}, dry_run="true")
    assert plan["parameters"] == {"generator": 3_574_656, "discriminator": 2_763_520}
    assert plan["memory_bytes"] > 4 * sum(plan["parameters"].values())
    assert client.get("/v1/jobs", limit=1)["data"] == before

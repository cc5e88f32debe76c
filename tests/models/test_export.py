"""diffusers makes the same images of what is exported, and what it cannot sample is not exported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DiffusionPipeline
from torch import nn

from models import checkpoints
from models.checkpoints import CheckpointError
from models.networks import build_networks
from models.presets import plan
from models.sampling import generate
from models.sampling.noise import draw, generators
from models.sampling.samplers import Start, denoise
from models.spec import BUILTIN_DATASETS, DiffusionSpec, SamplerKind, SamplerSpec

DIFFUSION = {"preset": "ddpm", "network": {"channels": 8, "attention_resolutions": [4]}}
CLIPPED = {"use_clipped_model_output": True}
SEEDS = [11, 5, 2**40]


def _saved(folder: Path, raw: Mapping[str, Any]) -> Path:
    """A checkpoint whose averaged weights differ from the others."""
    spec = plan({**raw, "seed": 1}, BUILTIN_DATASETS.get).spec
    torch.manual_seed(0)
    networks, averaged = build_networks(spec), build_networks(spec)
    averaged.pop("discriminator", None)
    for network in averaged.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.05)
    return checkpoints.save(folder, spec=spec, step=3, images=192, networks=networks, averaged=averaged).path


def _pictures(pipeline: Any, **options: Any) -> np.ndarray[Any, Any]:
    pipeline.set_progress_bar_config(disable=True)
    options |= {"batch_size": len(SEEDS), "generator": generators(SEEDS)}
    pictures = pipeline(**options).images
    images = np.stack([np.asarray(picture) for picture in pictures])
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_diffusers_makes_the_same_images_of_the_export(tmp_path: Path, channels: int, schedule: str) -> None:
    """The averaged weights, the noise schedule and the clipping all have to be in the folder."""
    path = _saved(
        tmp_path, {**DIFFUSION, "data": {"channels": channels}, "noise_schedule": {"kind": schedule}}
    )
    loaded, folder = checkpoints.load(path), tmp_path / "diffusers"
    checkpoints.export_diffusers(path, folder)

    def ours(sampler: SamplerSpec) -> np.ndarray[Any, Any]:
        return generate(loaded.networks, loaded.spec, SEEDS, sampler=sampler).numpy()

    for pipeline in (DDPMPipeline.from_pretrained(folder), DiffusionPipeline.from_pretrained(folder)):
        assert isinstance(pipeline, DDPMPipeline)
        expected = ours(SamplerSpec(kind=SamplerKind.DDPM, steps=9))
        assert np.array_equal(_pictures(pipeline, num_inference_steps=9), expected)
        assert expected.std() > 5
    ddim = DDIMPipeline.from_pretrained(folder)
    for eta in (0.0, 0.6):
        expected = ours(SamplerSpec(kind=SamplerKind.DDIM, steps=5, eta=eta))
        assert np.array_equal(_pictures(ddim, num_inference_steps=5, eta=eta, **CLIPPED), expected)


def test_diffusers_makes_the_same_values_of_the_export(tmp_path: Path) -> None:
    """Breaks when the values before rounding are further apart than 1e-5."""
    path = _saved(tmp_path, DIFFUSION)
    loaded, folder = checkpoints.load(path), tmp_path / "diffusers"
    checkpoints.export_diffusers(path, folder)
    assert isinstance(loaded.spec, DiffusionSpec)
    sources = generators(SEEDS)
    noise = Start(draw(sources, loaded.spec.data.image_shape), sources)
    sampler = SamplerSpec(kind=SamplerKind.DDIM, steps=5)
    with torch.no_grad():
        ours = denoise(loaded.networks["network"], noise, loaded.spec, sampler, None, lambda: None)
    pipeline = DDIMPipeline.from_pretrained(folder)
    theirs = _pictures(pipeline, num_inference_steps=5, output_type="np", **CLIPPED)
    expected = (ours / 2 + 0.5).clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    assert np.abs(theirs.reshape(expected.shape) - expected).max() <= 1e-5
    assert expected.std() > 0.02


def test_the_export_is_a_plain_folder_of_safetensors(tmp_path: Path) -> None:
    """No pickle, and no path of the machine that wrote it."""
    folder = tmp_path / "diffusers"
    checkpoints.export_diffusers(_saved(tmp_path / "checkpoint", DIFFUSION), folder)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert json.loads((folder / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DModel"]
    for file in folder.rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"preset": "dcgan", "generator": {"ngf": 4}}, "a GAN's generator"),
        ({"family": "diffusion", "network": {"kind": "dit", "width": 16}}, "a network of kind dit"),
        ({"family": "diffusion", "noise_schedule": {"kind": "flow"}}, "a noise schedule of kind flow"),
        ({"family": "diffusion", "conditional": {}}, "a UNet with labels"),
    ],
)
def test_what_diffusers_cannot_sample_is_not_exported(
    tmp_path: Path, raw: Mapping[str, Any], reason: str
) -> None:
    """Its pipelines would load the folder, and make other images or none."""
    path = _saved(tmp_path, raw)
    with pytest.raises(CheckpointError, match=f"no pipeline for {reason}; download the safetensors"):
        checkpoints.export_diffusers(path, tmp_path / "diffusers")
    assert not (tmp_path / "diffusers").exists()

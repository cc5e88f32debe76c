"""Every tensor of a step is made on the device of the networks; on `meta` a tensor made on the CPU raises."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.data import PackedDataset
from models.spec import GanSpec
from models.training import Progress, train
from models.training.diffusion import diffusion_recipe
from models.training.gan import gan_recipe
from models.training.recipe import Recipe
from models.training.settle import place_networks
from tests.models.training.specs import small

META = torch.device("meta")


def recipe_on_meta(preset: str) -> Recipe:
    spec = small(preset)
    networks = place_networks(spec, META)
    noise = torch.Generator()  # meta has none of its own; draws are moved to the images' device
    if isinstance(spec, GanSpec):
        return gan_recipe(spec, networks, noise)
    return diffusion_recipe(spec, networks, noise)


@pytest.mark.parametrize("preset", ["dcgan", "dcgan-vanilla", "ddpm"])
def test_losses_make_no_tensor_on_another_device(preset: str) -> None:
    recipe = recipe_on_meta(preset)
    images = torch.empty(16, 1, 16, 16, device=META)
    batch = {"images": images, "latents": torch.empty(16, 8, device=META)}
    batch |= {"noise": images, "times": torch.zeros(16, dtype=torch.long, device=META)}
    for phase in recipe.phases:
        losses = phase.loss(batch, 1)
        assert {value.device.type for value in losses.values()} == {"meta"}
        torch.stack([value for name, value in losses.items() if name.startswith("loss/")]).sum().backward()
        nn.utils.get_total_norm([weights.grad for weights in phase.network.parameters()])
    assert recipe.ema is None or {w.device.type for w in recipe.ema.network.parameters()} == {"meta"}


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["dcgan", "ddpm"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_a_gpu_learns_and_frees_its_memory(
    preset: str, precision: str, digits: PackedDataset, tmp_path: Path
) -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    spec = small(preset, budget={"steps": 20}, precision=precision, evaluation={})
    progress = [e for e in train(spec, digits, tmp_path, device="cuda") if isinstance(e, Progress)]
    assert len(progress) == 20
    assert all(abs(value) < float("inf") for event in progress for value in event.metrics.values())
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == before

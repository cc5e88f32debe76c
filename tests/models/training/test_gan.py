"""The GAN recipe against the classical loop, written plainly."""

import copy

import pytest
import torch
from torch import nn

from models.presets import PRESETS, plan
from models.spec import BUILTIN_DATASETS, GanSpec
from models.training.entry import build_recipe, derived_seed
from models.training.means import Means
from models.training.recipe import Recipe
from models.training.update import one_step
from tests.models.training.gans import ADAM, Images, SameImages, per_image, train
from tests.models.training.specs import small


def classical(spec: GanSpec, recipe: Recipe, steps: int) -> list[tuple[float, float]]:
    """pytorch/examples' loop: separate real and fake passes, D's gradients made in G's step too."""
    generator, discriminator = recipe.networks["generator"], recipe.networks["discriminator"]
    settings = {"lr": 2e-4, "betas": (0.5, 0.999), "foreach": False, "fused": False}
    optimizer_d = torch.optim.Adam(discriminator.parameters(), **settings)
    optimizer_g = torch.optim.Adam(generator.parameters(), **settings)
    noise = torch.Generator().manual_seed(derived_seed(spec, "noise"))
    criterion, stream, losses = nn.BCELoss(), Images(), []
    for _ in range(steps):
        real, _labels = stream.next()
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        latents = torch.randn(len(real), spec.generator.nz, generator=noise)
        discriminator.zero_grad()
        loss_real = criterion(discriminator(real), ones)
        loss_real.backward()
        fake = generator(latents)
        loss_fake = criterion(discriminator(fake.detach()), zeros)
        loss_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        loss_g = criterion(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()
        losses.append((loss_real.item() + loss_fake.item(), loss_g.item()))
    return losses


@pytest.mark.parametrize("accumulation", [1, 2])
def test_dcgan_vanilla_is_the_classical_recipe(accumulation: int) -> None:
    """Same networks, same noise: the losses of five steps agree, and so do the weights after them."""
    spec = small("dcgan-vanilla", batch_size=16, accumulation=accumulation)
    assert isinstance(spec, GanSpec)
    ours, theirs = (build_recipe(spec, torch.device("cpu")) for _ in range(2))
    if accumulation > 1:  # BatchNorm sees parts: only where it is switched off is the mathematics the same
        for recipe in (ours, theirs):
            for network in recipe.networks.values():
                network.eval()
    stream, means, losses = Images(), Means(), []
    for step in range(1, 6):
        one_step(spec, ours, stream, step, means, measure=True)
        read = means.read()
        losses.append((read["loss/discriminator"], read["loss/generator"]))
    expected = classical(spec, theirs, 5)
    assert losses == [pytest.approx(pair, rel=1e-4) for pair in expected]
    for name, network in ours.networks.items():
        for mine, reference in zip(network.parameters(), theirs.networks[name].parameters(), strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-5)


def test_the_generators_phase_computes_no_gradient_of_the_discriminator() -> None:
    """That gradient costs a twelfth of a step and nobody uses it."""
    recipe = build_recipe(small("dcgan-vanilla"), torch.device("cpu"))
    weights = list(recipe.networks["discriminator"].parameters())
    left = []
    recipe.phases[1].optimizer.register_step_pre_hook(lambda *_: left.extend(w.grad for w in weights))
    one_step(small("dcgan-vanilla"), recipe, Images(), 1, Means(), measure=False)
    assert len(left) == len(weights)
    assert all(gradient is None for gradient in left)


def test_ema_samples_from_averaged_weights() -> None:
    spec = small("dcgan", ema={"half_life_images": 64, "ramp": 1.0})
    recipe = build_recipe(spec, torch.device("cpu"))
    before = copy.deepcopy(recipe.networks["generator"].state_dict())
    for step in range(1, 5):
        one_step(spec, recipe, Images(), step, Means(), measure=False)
    averaged = recipe.sampling_networks()["generator"].state_dict()
    after = recipe.networks["generator"].state_dict()
    weights = "main.0.weight"
    assert not torch.equal(averaged[weights], after[weights])
    assert not torch.equal(averaged[weights], before[weights])
    assert torch.equal(averaged["main.1.running_mean"], after["main.1.running_mean"])
    plain = build_recipe(small("dcgan-vanilla"), torch.device("cpu"))
    assert plain.sampling_networks()["generator"] is plain.networks["generator"]
    assert plain.averaged_networks() is None


def test_a_gan_learns_the_brightness_of_its_images() -> None:
    """The whole game works: images of one grey level are imitated within a few hundred steps."""

    class Grey(Images):
        def next(self) -> tuple[torch.Tensor, torch.Tensor]:
            images, labels = super().next()
            return images * 0.05 + 0.6, labels

    spec = small("dcgan", budget={"steps": 300}, optimizer={"learning_rate": 2e-3})
    recipe, stream, means = build_recipe(spec, torch.device("cpu")), Grey(), Means()
    generator = recipe.networks["generator"]
    latents = torch.randn(64, spec.generator.nz)
    before = generator(latents).mean().item()
    for step in range(1, 301):
        one_step(spec, recipe, stream, step, means, measure=False)
    after = generator(latents).mean().item()
    assert abs(before - 0.6) > 0.4
    assert abs(after - 0.6) < 0.2


@pytest.mark.slow
def test_a_conditional_gan_learns_the_brightness_of_each_class() -> None:
    """Even classes are dark and odd ones bright: so are the images made of them, from the same latents."""

    class Shades(Images):
        def next(self) -> tuple[torch.Tensor, torch.Tensor]:
            images, labels = super().next()
            return images * 0.05 + (0.6 * (2 * (labels % 2) - 1)).view(-1, 1, 1, 1), labels

    spec = per_image(
        conditional={},
        loss={"kind": "hinge"},
        generator={"norm": "batch"},
        discriminator={"spectral_norm": True},
        optimizer={**ADAM, "learning_rate": 2e-3},
    )
    generator = train(spec, 200, Shades())[0].networks["generator"]
    latents = torch.randn(20, spec.generator.nz, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 10
    with torch.no_grad():
        made = generator(latents, labels).mean((1, 2, 3))
    assert (made[labels % 2 == 1].mean() - made[labels % 2 == 0].mean()).item() > 0.6


GAN_PRESETS = [name for name, preset in PRESETS.items() if preset.family == "gan"]


@pytest.mark.parametrize("conditional", [None, {}], ids=["plain", "conditional"])
@pytest.mark.parametrize("preset", GAN_PRESETS)
def test_every_preset_trains_whole_and_in_parts(preset: str, conditional: dict[str, int] | None) -> None:
    """Finite losses of both networks, whose weights both change."""
    for accumulation in (1, 2):
        raw = {
            "preset": preset,
            "seed": 1,
            "budget": {"steps": 20},
            "batch_size": 16,
            "accumulation": accumulation,
            "conditional": conditional,
            "generator": {"ngf": 4, "nz": 8},
            "discriminator": {"ndf": 4},
            "precision": "fp32",
            "memory_format": "contiguous",
        }
        spec = plan(raw, BUILTIN_DATASETS.get).spec
        assert isinstance(spec, GanSpec)
        before = build_recipe(spec, torch.device("cpu"))
        recipe, means = train(spec, 5, SameImages())
        losses = {name: value for name, value in means.read().items() if name.startswith("loss/")}
        assert {"loss/discriminator", "loss/generator"} <= losses.keys()
        assert all(abs(value) < 100 for value in losses.values())
        for name, network in recipe.networks.items():
            assert not torch.equal(next(network.parameters()), next(before.networks[name].parameters()))

"""Every field of a GAN's training that is no choice among the rows of a table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.data.differentiable import augmented
from models.spec.augmentation import AugmentationKind
from models.training import gan, gan_game
from models.training.entry import build_recipe
from models.training.gan_game import Game
from models.training.gan_penalties import WeightedPenalty
from models.training.optimizer import build_optimizer
from models.training.recipe import Recipe
from tests.models.techniques import Technique
from tests.models.training.gans import ADAM, CPU, Images, gradients, per_image, train


def clips_weights() -> None:
    spec = per_image(discriminator={"weight_clip": 0.01}, optimizer={**ADAM, "learning_rate": 0.1})
    weights = train(spec, 2)[0].networks["discriminator"].parameters()
    assert max(weight.abs().max().item() for weight in weights) == pytest.approx(0.01)


def updates_d_more_often() -> None:
    updates = gradients(per_image(discriminator_steps=2), 4)
    assert (len(updates["discriminator"]), len(updates["generator"])) == (4, 2)


def is_lazy() -> None:
    """Due at every fourth step, with four times the weight: R1 of D at its own images."""
    spec = per_image(penalties=[{"kind": "r1", "weight": 2.0, "every": 4}])
    recipe = build_recipe(spec, CPU)
    lazy = recipe.phases[1]
    assert lazy.every == 4
    batch = recipe.draw(*Images().next())
    assert "loss/r1" not in recipe.phases[0].loss(batch, 4)
    points = batch["images"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(recipe.networks["discriminator"](points).sum(), points)
    expected = 4 * 2.0 * slope.square().sum((1, 2, 3)).mean() / 2
    torch.testing.assert_close(lazy.loss(batch, 4)["loss/r1"], expected)


def lowers_ds_rate() -> None:
    spec = per_image(penalties=[{"kind": "r1", "every": 16}], optimizer=ADAM)
    (group,) = train(spec, 1)[0].phases[0].optimizer.param_groups
    assert group["betas"] == pytest.approx((0.5 ** (16 / 17), 0.9 ** (16 / 17)))
    assert group["lr"] == pytest.approx(1e-3 * 16 / 17)


def ends_at_its_final_weight() -> None:
    """The same D on the same batch: at the last of 32 steps the penalty weighs a tenth."""
    spec = per_image(penalties=[{"kind": "r1", "weight": 10.0, "final_weight": 1.0}])
    recipe = build_recipe(spec, CPU)
    batch = recipe.draw(*Images().next())
    first, last = (recipe.phases[0].loss(dict(batch), step)["loss/r1"].item() for step in (1, 32))
    assert last / first == pytest.approx(0.1)


def has_norm_one(name: str, learning_rate: float) -> None:
    """Every weight's largest singular value is 1, and stays so at each rate that training bears."""
    optimizer = {**ADAM, "learning_rate": learning_rate}
    spec = per_image(**{name: {"spectral_norm": True}}, optimizer=optimizer)
    for layer in train(spec, 12)[0].networks[name].modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            outputs = 0 if isinstance(layer, nn.Conv2d) else 1
            matrix = layer.weight.detach().movedim(outputs, 0).flatten(1)
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.1)


def learns_labels() -> None:
    """Other labels of the same images and latents are another loss, of D and of G."""
    recipe = build_recipe(per_image(conditional={}), CPU)
    images, labels = Images().next()
    batch = recipe.draw(images, labels)
    other = recipe.draw(images, (labels + 1) % 10)
    other["latents"] = batch["latents"]
    for phase in recipe.phases:
        name = f"loss/{phase.name}"
        assert phase.loss(batch, 1)[name].item() != phase.loss(other, 1)[name].item()


def without_labels(self: Game, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return DRAW(self, images, torch.zeros_like(labels))


DRAW = Game.draw


POLICY = [AugmentationKind.COLOUR, AugmentationKind.TRANSLATION, AugmentationKind.CUTOUT]


def changes_all_that_d_sees() -> None:
    """Real and made images, by the same numbers, in both phases."""
    spec = per_image(discriminator_augmentation={"kind": "diffaugment", "policy": POLICY})
    recipe = build_recipe(spec, CPU)
    batch = recipe.draw(*Images().next())
    seen: list[Tensor] = []
    discriminator = recipe.networks["discriminator"]
    discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    recipe.phases[0].loss(batch, 1)
    made = batch["fakes"].detach()
    recipe.phases[1].loss(batch, 1)
    for shown, images in zip(seen, (batch["images"], made, made), strict=True):
        assert not torch.equal(shown, images)
        torch.testing.assert_close(shown, augmented(images, batch["numbers"], POLICY))


def adapts() -> None:
    """The probability is 0 at first, is reported, and rises while D is sure of its real images."""
    ada = {"kind": "ada", "target": 0.01, "adjustment_images": 64}
    spec = per_image(discriminator_augmentation=ada, optimizer={**ADAM, "learning_rate": 0.01})
    recipe, means = train(spec, 12)
    assert recipe.state["ada/probability"].item() > 0
    assert 0 < means.read()["augmentation/probability"] <= 1


def scales_losses_of_fp16() -> None:
    recipe: Recipe = build_recipe(per_image(precision="fp16"), CPU)
    assert recipe.scaler is not None
    assert recipe.scaler.get_scale() > 1


def field(name: str, owner: Any, attribute: str, no_op: Any, check: Callable[[], None]) -> Technique:
    return Technique(name, lambda monkeypatch: monkeypatch.setattr(owner, attribute, no_op), check)


def no_loss(self: WeightedPenalty, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    return {f"loss/{self.spec.kind}": torch.zeros(())}


def every_step(phase: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: replace(phase(*arguments), every=1)


TECHNIQUES: list[Technique] = [
    field("discriminator.weight_clip", gan, "_clip_weights", lambda network, most: None, clips_weights),
    field(
        "discriminator_steps",
        gan,
        "_generator_phase",
        every_step(gan._generator_phase),
        updates_d_more_often,
    ),
    field("penalties.every", WeightedPenalty, "loss", no_loss, is_lazy),
    field(
        "lazy_rescaling",
        gan,
        "build_optimizer",
        lambda network, spec, *, rescaling: build_optimizer(network, spec),
        lowers_ds_rate,
    ),
    field(
        "penalties.final_weight",
        WeightedPenalty,
        "weight",
        lambda self, step: self.spec.weight,
        ends_at_its_final_weight,
    ),
    field(
        "discriminator.spectral_norm",
        gan,
        "add_spectral_norm",
        lambda network: network,
        lambda: has_norm_one("discriminator", 0.005),
    ),
    field(
        "generator.spectral_norm",
        gan,
        "add_spectral_norm",
        lambda network: network,
        lambda: has_norm_one("generator", 0.005),
    ),
    field(
        "spectral_norm, followed while it trains",
        gan,
        "iterate_spectral_norms",
        lambda network: None,
        lambda: has_norm_one("discriminator", 0.02),
    ),
    field("conditional, of a GAN", Game, "draw", without_labels, learns_labels),
    field(
        "discriminator_augmentation",
        gan_game,
        "augmented",
        lambda images, *_: images,
        changes_all_that_d_sees,
    ),
    field(
        "discriminator_augmentation.ada, while it trains", gan_game.Ada, "adjust", lambda self: None, adapts
    ),
    field("precision.fp16, of a GAN", torch.amp, "GradScaler", lambda device: None, scales_losses_of_fp16),
]

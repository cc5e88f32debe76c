"""Penalties while a GAN trains: how much they weigh, when they are due, what they do to D."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.spec import GanSpec
from models.spec.gan import Penalty
from models.training.entry import build_recipe, derived_seed
from models.training.gan_game import Game
from models.training.gan_penalties import WeightedPenalty
from models.training.means import Means
from models.training.update import one_step
from tests.models.training.gans import ADAM, CPU, Images, SameImages, gradients, per_image, train

FROZEN = {"learning_rate": 1e-30}
"""A rate that changes no weight: the gradients of all steps are of the same networks."""


def squared_slope(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Half the mean squared gradient of D at images, plainly."""
    points = images.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    return slopes.square().sum((1, 2, 3)).mean() / 2


def with_penalty(**penalty: Any) -> GanSpec:
    return per_image(penalties=[{"kind": "r1", "weight": 2.0, **penalty}], optimizer=FROZEN)


def total(updates: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.stack([update[name] for update in updates if name in update]).sum(0)


def test_lazy_r1_has_the_total_gradient_of_sixteen_steps() -> None:
    """One update in 16 steps is 16 times γ/2·E|∇D|², and all updates sum to those of R1 at every step."""
    stream = SameImages()
    every, lazy = (
        gradients(spec, 16, stream)["discriminator"] for spec in (with_penalty(), with_penalty(every=16))
    )
    assert (len(every), len(lazy)) == (16, 17)
    discriminator = build_recipe(with_penalty(), CPU).networks["discriminator"]
    (2.0 * squared_slope(discriminator, stream.next()[0])).backward()
    for name, parameter in discriminator.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else 16 * parameter.grad
        torch.testing.assert_close(lazy[-1].get(name, torch.zeros_like(parameter)), expected)
        torch.testing.assert_close(total(lazy, name), total(every, name), rtol=1e-4, atol=1e-5)


def test_a_lazy_penalty_is_an_update_of_d_by_ds_own_optimizer() -> None:
    """Adam's moments are shared: a second optimizer would forget the loss between two penalties."""
    spec = per_image(penalties=[{"kind": "r1", "every": 4}, {"kind": "r2"}], discriminator_steps=2)
    discriminator, lazy, generator = build_recipe(spec, CPU).phases
    assert (discriminator.name, lazy.name, generator.name) == ("discriminator", "r1", "generator")
    assert (discriminator.every, lazy.every, generator.every) == (1, 4, 2)
    assert lazy.optimizer is discriminator.optimizer
    assert lazy.learning_rate is discriminator.learning_rate
    means = train(spec, 4)[1].read()
    assert {name for name in means if name.startswith("loss/")} == {
        "loss/discriminator",
        "loss/generator",
        "loss/r1",
        "loss/r2",
    }
    assert "gradient_norm/r1" in means


def test_lazy_rescaling_is_of_ds_rate_and_betas() -> None:
    """16/17 with one penalty every 16 steps (Karras et al. 2020, appendix B); G keeps its own."""
    spec = per_image(optimizer=ADAM, penalties=[{"kind": "r1", "every": 16}])
    assert spec.lazy_rescaling == pytest.approx(16 / 17)
    discriminator, _, generator = train(spec, 1)[0].phases
    (judge,), (maker,) = discriminator.optimizer.param_groups, generator.optimizer.param_groups
    assert judge["lr"] == pytest.approx(1e-3 * 16 / 17)
    assert judge["betas"] == pytest.approx((0.5 ** (16 / 17), 0.9 ** (16 / 17)))
    assert (maker["lr"], maker["betas"]) == (1e-3, (0.5, 0.9))


@pytest.mark.parametrize(("step", "weight"), [(1, 10.0), (51, 6.0), (101, 2.0)])
def test_the_weight_reaches_its_final_value_along_a_cosine(step: int, weight: float) -> None:
    spec = per_image(
        budget={"steps": 101}, penalties=[{"kind": "r1", "weight": 10.0, "final_weight": 2.0, "every": 3}]
    )
    penalty = WeightedPenalty(spec.penalties[0], _game(spec), 101)
    assert penalty.weight(step) == pytest.approx(weight)
    constant = spec.penalties[0].model_copy(update={"final_weight": None})
    assert WeightedPenalty(constant, _game(spec), 101).weight(step) == 10.0


def test_a_run_of_one_step_has_the_first_weight() -> None:
    spec = per_image(penalties=[{"kind": "r1", "weight": 10.0, "final_weight": 0.0}])
    assert WeightedPenalty(spec.penalties[0], _game(spec), 1).weight(1) == 10.0


def _game(spec: GanSpec) -> Game:
    return Game(spec, build_recipe(spec, CPU).networks, torch.Generator())


@pytest.mark.parametrize("kind", [Penalty.R1, Penalty.R2])
def test_penalties_lower_ds_slope_where_they_are_taken(kind: Penalty) -> None:
    spec = per_image(optimizer=ADAM, penalties=[{"kind": kind, "weight": 50.0}])
    plain = per_image(optimizer=ADAM)
    reported = [train(each, 30)[0].networks for each in (plain, spec)]
    images = SameImages().next()[0]
    latents = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    slopes = [
        squared_slope(
            networks["discriminator"],
            images if kind is Penalty.R1 else networks["generator"](latents).detach(),
        ).item()
        for networks in reported
    ]
    assert slopes[1] < slopes[0] / 2


def test_r1_is_taken_at_augmented_images_in_the_images_before() -> None:
    """As StyleGAN2-ADA's code does: cutout hides a part of every image, and no slope is left there."""
    cutout = {"discriminator_augmentation": {"kind": "diffaugment", "policy": ["cutout", "horizontal_flip"]}}
    spec = per_image(penalties=[{"kind": "r1", "weight": 1.0}], **cutout)
    networks = build_recipe(spec, CPU).networks
    game = Game(spec, networks, torch.Generator().manual_seed(0))
    batch = game.draw(*Images().next())
    batch["fakes"] = batch["images"]
    points = batch["images"].clone().requires_grad_()
    (slopes,) = torch.autograd.grad(game.judged(batch, points).sum(), points)
    assert (slopes == 0).any()
    value = WeightedPenalty(spec.penalties[0], game, 1).loss(batch, 1)["loss/r1"]
    assert value.item() == pytest.approx(slopes.square().sum((1, 2, 3)).mean().item() / 2, rel=1e-5)


def test_wgan_gp_is_the_papers_algorithm() -> None:
    """Algorithm 1 of Gulrajani et al. 2017, written plainly: critic steps, λ = 10, Adam (0, 0.9)."""
    spec = per_image(
        loss={"kind": "wasserstein"},
        penalties=[{"kind": "gradient_penalty"}],
        discriminator_steps=2,
        optimizer={**ADAM, "betas": [0.0, 0.9]},
    )
    networks = copy.deepcopy(build_recipe(spec, CPU).networks)
    generator, critic = networks["generator"], networks["discriminator"]
    optimizers = {
        name: torch.optim.Adam(network.parameters(), 1e-3, (0.0, 0.9), fused=False, foreach=False)
        for name, network in networks.items()
    }
    noise, stream, expected = torch.Generator().manual_seed(derived_seed(spec, "noise")), Images(), []
    for step in range(1, 7):
        real, latents = stream.next()[0], torch.randn(16, 8, generator=noise)
        mix = torch.rand(16, generator=noise).view(-1, 1, 1, 1)
        fake = generator(latents).detach()
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        optimizers["discriminator"].zero_grad()
        loss.backward()
        optimizers["discriminator"].step()
        expected.append(loss.item())
        if step % 2 == 0:
            optimizers["generator"].zero_grad()
            (-critic(generator(latents)).mean()).backward()
            optimizers["generator"].step()
    recipe, means, stream, losses = build_recipe(spec, CPU), Means(), Images(), []
    for step in range(1, 7):
        one_step(spec, recipe, stream, step, means, measure=False)
        read = means.read()
        losses.append(read["loss/discriminator"] + read["loss/gradient_penalty"])
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-4)

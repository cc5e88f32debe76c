"""The noising process, the targets and the weights against diffusers and the papers."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from models.losses.denoising import TARGETS, WEIGHTINGS, noised, weighted_mse
from models.spec.diffusion import Prediction, Weighting

TIMESTEPS = torch.tensor([0, 1, 250, 500, 998, 999])


@pytest.fixture
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2")


def test_noising_is_diffusers_add_noise(scheduler: DDPMScheduler) -> None:
    images, noise = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)
    ours = noised(images, noise, scheduler.alphas_cumprod[TIMESTEPS])
    torch.testing.assert_close(ours, scheduler.add_noise(images, noise, TIMESTEPS))


def test_noise_takes_over_from_first_to_last_step() -> None:
    images, noise = torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4)
    torch.testing.assert_close(
        noised(images, noise, torch.tensor([1.0, 0.0])), torch.stack([images[0], noise[1]])
    )


def test_epsilon_is_the_noise_and_x0_the_image() -> None:
    images, noise, alphas = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.9])
    assert TARGETS[Prediction.EPSILON](images, noise, alphas) is noise
    assert TARGETS[Prediction.X0](images, noise, alphas) is images
    assert set(TARGETS) == set(Prediction)


def test_v_is_diffusers_velocity(scheduler: DDPMScheduler) -> None:
    images, noise = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)
    ours = TARGETS[Prediction.V](images, noise, scheduler.alphas_cumprod[TIMESTEPS])
    torch.testing.assert_close(ours, scheduler.get_velocity(images, noise, TIMESTEPS))


def test_v_and_the_noised_image_give_back_both_of_their_parts() -> None:
    """x0 = √ᾱ·x - √(1-ᾱ)·v and ε = √(1-ᾱ)·x + √ᾱ·v (Salimans & Ho 2022, appendix D)."""
    images, noise, alphas = torch.randn(4, 1, 4, 4), torch.randn(4, 1, 4, 4), torch.tensor([0.0, 0.3, 0.8, 1])
    x, v = noised(images, noise, alphas), TARGETS[Prediction.V](images, noise, alphas)
    signal, rest = (value.sqrt().view(-1, 1, 1, 1) for value in (alphas, 1 - alphas))
    torch.testing.assert_close(signal * x - rest * v, images)
    torch.testing.assert_close(rest * x + signal * v, noise)


def test_min_snr_is_that_of_diffusers_training_scripts(scheduler: DDPMScheduler) -> None:
    """min(SNR, γ) over SNR for ε and over SNR + 1 for v, as in train_text_to_image.py; undivided for x0."""
    snr = compute_snr(scheduler, TIMESTEPS)
    clipped = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    kept = scheduler.alphas_cumprod[TIMESTEPS]
    expected = {Prediction.EPSILON: clipped / snr, Prediction.V: clipped / (snr + 1), Prediction.X0: clipped}
    for prediction, weights in expected.items():
        ours = WEIGHTINGS[Weighting.MIN_SNR](kept / (1 - kept), prediction, 5.0)
        torch.testing.assert_close(ours, weights)
    assert set(WEIGHTINGS) == set(Weighting)


def test_min_snr_weighs_the_same_error_of_the_image_alike() -> None:
    """The three predictions differ in scale alone: an error of the image costs the same by each of them."""
    alphas, error = torch.tensor([0.02, 0.5, 0.97]), 0.1
    snr = alphas / (1 - alphas)
    implied = {Prediction.EPSILON: alphas / (1 - alphas), Prediction.V: 1 / (1 - alphas), Prediction.X0: 1.0}
    costs = [
        WEIGHTINGS[Weighting.MIN_SNR](snr, prediction, 5.0) * factor * error**2
        for prediction, factor in implied.items()
    ]
    torch.testing.assert_close(costs[0], costs[2])
    torch.testing.assert_close(costs[1], costs[2])


def test_min_snr_is_finite_where_all_is_noise() -> None:
    none = torch.zeros(1)
    assert WEIGHTINGS[Weighting.MIN_SNR](none, Prediction.V, 5.0) == 0
    assert WEIGHTINGS[Weighting.MIN_SNR](none, Prediction.X0, 5.0) == 0


def test_uniform_weights_give_the_plain_loss_to_the_last_bit() -> None:
    predicted, target = torch.randn(5, 3, 7, 7, requires_grad=True), torch.randn(5, 3, 7, 7)
    weights = WEIGHTINGS[Weighting.UNIFORM](torch.rand(5), Prediction.EPSILON, 5.0)
    ours, plain = weighted_mse(predicted, target, weights), F.mse_loss(predicted, target)
    assert torch.equal(ours, plain)
    assert torch.equal(*(torch.autograd.grad(loss, predicted)[0] for loss in (ours, plain)))


def test_weights_are_one_an_image() -> None:
    predicted, target, weights = (
        torch.randn(3, 2, 4, 4),
        torch.randn(3, 2, 4, 4),
        torch.tensor([0.0, 1.0, 4.0]),
    )
    each = (predicted - target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(weighted_mse(predicted, target, weights), (weights * each).mean())

"""The noising process against diffusers, and the targets against the paper."""

import torch
from diffusers import DDPMScheduler

from models.losses.denoising import TARGETS, noised
from models.spec.diffusion import Prediction


def test_noising_is_diffusers_add_noise() -> None:
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    images, noise = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)
    timesteps = torch.tensor([0, 1, 250, 500, 998, 999])
    ours = noised(images, noise, scheduler.alphas_cumprod[timesteps])
    torch.testing.assert_close(ours, scheduler.add_noise(images, noise, timesteps))


def test_noise_takes_over_from_first_to_last_step() -> None:
    images, noise = torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4)
    torch.testing.assert_close(
        noised(images, noise, torch.tensor([1.0, 0.0])), torch.stack([images[0], noise[1]])
    )


def test_epsilon_is_the_noise() -> None:
    images, noise, alphas = torch.zeros(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.9])
    assert TARGETS[Prediction.EPSILON](images, noise, alphas) is noise
    assert set(TARGETS) == set(Prediction)

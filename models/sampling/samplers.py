"""Samplers of diffusion models: diffusers' schedulers, with one random generator an image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from models.networks.noise_schedule import noise_scheduler
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec


def _ddpm(schedule: DDPMScheduler, _sampler: SamplerSpec) -> tuple[Any, dict[str, Any]]:
    return schedule, {}


def _ddim(schedule: DDPMScheduler, sampler: SamplerSpec) -> tuple[Any, dict[str, Any]]:
    return DDIMScheduler.from_config(schedule.config), {"eta": sampler.eta}


SAMPLERS: dict[SamplerKind, Callable[[DDPMScheduler, SamplerSpec], tuple[Any, dict[str, Any]]]] = {
    SamplerKind.DDPM: _ddpm,  # Ho et al. 2020, algorithm 2
    SamplerKind.DDIM: _ddim,  # Song et al. 2021, equation 12
}
"""From the model's noise schedule to the scheduler that samples, and what each of its steps is told."""


def denoise(
    network: nn.Module,
    noise: Tensor,
    sources: Sequence[torch.Generator],
    spec: DiffusionSpec,
    sampler: SamplerSpec,
    after_step: Callable[[], None],
) -> Tensor:
    """Noise (B, C, H, W) to images in about [-1, 1], exactly as diffusers' pipelines do it.

    `sources` are the generators that drew `noise`; each goes on to draw the noise of its image at each step.
    """
    if sampler.kind is None:
        raise ValueError("the sampler is not resolved: its kind is missing")
    scheduler, options = SAMPLERS[sampler.kind](noise_scheduler(spec), sampler)
    scheduler.set_timesteps(sampler.steps)
    images = noise
    for timestep in scheduler.timesteps:
        prediction = network(images, timestep)
        step = scheduler.step(prediction, timestep, images, generator=list(sources), **options)
        images = step.prev_sample
        after_step()
    return images

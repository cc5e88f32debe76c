"""How images are noised while a diffusion model trains, and what its network should answer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.losses.denoising import TARGETS, WEIGHTINGS, noised
from models.networks.noise_schedule import FLOW_TIMES, Edm, noise_scheduler
from models.spec.diffusion import IN_TIMESTEPS, DiffusionSpec, NoiseScheduleKind


@dataclass(frozen=True)
class Process:
    """A noising process as functions of images and noise (B, C, H, W) and times (B,)."""

    draw_times: Callable[[int, torch.Generator], Tensor]
    """Times of so many images, on the generator's device."""
    inputs: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The noised images as the network sees them."""
    network_times: Callable[[Tensor], Tensor]
    """The times as the network is told them."""
    target: Callable[[Tensor, Tensor, Tensor], Tensor]
    """What the network should return."""
    weight: Callable[[Tensor], Tensor]
    """Weights (B,) of its squared error."""


def _in_timesteps(spec: DiffusionSpec, device: torch.device) -> Process:
    """Times are timesteps, each as likely (Ho et al. 2020, algorithm 1)."""
    alphas_cumprod_T = noise_scheduler(spec).alphas_cumprod.to(device)
    prediction = spec.loss.prediction
    if prediction is None:
        raise ValueError("the spec is not resolved: loss.prediction is missing")
    target = TARGETS[prediction]
    weights_T = WEIGHTINGS[spec.loss.weighting](
        alphas_cumprod_T / (1 - alphas_cumprod_T), prediction, spec.loss.min_snr_gamma or 5.0
    )
    return Process(
        draw_times=lambda count, source: torch.randint(
            len(alphas_cumprod_T), (count,), generator=source, device=source.device
        ),
        inputs=lambda images, noise, times_B: noised(images, noise, alphas_cumprod_T[times_B]),
        network_times=lambda times_B: times_B,
        target=lambda images, noise, times_B: target(images, noise, alphas_cumprod_T[times_B]),
        weight=lambda times_B: weights_T[times_B],
    )


def _edm(spec: DiffusionSpec, device: torch.device) -> Process:
    """Times are σ, with ln σ normal; the denoised image's error has weight λ(σ) (Karras et al. 2022)."""
    edm = Edm.of(spec)

    def inputs(images_BCHW: Tensor, noise_BCHW: Tensor, sigmas_B: Tensor) -> Tensor:
        sigmas = sigmas_B.view(-1, 1, 1, 1)
        return edm.c_in(sigmas) * (images_BCHW + sigmas * noise_BCHW)

    def target(images_BCHW: Tensor, noise_BCHW: Tensor, sigmas_B: Tensor) -> Tensor:
        """The F for which c_skip·x + c_out·F is the image (eq. 8)."""
        sigmas = sigmas_B.view(-1, 1, 1, 1)
        skipped = edm.c_skip(sigmas) * (images_BCHW + sigmas * noise_BCHW)
        return (images_BCHW - skipped) / edm.c_out(sigmas)

    return Process(
        draw_times=lambda count, source: _normal(edm.time_mean, edm.time_std, count, source).exp(),
        inputs=inputs,
        network_times=edm.c_noise,
        target=target,
        # The image's error is c_out times the network's; the product is 1 but for rounding.
        weight=lambda sigmas_B: edm.loss_weight(sigmas_B) * edm.c_out(sigmas_B) ** 2,
    )


def _flow(spec: DiffusionSpec, device: torch.device) -> Process:
    """Times are t in (0, 1), 1 all noise, with a normal logit (Esser et al. 2024, section 3.1).

    x_t = (1-t)·x0 + t·ε, and the network predicts the path's direction ε - x0 (Lipman et al. 2023; Liu et al.
    2023).
    """
    mean, std = spec.noise_schedule.time_mean, spec.noise_schedule.time_std
    if mean is None or std is None:
        raise ValueError("the spec is not resolved: noise_schedule.time_mean or time_std is missing")

    def inputs(images_BCHW: Tensor, noise_BCHW: Tensor, times_B: Tensor) -> Tensor:
        times = times_B.view(-1, 1, 1, 1)
        return (1 - times) * images_BCHW + times * noise_BCHW

    return Process(
        draw_times=lambda count, source: _normal(mean, std, count, source).sigmoid(),
        inputs=inputs,
        network_times=lambda times_B: times_B * FLOW_TIMES,
        target=lambda images_BCHW, noise_BCHW, _times_B: noise_BCHW - images_BCHW,
        weight=torch.ones_like,
    )


def _normal(mean: float, std: float, count: int, source: torch.Generator) -> Tensor:
    return mean + std * torch.randn(count, generator=source, device=source.device)


PROCESSES: dict[NoiseScheduleKind, Callable[[DiffusionSpec, torch.device], Process]] = {
    **dict.fromkeys(IN_TIMESTEPS, _in_timesteps),
    NoiseScheduleKind.EDM: _edm,
    NoiseScheduleKind.FLOW: _flow,
}
"""The process of each noise schedule, for tensors on a device."""

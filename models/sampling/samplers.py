"""Samplers of diffusion models: diffusers' schedulers, with one generator an image, and two ODE solvers."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor, nn

from models.networks.noise_schedule import FLOW_TIMES, Edm, noise_scheduler
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec
from models.spec.diffusion import NoiseScheduleKind

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network's output for noisy images (B, C, H, W) at one time (), as the network is told it."""


@dataclass(frozen=True)
class Start:
    """Standard normal noise (B, C, H, W), and the generators that drew it, one an image.

    They go on to draw the noise of their images at each step. With `images` (B, C, H, W) in [-1, 1] sampling
    begins with these, made as noisy as they are where the last `remaining` steps begin, and runs those alone
    (SDEdit, Meng et al. 2022, section 3).
    """

    noise: Tensor
    sources: Sequence[torch.Generator]
    images: Tensor | None = None
    strength: float = 1.0

    def at(self, signal: float, noise: float) -> Tensor:
        """The images and the noise in these shares; without images the noise alone."""
        return noise * self.noise if self.images is None else signal * self.images + noise * self.noise


MOST_ETA = 1 - 1e-5
"""At 1 and hardly any signal, DDIM's √(1 - ᾱ' - σ²) is that of 0, which float32 may round to less: NaN."""


def remaining(sampler: SamplerSpec, strength: float) -> int:
    """Of a sampler's steps, the last ones that `strength` in (0, 1] of the way asks for; one at least."""
    return max(1, round(sampler.steps * strength))


def _ddpm(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    return _scheduled(noise_scheduler(spec), predict, start, sampler, generator=list(start.sources))


def _ddim(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    """The noise is that of the clipped image: the unclipped one is at first far outside [-1, 1]."""
    eta = min(sampler.eta, MOST_ETA)
    options = {"generator": list(start.sources), "eta": eta, "use_clipped_model_output": True}
    scheduler = DDIMScheduler.from_config(noise_scheduler(spec).config)
    return _scheduled(scheduler, predict, start, sampler, **options)


def _dpmpp(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    return _scheduled(_solver(DPMSolverMultistepScheduler, spec), predict, start, sampler)


def _unipc(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    return _scheduled(_solver(UniPCMultistepScheduler, spec), predict, start, sampler)


def _solver(scheduler: Any, spec: DiffusionSpec) -> Any:
    """A multistep solver of second order of the model's noise schedule.

    Thresholding at 1 is how these schedulers clip the predicted image to [-1, 1]: where hardly any image is
    left in the noise, a small error of ε is a large one of the image.
    """
    config = noise_scheduler(spec).config
    return scheduler.from_config(config, solver_order=2, thresholding=True, sample_max_value=1.0)


def _scheduled(
    scheduler: Any, predict: Predict, start: Start, sampler: SamplerSpec, **options: Any
) -> Tensor:
    """Exactly as diffusers' pipelines do it; `options` are told to each of the scheduler's steps."""
    scheduler.set_timesteps(sampler.steps)
    timesteps = scheduler.timesteps[-remaining(sampler, start.strength) :]
    images = start.noise
    if start.images is not None:
        kept = float(scheduler.alphas_cumprod[timesteps[0]])
        images = start.at(kept**0.5, (1 - kept) ** 0.5)
    for timestep in timesteps:
        prediction = predict(images, timestep.to(images.device))
        images = scheduler.step(prediction, timestep, images, **options).prev_sample
    return images


@dataclass(frozen=True)
class _Ode:
    """dx/dt = slope(x, t), whose paths lead from noise at the first time to images at the last, which is 0.

    At time t an image is x = signal(t)·image + t·noise.
    """

    times: list[float]
    slope: Callable[[Tensor, float], Tensor]
    signal: Callable[[float], float]

    def last(self, steps: int) -> list[tuple[float, float]]:
        """The times at which each of the last `steps` steps begins and ends."""
        return list(itertools.pairwise(self.times))[-steps:]


def _edm_ode(predict: Predict, spec: DiffusionSpec, steps: int) -> _Ode:
    """Time is σ, and dx/dσ = (x - D(x; σ)) / σ (Karras et al. 2022, eq. 3 and 5)."""
    edm = Edm.of(spec)

    def slope(x: Tensor, time: float) -> Tensor:
        sigma = torch.tensor(time, device=x.device)
        output = predict(edm.c_in(sigma) * x, edm.c_noise(sigma))
        denoised = edm.c_skip(sigma) * x + edm.c_out(sigma) * output
        return (x - denoised) / sigma

    return _Ode(edm.levels(steps), slope, lambda _: 1.0)


def _flow_ode(predict: Predict, spec: DiffusionSpec, steps: int) -> _Ode:
    """Time runs from 1 to 0 in equal steps; the network's output is dx/dt (Lipman et al. 2023)."""
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()

    def slope(x: Tensor, time: float) -> Tensor:
        return predict(x, torch.tensor(time * FLOW_TIMES, device=x.device))

    return _Ode(times, slope, lambda time: 1 - time)


ODES: dict[NoiseScheduleKind, Callable[[Predict, DiffusionSpec, int], _Ode]] = {
    NoiseScheduleKind.EDM: _edm_ode,
    NoiseScheduleKind.FLOW: _flow_ode,
}
"""The equation whose solution turns noise into an image, with a sampler's steps."""


def _euler(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    ode = ODES[spec.noise_schedule.kind](predict, spec, sampler.steps)
    steps = ode.last(remaining(sampler, start.strength))
    x = start.at(ode.signal(steps[0][0]), steps[0][0])
    for time, following in steps:
        x = x + (following - time) * ode.slope(x, time)
    return x


def _heun(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    """The last step, to time 0, is Euler's: the slope there is 0/0 of `edm`, hardly trained of `flow`."""
    ode = ODES[spec.noise_schedule.kind](predict, spec, sampler.steps)
    steps = ode.last(remaining(sampler, start.strength))
    x = start.at(ode.signal(steps[0][0]), steps[0][0])
    for time, following in steps:
        slope = ode.slope(x, time)
        euler = x + (following - time) * slope
        x = euler if following == 0 else x + (following - time) * (slope + ode.slope(euler, following)) / 2
    return x


SAMPLERS: dict[SamplerKind, Callable[[Predict, Start, DiffusionSpec, SamplerSpec], Tensor]] = {
    SamplerKind.DDPM: _ddpm,  # Ho et al. 2020, algorithm 2
    SamplerKind.DDIM: _ddim,  # Song et al. 2021, equation 12
    SamplerKind.DPMPP: _dpmpp,  # Lu et al. 2022, DPM-Solver++, algorithm 2
    SamplerKind.UNIPC: _unipc,  # Zhao et al. 2023, algorithms 5 to 8 with B2(h)
    SamplerKind.EULER: _euler,  # first order
    SamplerKind.HEUN: _heun,  # Karras et al. 2022, algorithm 1
}
"""From noise to images in about [-1, 1]."""


def evaluations(sampler: SamplerSpec, strength: float = 1.0) -> int:
    """How often the network is evaluated for an image; with guidance an evaluation is one doubled batch."""
    steps = remaining(sampler, strength)
    return 2 * steps - 1 if sampler.kind is SamplerKind.HEUN else steps


@dataclass(frozen=True)
class Labels:
    """What a batch of images is to show: its labels (B,), and the label that means none."""

    of_images: Tensor
    none: int


def denoise(
    network: nn.Module,
    start: Start,
    spec: DiffusionSpec,
    sampler: SamplerSpec,
    labels: Labels | None,
    after_evaluation: Callable[[], None],
) -> Tensor:
    """Noise to images (B, C, H, W) in about [-1, 1]."""
    if sampler.kind is None:
        raise ValueError("the sampler is not resolved: its kind is missing")
    told = guided(network, labels, sampler.guidance_scale)

    def predict(images: Tensor, time: Tensor) -> Tensor:
        prediction = told(images, time)
        after_evaluation()
        return prediction

    return SAMPLERS[sampler.kind](predict, start, spec, sampler)


def guided(network: nn.Module, labels: Labels | None, scale: float) -> Predict:
    """The network's prediction, drawn by `scale` w towards the label: uncond + w·(cond - uncond).

    Classifier-free guidance (Ho & Salimans 2022, eq. 6, where w is less by one); w = 1 costs nothing.
    """
    if labels is None:
        return network
    if scale == 1:
        return lambda images, time: network(images, time, labels.of_images)
    both = torch.cat([labels.of_images, torch.full_like(labels.of_images, labels.none)])

    def drawn(images: Tensor, time: Tensor) -> Tensor:
        conditional, unconditional = network(torch.cat([images, images]), time, both).chunk(2)
        return torch.lerp(unconditional, conditional, scale)

    return drawn

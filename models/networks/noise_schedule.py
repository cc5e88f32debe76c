"""How noise grows with time, and what a network is told of it: training and sampling share it."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from models.spec.diffusion import DiffusionSpec, NoiseScheduleKind, Prediction

BETA_SCHEDULES = {
    NoiseScheduleKind.LINEAR: "linear",  # β from 1e-4 to 0.02: Ho et al. 2020, section 4
    NoiseScheduleKind.COSINE: "squaredcos_cap_v2",  # ᾱ = cos²: Nichol & Dhariwal 2021, equation 17
    NoiseScheduleKind.SIGMOID: "sigmoid",  # β along a sigmoid: Xu et al. 2022, GeoDiff
}
"""The schedules in timesteps, as diffusers calls them."""

PREDICTION_TYPES = {Prediction.EPSILON: "epsilon", Prediction.V: "v_prediction", Prediction.X0: "sample"}
"""As diffusers calls them."""

FLOW_TIMES = 1000
"""A flow's time in [0, 1] is told to the network in thousandths, the scale that its embedding is made for."""


def noise_scheduler(spec: DiffusionSpec) -> DDPMScheduler:
    """A new scheduler of a model in timesteps: `add_noise` for training, `step` for ancestral sampling.

    The predicted image is clipped to [-1, 1]. A scheduler remembers its timesteps: use one for each sampling.
    Raises ValueError where the spec is not resolved.
    """
    schedule, prediction = spec.noise_schedule, spec.loss.prediction
    if schedule.timesteps is None or prediction is None:
        raise ValueError("the spec is not resolved: noise_schedule.timesteps or loss.prediction is missing")
    betas: dict[str, Any] = {
        "num_train_timesteps": schedule.timesteps,
        "beta_schedule": BETA_SCHEDULES[schedule.kind],
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    if schedule.kind is NoiseScheduleKind.SIGMOID:
        # Of diffusers' schedulers DDPM's alone knows the name; those made from its config take the values.
        betas["trained_betas"] = DDPMScheduler(**betas).betas.tolist()
    return DDPMScheduler(
        **betas,
        clip_sample=True,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
        # Sampling begins with noise, so with the last timestep (Lin et al. 2024, section 3.3).
        timestep_spacing="trailing",
        prediction_type=PREDICTION_TYPES[prediction],
    )


@dataclass(frozen=True)
class Edm:
    """Noise of standard deviation σ, and the factors around the network (Karras et al. 2022, table 1).

    The denoised image is D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise), with F the network. For images of
    standard deviation `sigma_data` the inputs of F and its targets then have unit variance at every σ.
    """

    sigma_min: float
    sigma_max: float
    rho: float
    sigma_data: float
    time_mean: float
    time_std: float

    @classmethod
    def of(cls, spec: DiffusionSpec) -> "Edm":
        """What the spec says; raises ValueError where it is not resolved."""
        values = {name: getattr(spec.noise_schedule, name) for name in cls.__dataclass_fields__}
        if open_fields := [name for name, value in values.items() if value is None]:
            raise ValueError(f"the spec is not resolved: noise_schedule.{open_fields[0]} is missing")
        return cls(**values)

    def c_skip(self, sigma: Tensor) -> Tensor:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        return sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1 / (sigma**2 + self.sigma_data**2).sqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """λ(σ) of the error of D."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2

    def levels(self, steps: int) -> list[float]:
        """The σ between a sampler's steps: from `sigma_max` to `sigma_min`, then 0 (eq. 5); `steps` + 1."""
        fractions = torch.linspace(0, 1, steps, dtype=torch.float64)
        most, least = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return [*((most + fractions * (least - most)) ** self.rho).tolist(), 0.0]

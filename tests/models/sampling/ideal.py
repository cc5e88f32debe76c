"""The best networks for data N(mean, spread²): what sampling makes of them is known exactly."""

from typing import Any

import torch
from torch import Tensor, nn

from models.networks.noise_schedule import Edm, noise_scheduler
from models.presets import plan
from models.spec import BUILTIN_DATASETS, DiffusionSpec, SamplerKind, SamplerSpec
from models.spec.diffusion import IN_TIMESTEPS, NoiseScheduleKind, Prediction

MEAN, SPREAD = 0.1, 0.2


def spec_of(kind: NoiseScheduleKind, prediction: Prediction | None = None, **fields: Any) -> DiffusionSpec:
    """A resolved spec of a noise schedule, `fields` being the schedule's own."""
    raw = {
        "family": "diffusion",
        "noise_schedule": {"kind": kind.value, **fields},
        "sampler": {"steps": fields.get("timesteps", 50)},
        "loss": {"prediction": prediction and prediction.value},
    }
    spec = plan(raw, BUILTIN_DATASETS.get).spec
    assert isinstance(spec, DiffusionSpec)
    return spec


def sampler(kind: SamplerKind, steps: int, **fields: Any) -> SamplerSpec:
    return SamplerSpec(kind=kind, steps=steps, **fields)


def ideal(spec: DiffusionSpec, mean: float = MEAN, spread: float = SPREAD) -> nn.Module:
    """The network that minimises the loss of `spec` on N(mean, spread²)."""
    kind = spec.noise_schedule.kind
    if kind in IN_TIMESTEPS:
        return _InTimesteps(spec, mean, spread)
    return (_Edm if kind is NoiseScheduleKind.EDM else _Flow)(spec, mean, spread)


def solution(spec: DiffusionSpec, noise: Tensor, mean: float = MEAN, spread: float = SPREAD) -> Tensor:
    """Where the probability-flow equation takes standard normal noise: Gaussians stay Gaussian on the way."""
    kind = spec.noise_schedule.kind
    if kind is NoiseScheduleKind.FLOW:
        return mean + spread * noise
    if kind is NoiseScheduleKind.EDM:
        most = Edm.of(spec).sigma_max
        return mean + spread * (most * noise - mean) / (most**2 + spread**2) ** 0.5
    kept = noise_scheduler(spec).alphas_cumprod[-1]
    return mean + spread * (noise - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept).sqrt()


class _Ideal(nn.Module):
    def __init__(self, spec: DiffusionSpec, mean: float, spread: float) -> None:
        super().__init__()
        self.spec, self.mean, self.spread = spec, mean, spread
        self.anchor = nn.Parameter(torch.zeros(()))

    def parts(self, x: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The means of x0 and ε, given x = signal·x0 + noise·ε (conditioning of a Gaussian)."""
        surprise = (x - signal * self.mean) / (signal**2 * self.spread**2 + noise**2)
        return self.mean + signal * self.spread**2 * surprise, noise * surprise


class _InTimesteps(_Ideal):
    def __init__(self, spec: DiffusionSpec, mean: float, spread: float) -> None:
        super().__init__(spec, mean, spread)
        self.kept = noise_scheduler(spec).alphas_cumprod

    def forward(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        kept = self.kept[times]
        signal, noise = (_per_image(value.sqrt()) for value in (kept, 1 - kept))
        image, epsilon = self.parts(x, signal, noise)
        return {
            Prediction.EPSILON: epsilon,
            Prediction.V: signal * epsilon - noise * image,
            Prediction.X0: image,
        }[self.spec.loss.prediction]


class _Edm(_Ideal):
    def forward(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        edm, sigma = Edm.of(self.spec), _per_image((4 * times).exp())
        seen = x / edm.c_in(sigma)
        image, _ = self.parts(seen, torch.ones(()), sigma)
        return (image - edm.c_skip(sigma) * seen) / edm.c_out(sigma)


class _Flow(_Ideal):
    def forward(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        time = _per_image(times / 1000)
        image, epsilon = self.parts(x, 1 - time, time)
        return epsilon - image


def _per_image(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1); () stays."""
    return values.view(-1, 1, 1, 1) if values.ndim else values

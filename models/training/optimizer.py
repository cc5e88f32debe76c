"""Optimizers and learning-rate schedules as tables, and the stateless rate of a step."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn, optim

from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind, ScheduleSpec

Parameters = Iterable[nn.Parameter]


def _adam(parameters: Parameters, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.Adam(parameters, spec.learning_rate, _betas(spec), spec.eps, spec.weight_decay, fused=True)


def _adamw(parameters: Parameters, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.AdamW(parameters, spec.learning_rate, _betas(spec), spec.eps, spec.weight_decay, fused=True)


def _rmsprop(parameters: Parameters, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.RMSprop(
        parameters,
        spec.learning_rate,
        alpha=spec.alpha or 0.99,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        momentum=spec.momentum or 0.0,
        foreach=True,
    )


def _sgd(parameters: Parameters, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.SGD(
        parameters, spec.learning_rate, spec.momentum or 0.0, weight_decay=spec.weight_decay, fused=True
    )


OPTIMIZERS: dict[OptimizerKind, Callable[[Parameters, OptimizerSpec], optim.Optimizer]] = {
    OptimizerKind.ADAM: _adam,
    OptimizerKind.ADAMW: _adamw,
    OptimizerKind.RMSPROP: _rmsprop,
    OptimizerKind.SGD: _sgd,
}
"""Each makes a step one pass over all parameters, fused or for each."""

DECAYS: dict[ScheduleKind, Callable[[int, int, ScheduleSpec], float]] = {
    ScheduleKind.CONSTANT: lambda step, steps, schedule: 1.0,
    ScheduleKind.STEP: lambda step, steps, schedule: (
        (schedule.gamma or 1.0) ** (step // (schedule.step_size or steps))
    ),
    ScheduleKind.EXPONENTIAL: lambda step, steps, schedule: (schedule.gamma or 1.0) ** step,
    ScheduleKind.LINEAR: lambda step, steps, schedule: 1.0 - step / steps,
    ScheduleKind.COSINE: lambda step, steps, schedule: 0.5 * (1.0 + math.cos(math.pi * step / steps)),
}
"""The factor on the rate after `step` of the `steps` that follow the warm-up."""


def build_optimizer(network: nn.Module, spec: OptimizerSpec, *, rescaling: float = 1.0) -> optim.Optimizer:
    """The optimizer of all the network's parameters.

    `rescaling` is the exponent on the betas that makes up for the updates of lazy penalties (Karras et al.
    2020, StyleGAN2, appendix B); the same factor on the rate is LearningRate's.
    """
    if spec.betas is not None and rescaling != 1:
        first, second = spec.betas
        spec = spec.model_copy(update={"betas": (first**rescaling, second**rescaling)})
    return OPTIMIZERS[spec.kind](network.parameters(), spec)


def _betas(spec: OptimizerSpec) -> tuple[float, float]:
    if spec.betas is None:
        raise ValueError("the spec is not resolved: betas are missing")
    return spec.betas


@dataclass(frozen=True)
class LearningRate:
    """The rate of each step: a function of the step alone, so that a resumed run needs no state."""

    spec: OptimizerSpec
    steps: int
    rescaling: float = 1.0

    def at(self, step: int) -> float:
        """The rate of update `step`, counted from 1."""
        schedule, peak = self.spec.schedule, self.spec.learning_rate * self.rescaling
        warmup = schedule.warmup_steps or 0
        if step <= warmup:
            return peak * step / warmup
        return peak * DECAYS[schedule.kind](step - 1 - warmup, max(1, self.steps - warmup), schedule)

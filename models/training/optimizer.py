"""Optimizers and learning-rate schedules as tables, and the stateless rate of a step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn, optim

from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind

_RULES: dict[OptimizerKind, type[optim.Adam] | type[optim.AdamW]] = {
    OptimizerKind.ADAM: optim.Adam,
    OptimizerKind.ADAMW: optim.AdamW,
}

DECAYS: dict[ScheduleKind, Callable[[float], float]] = {
    ScheduleKind.CONSTANT: lambda done: 1.0,
    ScheduleKind.LINEAR: lambda done: 1.0 - done,
    ScheduleKind.COSINE: lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""The factor on the rate when a fraction `done` of the steps after the warm-up is done."""


def build_optimizer(network: nn.Module, spec: OptimizerSpec) -> optim.Optimizer:
    """The optimizer of all the network's parameters; fused, so a step is one pass over them."""
    return _RULES[spec.kind](
        network.parameters(),
        lr=spec.learning_rate,
        betas=spec.betas,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        fused=True,
    )


@dataclass(frozen=True)
class LearningRate:
    """The rate of each step: a function of the step alone, so that a resumed run needs no state."""

    spec: OptimizerSpec
    steps: int

    def at(self, step: int) -> float:
        """The rate of update `step`, counted from 1."""
        warmup = self.spec.schedule.warmup_steps or 0
        if step <= warmup:
            return self.spec.learning_rate * step / warmup
        done = (step - 1 - warmup) / max(1, self.steps - warmup)
        return self.spec.learning_rate * DECAYS[self.spec.schedule.kind](done)

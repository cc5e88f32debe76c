"""Optimizers and learning-rate schedules that a job may ask for."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.spec.fields import Model


class OptimizerKind(StrEnum):
    """The update rule.

    `adam`: Kingma & Ba 2015. `adamw`: Loshchilov & Hutter 2019, weight decay apart from the gradient.
    `rmsprop`: Tieleman & Hinton 2012. `sgd`: with momentum, Sutskever et al. 2013.
    """

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class ScheduleKind(StrEnum):
    """Factor on the learning rate after the warm-up.

    `constant`: 1. `step`: times `gamma` every `step_size` steps. `exponential`: times `gamma` every step.
    `linear` and `cosine`: from 1 to 0 over the run.
    """

    CONSTANT = "constant"
    STEP = "step"
    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    COSINE = "cosine"


class ScheduleSpec(Model):
    """The learning rate over the run: a linear warm-up from 0, then the decay `kind`."""

    kind: ScheduleKind = Field(ScheduleKind.CONSTANT, description="Shape of the decay after the warm-up.")
    warmup_steps: Annotated[int, Field(ge=0, le=10**7)] | None = Field(
        None,
        description="Steps over which the rate rises linearly to `learning_rate`. Left out: 0 for a "
        "constant schedule, else 5 % of the run and at most 500.",
    )
    gamma: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor of `step` (left out: 0.1) and of `exponential` (left out: what leads to 0.01 at "
        "the end of the run).",
    )
    step_size: Annotated[int, Field(ge=1, le=10**8)] | None = Field(
        None, description="Steps between two factors of `step`. Left out: a third of the run."
    )


class OptimizerSpec(Model):
    """One optimizer with its schedule and gradient clipping."""

    kind: OptimizerKind = Field(OptimizerKind.ADAM, description="The update rule.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-4, description="Peak learning rate.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None,
        description="Decay rates of the first and second moment, of `adam` and `adamw`. Left out: .9, .999.",
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Momentum of `sgd` and `rmsprop`. Left out: 0."
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Decay rate of the mean square of `rmsprop`. Left out: 0.99."
    )
    eps: Annotated[float, Field(gt=0, le=1)] = Field(
        1e-8, description="Added to the root of the second moment; `sgd` has none."
    )
    weight_decay: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0, description="L2 penalty, or decoupled decay (`adamw`)."
    )
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Largest global norm of the network's gradient; null does not clip."
    )
    clip_grad_value: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Largest absolute value in the network's gradient; null does not clip."
    )
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="Learning rate over the run.")

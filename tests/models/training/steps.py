"""Recipes of one linear layer, whose updates can be computed by hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.spec import JobSpec
from models.spec.optimizer import OptimizerSpec
from models.training.ema import Ema
from models.training.means import Means
from models.training.optimizer import LearningRate, build_optimizer
from models.training.recipe import Batch, Losses, Phase, Recipe
from models.training.update import one_step
from tests.models.training.specs import small

ROWS = 12


class Rows:
    """A batch whose images are their own numbers, 0 to 11, over ROWS."""

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (B, 1, 1, 1) and labels (B,)."""
        return torch.arange(ROWS).view(-1, 1, 1, 1) / ROWS, torch.arange(ROWS)


def layer(weight: float = 1.0) -> nn.Linear:
    """y = weight · x."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, weight)
    return network


def phase(network: nn.Module, loss: Callable[[Batch, int], Losses], **fields: Any) -> Phase:
    """Plain gradient descent at rate 1, unless `optimizer` says otherwise: a weight moves by its gradient."""
    spec = fields.pop("optimizer", OptimizerSpec(kind="sgd", learning_rate=1.0))
    optimizer = fields.pop("shared", None) or build_optimizer(network, spec)
    rate = LearningRate(spec, 1)
    name = fields.pop("name", "layer")
    clips = {"clip_grad_norm": spec.clip_grad_norm, "clip_grad_value": spec.clip_grad_value}
    return Phase(name, network, optimizer, rate, loss, **{**clips, **fields})


def recipe(*phases: Phase, ema: Ema | None = None, scaler: torch.amp.GradScaler | None = None) -> Recipe:
    return Recipe(
        networks={each.name: each.network for each in phases},
        phases=phases,
        draw=lambda images, labels: {"x": images.flatten(1), "rows": labels},
        evaluate=lambda *_: {},
        sampling=phases[0].name,
        ema=ema,
        generators={},
        scaler=scaler,
    )


def spec_of(accumulation: int = 1, precision: str = "fp32") -> JobSpec:
    spec = small("ddpm")
    return spec.model_copy(update={"batch_size": ROWS, "accumulation": accumulation, "precision": precision})


def made_step(
    made: Recipe, *, step: int = 1, accumulation: int = 1, precision: str = "fp32"
) -> dict[str, float]:
    """The metrics of one step."""
    means = Means()
    one_step(spec_of(accumulation, precision), made, Rows(), step, means, measure=True)
    return means.read()

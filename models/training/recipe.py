"""What a family of models hands the training loop: phases of updates, and what to do beside them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.training.ema import Ema
from models.training.optimizer import LearningRate

Batch = dict[str, Tensor]
"""Tensors with one row an image. Everything random in a step is drawn once, for the whole batch."""

Losses = dict[str, Tensor]
"""Scalars: the sum of those named `loss/…` is minimised, the others are only recorded."""


@dataclass(frozen=True)
class Phase:
    """One update of one network, made at every `every`-th step.

    `loss` gets a part of the batch and the step, counted from 1; it may leave tensors in the part for the
    step's later phases. `before` runs once ahead of the update and `after` once behind it, however many parts
    the batch has. Phases of one network may share an optimizer.
    """

    name: str
    network: nn.Module
    optimizer: Optimizer
    learning_rate: LearningRate
    loss: Callable[[Batch, int], Losses]
    clip_grad_norm: float | None = None
    clip_grad_value: float | None = None
    every: int = 1
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


@dataclass(frozen=True)
class Recipe:
    """A family's training: the loop runs it and knows nothing of GANs or diffusion."""

    networks: dict[str, nn.Module]
    phases: tuple[Phase, ...]
    draw: Callable[[Tensor, Tensor], Batch]  # images (B,C,H,W), labels (B,) -> the step's batch
    evaluate: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]
    """From held-out images and their labels, and trained-on images and theirs, to scalars."""
    sampling: str  # the name of the network that makes images
    ema: Ema | None
    generators: dict[str, torch.Generator]
    """Every source of random numbers that its steps draw from, but for torch's global ones."""
    scaler: torch.amp.GradScaler | None = None  # of the losses in fp16
    state: dict[str, Tensor] = field(default_factory=dict)
    """What beside networks and optimizers changes while it trains, and a resume needs; changed in place."""

    def sampling_networks(self) -> dict[str, nn.Module]:
        """The network that makes images, averaged where there is an average."""
        network = self.ema.network if self.ema else self.networks[self.sampling]
        return {self.sampling: network}

    def averaged_networks(self) -> dict[str, nn.Module] | None:
        """The averaged networks by name, or None without an average."""
        return {self.sampling: self.ema.network} if self.ema else None

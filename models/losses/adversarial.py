"""Adversarial losses: a table of two functions each, keyed by the game and by what D returns."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.spec.gan import DiscriminatorOutput, GanLoss


@dataclass(frozen=True)
class AdversarialLoss:
    """Two losses to minimise, from D's outputs of shape (B,): a scalar each."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # D(real), D(fake)
    generator: Callable[[Tensor], Tensor]  # D(fake)


def _discriminator_logits(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log σ(real) - log(1 - σ(fake)), without the overflow of the logarithm of a sigmoid."""
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def _generator_logits(fake_B: Tensor) -> Tensor:
    """-log σ(fake): the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_B).mean()


def _discriminator_sigmoid(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """The same of probabilities, as torch's BCELoss: each logarithm is at least -100."""
    return -_clamped(real_B.float().log()).mean() - _clamped(torch.log1p(-fake_B.float())).mean()


def _generator_sigmoid(fake_B: Tensor) -> Tensor:
    return -_clamped(fake_B.float().log()).mean()


def _clamped(logarithms_B: Tensor) -> Tensor:
    return logarithms_B.clamp(min=-100.0)


ADVERSARIAL: dict[tuple[GanLoss, DiscriminatorOutput], AdversarialLoss] = {
    (GanLoss.NON_SATURATING, DiscriminatorOutput.LOGITS): AdversarialLoss(
        _discriminator_logits, _generator_logits
    ),
    (GanLoss.NON_SATURATING, DiscriminatorOutput.SIGMOID): AdversarialLoss(
        _discriminator_sigmoid, _generator_sigmoid
    ),
}

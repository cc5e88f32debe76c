"""Adversarial losses: a table of two functions each, keyed by the game and by what D returns."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.spec.gan import DiscriminatorOutput, GanLoss


@dataclass(frozen=True)
class AdversarialLoss:
    """Two losses to minimise, from D's outputs of shape (B,), of real images first: a scalar each.

    `generator` looks at D(real) only where `needs_real` is set; elsewhere any tensor will do.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    needs_real: bool = False


def _discriminator_logits(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log σ(real) - log(1 - σ(fake)), without the overflow of the logarithm of a sigmoid."""
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def _non_saturating_logits(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log σ(fake) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_B).mean()


def _minimax_logits(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """log(1 - σ(fake)) (Goodfellow et al. 2014, eq. 1): flat where D is sure that the image is made."""
    return -F.softplus(fake_B).mean()


def _discriminator_sigmoid(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """The same of probabilities, as torch's BCELoss: each logarithm is at least -100."""
    return -_clamped(real_B.log()).mean() - _clamped(torch.log1p(-fake_B)).mean()


def _non_saturating_sigmoid(real_B: Tensor, fake_B: Tensor) -> Tensor:
    return -_clamped(fake_B.log()).mean()


def _minimax_sigmoid(real_B: Tensor, fake_B: Tensor) -> Tensor:
    return _clamped(torch.log1p(-fake_B)).mean()


def _clamped(logarithms_B: Tensor) -> Tensor:
    return logarithms_B.clamp(min=-100.0)


def _discriminator_least_squares(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """½(real - 1)² + ½fake² (Mao et al. 2017, eq. 9: a = 0, b = 1)."""
    return 0.5 * (real_B - 1).square().mean() + 0.5 * fake_B.square().mean()


def _generator_least_squares(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """½(fake - 1)² (Mao et al. 2017, eq. 9: c = 1)."""
    return 0.5 * (fake_B - 1).square().mean()


def _discriminator_wasserstein(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """fake - real (Arjovsky et al. 2017, eq. 2): minus the distance, if D's slope is at most 1."""
    return fake_B.mean() - real_B.mean()


def _discriminator_hinge(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake) (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real_B).mean() + F.relu(1 + fake_B).mean()


def _generator_linear(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-fake: of `wasserstein` and of `hinge` (Miyato et al. 2018, eq. 17)."""
    return -fake_B.mean()


def _discriminator_relativistic(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log σ(real - fake), image by image (Huang et al. 2024, R3GAN, eq. 2)."""
    return F.softplus(fake_B - real_B).mean()


def _generator_relativistic(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log σ(fake - real): non-saturating, too."""
    return F.softplus(real_B - fake_B).mean()


_LEAST_SQUARES = AdversarialLoss(_discriminator_least_squares, _generator_least_squares)

ADVERSARIAL: dict[tuple[GanLoss, DiscriminatorOutput], AdversarialLoss] = {
    (GanLoss.MINIMAX, DiscriminatorOutput.LOGITS): AdversarialLoss(_discriminator_logits, _minimax_logits),
    (GanLoss.MINIMAX, DiscriminatorOutput.SIGMOID): AdversarialLoss(_discriminator_sigmoid, _minimax_sigmoid),
    (GanLoss.NON_SATURATING, DiscriminatorOutput.LOGITS): AdversarialLoss(
        _discriminator_logits, _non_saturating_logits
    ),
    (GanLoss.NON_SATURATING, DiscriminatorOutput.SIGMOID): AdversarialLoss(
        _discriminator_sigmoid, _non_saturating_sigmoid
    ),
    (GanLoss.LEAST_SQUARES, DiscriminatorOutput.LOGITS): _LEAST_SQUARES,
    (GanLoss.LEAST_SQUARES, DiscriminatorOutput.SIGMOID): _LEAST_SQUARES,
    (GanLoss.WASSERSTEIN, DiscriminatorOutput.LOGITS): AdversarialLoss(
        _discriminator_wasserstein, _generator_linear
    ),
    (GanLoss.HINGE, DiscriminatorOutput.LOGITS): AdversarialLoss(_discriminator_hinge, _generator_linear),
    (GanLoss.RELATIVISTIC, DiscriminatorOutput.LOGITS): AdversarialLoss(
        _discriminator_relativistic, _generator_relativistic, needs_real=True
    ),
}
"""The last three compare unbounded outputs, which a sigmoid does not return."""

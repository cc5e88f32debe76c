"""Penalties on the discriminator's gradient with respect to images: a table of functions of one signature."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.spec.gan import Penalty

Discriminator = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to scores (B,), each of its own image alone."""


def _gradient_penalty(
    discriminator: Discriminator, real_BCHW: Tensor, fake_BCHW: Tensor, mix_B: Tensor
) -> Tensor:
    """E[(|∇D(x̂)| - 1)²] at x̂ = mix · real + (1 - mix) · fake (Gulrajani et al. 2017, algorithm 1)."""
    mix = mix_B.view(-1, 1, 1, 1)
    gradients_BN = _gradients(discriminator, mix * real_BCHW + (1 - mix) * fake_BCHW)
    slopes_B: Tensor = torch.linalg.vector_norm(gradients_BN, dim=1)
    return (slopes_B - 1).square().mean()


def _r1(discriminator: Discriminator, real_BCHW: Tensor, fake_BCHW: Tensor, mix_B: Tensor) -> Tensor:
    """½E|∇D(real)|² (Mescheder et al. 2018, eq. 9)."""
    return _half_square(_gradients(discriminator, real_BCHW))


def _r2(discriminator: Discriminator, real_BCHW: Tensor, fake_BCHW: Tensor, mix_B: Tensor) -> Tensor:
    """½E|∇D(fake)|² (Mescheder et al. 2018, eq. 10)."""
    return _half_square(_gradients(discriminator, fake_BCHW))


def _gradients(discriminator: Discriminator, images_BCHW: Tensor) -> Tensor:
    """D's gradient at each image, (B, C·H·W), itself differentiable.

    Always in float32: the square of a gradient overflows float16 and drowns in bfloat16's 8 bits.
    """
    with torch.autocast(images_BCHW.device.type, enabled=False):
        full = torch.promote_types(images_BCHW.dtype, torch.float32)
        points_BCHW = images_BCHW.detach().to(full).requires_grad_()
        (gradients_BCHW,) = torch.autograd.grad(
            discriminator(points_BCHW).sum(), points_BCHW, create_graph=True
        )
    return gradients_BCHW.flatten(1)


def _half_square(gradients_BN: Tensor) -> Tensor:
    return 0.5 * gradients_BN.square().sum(dim=1).mean()


PENALTIES: dict[Penalty, Callable[[Discriminator, Tensor, Tensor, Tensor], Tensor]] = {
    Penalty.GRADIENT_PENALTY: _gradient_penalty,
    Penalty.R1: _r1,
    Penalty.R2: _r2,
}
"""From D, real images, made ones, and uniforms of [0, 1], one an image, to a scalar without its weight."""

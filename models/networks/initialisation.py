"""Initial weights: a table of functions of one layer."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from models.networks.layers import ConditionalBatchNorm2d, LabelProjection
from models.spec.layers import Init

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, LabelProjection)
_NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)


def fan_in(layer: nn.Conv2d | nn.ConvTranspose2d | LabelProjection) -> int:
    """How many inputs one output value sums.

    A transposed convolution of stride s reaches each output through one in s² of its taps; a DCGAN's first
    layer, on a single pixel, through one. torch's own fan-in counts a transposed convolution's outputs.
    """
    if isinstance(layer, LabelProjection):
        return layer.embedding_dim
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels * kernel
    stride = layer.stride[0] * layer.stride[1]
    return layer.in_channels * (kernel // stride if stride > 1 else 1)


def _normal(layer: nn.Module) -> None:
    if isinstance(layer, _WEIGHTED):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif (scale := _scale(layer)) is not None:
        nn.init.normal_(scale, 1.0, 0.02)
    _zero_shift(layer)


def _kaiming(layer: nn.Module) -> None:
    if isinstance(layer, _WEIGHTED):
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan_in(layer)))
    _plain_norm(layer)


def _xavier(layer: nn.Module) -> None:
    if isinstance(layer, _WEIGHTED):
        nn.init.xavier_uniform_(layer.weight)
    _plain_norm(layer)


def _orthogonal(layer: nn.Module) -> None:
    if isinstance(layer, _WEIGHTED):
        nn.init.orthogonal_(layer.weight)
    _plain_norm(layer)


INITS: dict[Init, Callable[[nn.Module], None]] = {
    Init.NORMAL: _normal,  # N(0, 0.02), a norm's scale N(1, 0.02): Radford et al. 2016, pytorch/examples
    Init.KAIMING: _kaiming,  # N(0, 2 / fan-in): He et al. 2015, equation 10
    Init.XAVIER: _xavier,  # U(±√(6 / (fan-in + fan-out))), fans as torch's: Glorot & Bengio 2010, equation 16
    Init.ORTHOGONAL: _orthogonal,  # rows or columns orthonormal: Saxe et al. 2014; Brock et al. 2019, BigGAN
}
"""Initialisations of one layer, to be given to `nn.Module.apply`; they draw from torch's global generator.

Biases and shifts are 0, and a norm's scale is 1 where nothing else is said.
"""


def _plain_norm(layer: nn.Module) -> None:
    scale = _scale(layer)
    if scale is not None:
        nn.init.ones_(scale)
    _zero_shift(layer)


def _scale(layer: nn.Module) -> Tensor | None:
    if isinstance(layer, ConditionalBatchNorm2d):
        return layer.scale.weight
    return layer.weight if isinstance(layer, _NORMS) else None


def _zero_shift(layer: nn.Module) -> None:
    if isinstance(layer, ConditionalBatchNorm2d):
        nn.init.zeros_(layer.shift.weight)
    elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, *_NORMS)) and layer.bias is not None:
        nn.init.zeros_(layer.bias)

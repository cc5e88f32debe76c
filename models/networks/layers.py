"""What the convolutional networks are made of: DCGAN's widths and its two initialisations."""

import math
from collections.abc import Callable

from torch import nn

from models.spec.data import RESOLUTIONS
from models.spec.layers import Init

MAX_MULTIPLIER = 8


def multipliers(resolution: int) -> list[int]:
    """Widths of the maps of 4, 8, ... pixels, in units of `ngf` or `ndf`: 8, 4, 2, 1 for images of 64 px."""
    if resolution not in RESOLUTIONS:
        raise ValueError(f"A DCGAN has no layout for images of {resolution} px: choose one of {RESOLUTIONS}.")
    maps = int(math.log2(resolution)) - 2
    return [min(MAX_MULTIPLIER, 2**i) for i in reversed(range(maps))]


def fan_in(convolution: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """How many inputs one output value sums.

    A transposed convolution of stride s reaches each output through one in s² of its taps; a DCGAN's first
    layer, on a single pixel, through one. torch's own fan-in counts a transposed convolution's outputs.
    """
    kernel = convolution.kernel_size[0] * convolution.kernel_size[1]
    if isinstance(convolution, nn.Conv2d):
        return convolution.in_channels * kernel
    stride = convolution.stride[0] * convolution.stride[1]
    return convolution.in_channels * (kernel // stride if stride > 1 else 1)


def _normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _kaiming(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_in(module)))
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


INITS: dict[Init, Callable[[nn.Module], None]] = {
    Init.NORMAL: _normal,  # N(0, 0.02), BatchNorm's weight N(1, 0.02): Radford et al. 2016, pytorch/examples
    Init.KAIMING: _kaiming,  # N(0, 2 / fan-in), BatchNorm's weight 1: He et al. 2015, equation 10
}
"""Initialisations of one layer, to be given to `nn.Module.apply`; they draw from torch's global generator."""

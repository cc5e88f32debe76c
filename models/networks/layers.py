"""What the convolutional networks are made of: DCGAN's widths, normalisations, activations, attention."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.spec.data import RESOLUTIONS
from models.spec.layers import Activation, Norm

MAX_MULTIPLIER = 8


def multipliers(resolution: int) -> list[int]:
    """Widths of the maps of 4, 8, ... pixels, in units of `ngf` or `ndf`: 8, 4, 2, 1 for images of 64 px."""
    if resolution not in RESOLUTIONS:
        raise ValueError(f"A DCGAN has no layout for images of {resolution} px: choose one of {RESOLUTIONS}.")
    maps = int(math.log2(resolution)) - 2
    return [min(MAX_MULTIPLIER, 2**i) for i in reversed(range(maps))]


NORMS: dict[Norm, Callable[[int, int], nn.Module]] = {
    Norm.BATCH: lambda width, groups: nn.BatchNorm2d(width),
    Norm.INSTANCE: lambda width, groups: nn.InstanceNorm2d(width, affine=True),
    Norm.GROUP: lambda width, groups: nn.GroupNorm(groups, width),
    Norm.NONE: lambda width, groups: nn.Identity(),
}
"""From the width of a map and the groups of GroupNorm to its normalisation; all have a scale and a shift."""

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    Activation.LEAKY_RELU: lambda: nn.LeakyReLU(0.2, inplace=True),
    Activation.RELU: lambda: nn.ReLU(inplace=True),
    Activation.SILU: lambda: nn.SiLU(),  # its backward pass needs its input
}


class SelfAttention(nn.Module):
    """Lets every pixel of a map look at all others: x + γ · attention(x) (Zhang et al. 2019, equation 3).

    Queries and keys have an eighth of the channels and values half of them; keys and values are max-pooled to
    half the side, as in the authors' code. γ starts at 0, so that a new layer returns its input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow, half = max(1, width // 8), max(1, width // 2)
        self.query = nn.Conv2d(width, narrow, 1, bias=False)
        self.key = nn.Conv2d(width, narrow, 1, bias=False)
        self.value = nn.Conv2d(width, half, 1, bias=False)
        self.output = nn.Conv2d(half, width, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) of even sides to maps of the same shape."""
        query_BCN = self.query(maps).flatten(2)
        key_BCM = F.max_pool2d(self.key(maps), 2).flatten(2)
        value_BDM = F.max_pool2d(self.value(maps), 2).flatten(2)
        # Not torch's fused attention: penalties need second derivatives, and it has none.
        weights_BNM = torch.softmax(query_BCN.transpose(1, 2) @ key_BCM, dim=-1)
        attended_BDN = value_BDM @ weights_BNM.transpose(1, 2)
        attended_BDHW = attended_BDN.reshape(maps.shape[0], -1, *maps.shape[2:])
        result: Tensor = maps + self.gamma * self.output(attended_BDHW)
        return result


class ConditionalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with a scale and a shift of each class (Dumoulin et al. 2017; Miyato & Koyama 2018)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, affine=False)
        self.scale = nn.Embedding(classes, width)
        self.shift = nn.Embedding(classes, width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (B, C, H, W) and labels (B,) to maps of the same shape."""
        normalised_BCHW = super().forward(maps)
        scale_BC11, shift_BC11 = self.scale(labels)[..., None, None], self.shift(labels)[..., None, None]
        conditioned: Tensor = scale_BC11 * normalised_BCHW + shift_BC11
        return conditioned


class LabelProjection(nn.Embedding):
    """How much a map's features speak for a label: ⟨features, embedding(label)⟩ (Miyato & Koyama 2018)."""

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (B, C, H, W), summed over their pixels, and labels (B,) to scores (B,)."""
        return (super().forward(labels) * maps.sum(dim=(2, 3))).sum(dim=1)


def given(labels: Tensor | None) -> Tensor:
    """The labels that a conditional network cannot do without; ValueError where there are none."""
    if labels is None:
        raise ValueError("A conditional network needs a label for each image, and there are none.")
    return labels

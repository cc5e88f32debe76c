"""An exponential moving average of a network's weights, with its buffers copied."""

import copy

import torch
from torch import Tensor, nn

from models.spec.training import EmaSpec


class Ema:
    """Follows `source`: after `half_life_images` images a weight counts half.

    While few images were shown the half-life is at most `ramp` times them, so that the random start is
    soon forgotten (Karras et al. 2020, StyleGAN2-ADA). BatchNorm's buffers are copied: averaged weights
    with stale statistics sample noise.
    """

    def __init__(self, source: nn.Module, spec: EmaSpec) -> None:
        if spec.half_life_images is None:
            raise ValueError("the spec is not resolved: ema.half_life_images is missing")
        self.network = copy.deepcopy(source).eval().requires_grad_(requires_grad=False)
        self._half_life, self._ramp = spec.half_life_images, spec.ramp
        self._averages: list[Tensor] = list(self.network.parameters())
        self._weights: list[Tensor] = list(source.parameters())
        self._copies, self._buffers = list(self.network.buffers()), list(source.buffers())

    @torch.no_grad()
    def update(self, images: int, batch_size: int) -> None:
        """Take in the weights after `images` images in all, `batch_size` of them new."""
        half_life = max(min(self._half_life, images * self._ramp), 1e-8)
        torch._foreach_lerp_(self._averages, self._weights, 1 - 0.5 ** (batch_size / half_life))
        if self._copies:
            torch._foreach_copy_(self._copies, self._buffers)

    @torch.no_grad()
    def distance(self) -> Tensor:
        """How far the weights are from their average, as a fraction of the average's norm."""
        apart = torch._foreach_sub(self._weights, self._averages)
        return nn.utils.get_total_norm(apart) / nn.utils.get_total_norm(self._averages).clamp(min=1e-12)

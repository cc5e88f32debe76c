"""A diffusion transformer whose blocks are modulated by the time and the label (Peebles & Xie 2023, DiT)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import given
from models.spec.diffusion import DitSpec

_TIME_FEATURES = 256
_LONGEST_PERIOD = 10_000
_EPSILON = 1e-6


class DiffusionTransformer(nn.Module):
    """Denoises images as sequences of patches, called as `denoiser(images, times, labels)`.

    With `classes` the embedding of labels has a row more: "no label" (Ho & Salimans 2022). A new network
    predicts 0, and each of its blocks returns its input. Weights are initialised as in the authors' code.
    """

    positions: Tensor

    def __init__(self, spec: DitSpec, channels: int, resolution: int, *, classes: int | None = None) -> None:
        super().__init__()
        self._patch_size = spec.patch_size
        self.patches = nn.Conv2d(channels, spec.width, spec.patch_size, spec.patch_size)
        nn.init.xavier_uniform_(self.patches.weight.flatten(1))
        self.register_buffer("positions", sine_positions(resolution // spec.patch_size, spec.width))
        self.times = nn.Sequential(
            _linear(_TIME_FEATURES, spec.width, _narrow), nn.SiLU(), _linear(spec.width, spec.width, _narrow)
        )
        self.labels = nn.Embedding(classes + 1, spec.width) if classes is not None else None
        if self.labels is not None:
            _narrow(self.labels.weight)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.modulation = _linear(spec.width, 2 * spec.width, nn.init.zeros_)
        self.output = _linear(spec.width, channels * spec.patch_size**2, nn.init.zeros_)

    def forward(self, images: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noisy images (B, C, H, W), times (B,) or () and labels (B,) to the prediction (B, C, H, W).

        Times are timesteps or any other numbers, integer or float.
        """
        tokens_BNW = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        condition_BW = self.times(sine_features(times.expand(images.shape[0]), _TIME_FEATURES))
        if self.labels is not None:
            condition_BW = condition_BW + self.labels(given(labels))
        condition_BW = F.silu(condition_BW)
        for block in self.blocks:
            tokens_BNW = block(tokens_BNW, condition_BW)
        shift_B1W, scale_B1W = self.modulation(condition_BW).unsqueeze(1).chunk(2, dim=-1)
        patches_BNP = self.output(_modulated(tokens_BNW, shift_B1W, scale_B1W))
        side = images.shape[-1] // self._patch_size
        patches_BPHW = patches_BNP.transpose(1, 2).reshape(images.shape[0], -1, side, side)
        return F.pixel_shuffle(patches_BPHW, self._patch_size)


class Block(nn.Module):
    """Attention, then an MLP, each beside a shortcut: adaLN-Zero (Peebles & Xie 2023, figure 3)."""

    def __init__(self, spec: DitSpec) -> None:
        super().__init__()
        hidden = int(spec.width * spec.mlp_ratio)
        self._heads = spec.heads
        self.attention_input = _linear(spec.width, 3 * spec.width)
        self.attention_output = _linear(spec.width, spec.width)
        self.mlp = nn.Sequential(
            _linear(spec.width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Dropout(spec.dropout),
            _linear(hidden, spec.width),
            nn.Dropout(spec.dropout),
        )
        self.modulation = _linear(spec.width, 6 * spec.width, nn.init.zeros_)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B, N, W) and the condition (B, W) to tokens (B, N, W)."""
        first_shift, first_scale, first_gate, second_shift, second_scale, second_gate = (
            self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        )
        tokens = tokens + first_gate * self._attention(_modulated(tokens, first_shift, first_scale))
        changed: Tensor = tokens + second_gate * self.mlp(_modulated(tokens, second_shift, second_scale))
        return changed

    def _attention(self, tokens_BNW: Tensor) -> Tensor:
        batch, count, width = tokens_BNW.shape
        packed = self.attention_input(tokens_BNW).reshape(batch, count, 3, self._heads, width // self._heads)
        query_BHND, key_BHND, value_BHND = packed.permute(2, 0, 3, 1, 4)
        attended_BHND = F.scaled_dot_product_attention(query_BHND, key_BHND, value_BHND)
        result: Tensor = self.attention_output(attended_BHND.transpose(1, 2).reshape(batch, count, width))
        return result


def _linear(
    inputs: int, outputs: int, initialise: Callable[[Tensor], object] = nn.init.xavier_uniform_
) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    initialise(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _narrow(weight: Tensor) -> None:
    nn.init.normal_(weight, std=0.02)


def _modulated(tokens_BNW: Tensor, shift_B1W: Tensor, scale_B1W: Tensor) -> Tensor:
    """Layer norm without weights of its own: adaptive (Perez et al. 2018, FiLM)."""
    return F.layer_norm(tokens_BNW, tokens_BNW.shape[-1:], eps=_EPSILON) * (1 + scale_B1W) + shift_B1W


def sine_features(numbers: Tensor, width: int) -> Tensor:
    """Numbers (N,) to cosines and sines (N, width) of periods from 2π to 20,000 π (Vaswani et al. 2017)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device) / half
    angles = numbers.float()[:, None] * torch.exp(-math.log(_LONGEST_PERIOD) * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def sine_positions(side: int, width: int) -> Tensor:
    """Features of row and column of each patch of a square, row by row: (side², width)."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([sine_features(axis.flatten(), width // 2) for axis in (row, column)], dim=1)

"""Spectral normalisation: every weight is divided by its largest singular value (Miyato et al. 2018)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from models.networks.layers import LabelProjection

_NORMALISED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, LabelProjection)


class _Frozen(nn.Module):
    """torch's parametrisation, always in eval mode: it estimates the singular value anew only when told to.

    Otherwise each of the forward passes of a step would see other weights. In float32 under autocast, too.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.eval()

    def train(self, mode: bool = True) -> "_Frozen":  # noqa: FBT001, FBT002 - torch's signature
        return super().train(False)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            normalised: Tensor = self.norm(weight)
        return normalised

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        self.norm.train()
        self(weight)
        self.norm.eval()


def add_spectral_norm(network: nn.Module) -> nn.Module:
    """Normalise every convolution, linear layer and label projection of `network`, in place; returns it.

    The first estimate is that of 15 power iterations from torch's global generator.
    """
    for layer in list(network.modules()):
        if isinstance(layer, _NORMALISED):
            parametrizations.spectral_norm(layer)
    for _, layer in _parametrised(network):
        of_weight = layer.parametrizations.weight
        of_weight[0] = _Frozen(of_weight[0])
    return network


def iterate_spectral_norms(network: nn.Module) -> None:
    """Better every estimate by one power iteration (Miyato et al. 2018, algorithm 1): once an update."""
    for _, layer in _parametrised(network):
        of_weight = layer.parametrizations.weight
        of_weight[0].iterate(of_weight.original)


def plain_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same network built without spectral norm, that makes the same images."""
    state: dict[str, Tensor] = dict(network.state_dict())
    for name, layer in _parametrised(network):
        prefix = f"{name}." if name else ""
        for key in [key for key in state if key.startswith(f"{prefix}parametrizations.weight.")]:
            del state[key]
        state[f"{prefix}weight"] = layer.weight.detach()
    return state


def _parametrised(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Name and layer of all that are normalised; torch makes a class for each, which mypy cannot know."""
    return (pair for pair in network.named_modules() if parametrize.is_parametrized(pair[1], "weight"))

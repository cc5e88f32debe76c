"""Noise that belongs to one image: drawn from that image's seed alone, on the CPU, whatever the device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator an image, seeded with that image's seed."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def draw(sources: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """The next standard normal values of each generator, (len(sources), *shape), as diffusers draws them."""
    noise = torch.empty(len(sources), *shape, device="cpu")
    for i, source in enumerate(sources):
        noise[i] = torch.randn((1, *shape), generator=source, device="cpu")[0]
    return noise


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (len(seeds), *shape); row i depends on seeds[i] and `shape` alone."""
    return draw(generators(seeds), shape)

"""Noise that belongs to one image: drawn from that image's seed alone, on the CPU, whatever the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Between:
    """A point on the way between two seeds' noise: `position` 0 is the noise of `start`, 1 that of `end`."""

    start: int
    end: int
    position: float


Origin = int | Between
"""What an image is made from: a seed, or a point between two."""


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator an image, seeded with that image's seed."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def draw(sources: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """The next standard normal values of each generator, (len(sources), *shape), as diffusers draws them."""
    noise = torch.empty(len(sources), *shape, device="cpu")
    for i, source in enumerate(sources):
        noise[i] = torch.randn((1, *shape), generator=source, device="cpu")[0]
    return noise


def initial_noise(
    origins: Sequence[Origin], shape: tuple[int, ...], truncation: float | None = None
) -> Tensor:
    """Standard normal noise (len(origins), *shape); row i depends on origins[i], `shape` and `truncation`.

    With `truncation` no value of a seed's noise is further from 0 than that, see `truncated`.
    """
    rows = [_row(origin, shape, truncation) for origin in origins]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def _row(origin: Origin, shape: tuple[int, ...], truncation: float | None) -> Tensor:
    if isinstance(origin, Between):
        start, end = (_row(seed, shape, truncation) for seed in (origin.start, origin.end))
        return slerp(start, end, origin.position)
    sources = generators([origin])
    noise = draw(sources, shape)[0]
    return noise if truncation is None else truncated(noise, sources[0], truncation)


def truncated(noise: Tensor, source: torch.Generator, threshold: float) -> Tensor:
    """Normal noise whose values of magnitude above `threshold` are drawn again until they are not.

    The truncation trick of BigGAN (Brock et al. 2019, section 3.1): fewer extreme images, less variety. The
    values within the threshold stay as they are. One that is not is replaced by what drawing again and again
    from `source` would end with, a value of the normal distribution cut off at ±threshold: it is drawn at
    once, by that distribution's inverse, since a small threshold is hit by one draw in thousands.
    """
    share = math.erf(threshold / math.sqrt(2))  # of all normal values, those within the threshold
    uniform = torch.rand(noise.shape, generator=source, dtype=torch.float64, device="cpu")
    again = torch.erfinv(share * (2 * uniform - 1)) * math.sqrt(2)
    return torch.where(noise.abs() <= threshold, noise, again.to(noise.dtype).clamp(-threshold, threshold))


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """The point at `position` in [0, 1] on the arc from `start` to `end`; exactly these at 0 and at 1.

    Spherical interpolation (Shoemake 1985; of latents White 2016): in many dimensions all noise has nearly
    the same length, which the straight line between two points would leave.
    """
    a, b = start.double().flatten(), end.double().flatten()
    lengths = a.norm() * b.norm()
    angle = torch.acos((a @ b / lengths).clamp(-1, 1)) if lengths > 0 else torch.zeros(())
    if angle.sin() < 1e-6:  # the same direction, or opposite ones, between which no arc is the shortest
        weights = (1 - position, position)
    else:
        parts = torch.sin(torch.stack([(1 - position) * angle, position * angle])) / torch.sin(angle)
        weights = (float(parts[0]), float(parts[1]))
    return (weights[0] * a + weights[1] * b).to(start.dtype).view_as(start)

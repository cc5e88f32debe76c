"""Differentiable augmentations of all that a discriminator sees: the same numbers, the same transform."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.spec.augmentation import DIFFERENTIABLE, MAGNITUDES, AugmentationKind

_COLUMNS = 4
"""Uniforms of one transform: whether it is applied, and at most three strengths."""

NUMBERS = _COLUMNS * len(DIFFERENTIABLE)
"""Uniforms of one image."""

DifferentiableAugmentation = Callable[[Tensor, Tensor, float], Tensor]
"""Images (B,C,H,W), three uniforms of each (B,3), and the value of black -> images; white is 1."""


def draw_numbers(count: int, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Uniforms from [0, 1) of shape (count, NUMBERS); the generator must be of this device."""
    return torch.rand((count, NUMBERS), generator=generator, device=device)


def augmented(
    images_BCHW: Tensor,
    numbers_BK: Tensor,
    policy: Sequence[AugmentationKind],
    probability: Tensor | None = None,
    low: float = -1.0,
) -> Tensor:
    """The transforms of `policy`, one after another, of images in [`low`, 1], in at least float32.

    Each is applied to every image, or to each with `probability` (a scalar tensor), by uniforms of its own
    (Karras et al. 2020, StyleGAN2-ADA, section 2.2). Differentiable twice in the images, as penalties on the
    gradient need. Colours are not clipped, as in the papers. Raises KeyError on a kind of no row.
    """
    images_BCHW = images_BCHW.to(torch.promote_types(images_BCHW.dtype, numbers_BK.dtype))
    for kind in policy:
        start = _COLUMNS * DIFFERENTIABLE.index(kind)
        own_B4 = numbers_BK[:, start : start + _COLUMNS]
        changed_BCHW = DIFFERENTIABLE_AUGMENTATIONS[kind](images_BCHW, own_B4[:, 1:], low)
        if probability is not None:
            changed_BCHW = torch.where(_per_image(own_B4[:, 0] < probability), changed_BCHW, images_BCHW)
        images_BCHW = changed_BCHW
    return images_BCHW


def _colour(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """Brightness by up to ± a quarter of the range, then saturation × [0, 2), then contrast × [0.5, 1.5).

    `rand_brightness`, `rand_saturation` and `rand_contrast` of DiffAugment (Zhao et al. 2020). Grey images
    have no saturation, and it leaves them as they are.
    """
    brightness, saturation, contrast = (_per_image(number_B) for number_B in numbers_B3.unbind(1))
    bright = images_BCHW + (brightness - 0.5) * (1 - low) / 2
    grey = bright.mean(1, keepdim=True)
    saturated = (bright - grey) * (2 * saturation) + grey
    mean = saturated.mean((1, 2, 3), keepdim=True)
    return (saturated - mean) * (contrast + 0.5) + mean


def _translation(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """Shifted by whole pixels, up to ± 1/8 of each side, into black (Zhao et al. 2020)."""
    height, width = images_BCHW.shape[2:]
    most_y, most_x = (int(side * MAGNITUDES[AugmentationKind.TRANSLATION] + 0.5) for side in (height, width))
    padded = F.pad(images_BCHW, (most_x, most_x, most_y, most_y), value=low)
    rows_BH = _below(numbers_B3[:, :1], 2 * most_y + 1) + _pixels(height, images_BCHW)
    columns_BW = _below(numbers_B3[:, 1:2], 2 * most_x + 1) + _pixels(width, images_BCHW)
    batch, channels, _, padded_width = padded.shape
    shifted_BCHW = padded.gather(2, rows_BH[:, None, :, None].expand(batch, channels, height, padded_width))
    return shifted_BCHW.gather(3, columns_BW[:, None, None].expand(batch, channels, height, width))


def _cutout(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """A square of half the side, at places that may overlap the border, becomes the middle of the range.

    `rand_cutout` of DiffAugment (Zhao et al. 2020), whose 0 is the middle of [-1, 1].
    """
    height, width = images_BCHW.shape[2:]
    rows_BH = _cut(numbers_B3[:, :1], height, images_BCHW)
    columns_BW = _cut(numbers_B3[:, 1:2], width, images_BCHW)
    cut_B1HW = (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]
    return images_BCHW.masked_fill(cut_B1HW, (low + 1) / 2)


def _cut(numbers_B1: Tensor, side: int, images_BCHW: Tensor) -> Tensor:
    """Which pixels of a side the square covers."""
    size = int(side * MAGNITUDES[AugmentationKind.CUTOUT] + 0.5)
    first_B1 = _below(numbers_B1, side + 1 - size % 2) - size // 2
    pixels = _pixels(side, images_BCHW)
    return (pixels >= first_B1) & (pixels < first_B1 + size)


def _horizontal_flip(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """Mirrored, every other image (Karras et al. 2020, appendix B: x-flip)."""
    return torch.where(_per_image(numbers_B3[:, 0] < 0.5), images_BCHW.flip(-1), images_BCHW)


def _rotation(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """By up to ± 10°."""
    degrees_B = (2 * numbers_B3[:, 0] - 1) * MAGNITUDES[AugmentationKind.ROTATION]
    return rotated(images_BCHW, degrees_B, low)


def _scale(images_BCHW: Tensor, numbers_B3: Tensor, low: float) -> Tensor:
    """Larger or smaller by up to ± 10 %."""
    factor_B = 1 + (2 * numbers_B3[:, 0] - 1) * MAGNITUDES[AugmentationKind.SCALE]
    return scaled(images_BCHW, factor_B, low)


DIFFERENTIABLE_AUGMENTATIONS: dict[AugmentationKind, DifferentiableAugmentation] = {
    AugmentationKind.HORIZONTAL_FLIP: _horizontal_flip,
    AugmentationKind.ROTATION: _rotation,
    AugmentationKind.SCALE: _scale,
    AugmentationKind.COLOUR: _colour,
    AugmentationKind.TRANSLATION: _translation,
    AugmentationKind.CUTOUT: _cutout,
}


def rotated(images_BCHW: Tensor, degrees_B: Tensor, low: float) -> Tensor:
    """Square images turned counterclockwise about their centres, bilinear, `low` around them."""
    cosine_B, sine_B = degrees_B.deg2rad().cos(), degrees_B.deg2rad().sin()
    return _mapped(images_BCHW, torch.stack([cosine_B, -sine_B, sine_B, cosine_B], 1), low)


def scaled(images_BCHW: Tensor, factor_B: Tensor, low: float) -> Tensor:
    """Images made larger (above 1) or smaller about their centres, bilinear, `low` around them."""
    zero_B = torch.zeros_like(factor_B)
    return _mapped(images_BCHW, torch.stack([1 / factor_B, zero_B, zero_B, 1 / factor_B], 1), low)


def _mapped(images_BCHW: Tensor, matrices_B4: Tensor, low: float) -> Tensor:
    """Each pixel of the result from where its matrix (2×2, by rows) sends it."""
    height, width = images_BCHW.shape[2:]
    y_H1, x_W = _centres(height, images_BCHW)[:, None], _centres(width, images_BCHW)
    # By hand: under autocast, the matrix product of `affine_grid` has the 8 bits of bfloat16.
    a, b, c, d = (entry_B[:, None, None] for entry_B in matrices_B4.unbind(1))
    grid_BHW2 = torch.stack([a * x_W + b * y_H1, c * x_W + d * y_H1], -1).to(images_BCHW.dtype)
    sampled: Tensor = _Sampled.apply(images_BCHW - low, grid_BHW2)
    return sampled + low


class _Sampled(torch.autograd.Function):
    """Bilinear `grid_sample` that can be differentiated twice: linear in the images, its backward is, too.

    torch's own lacks the second derivative in older versions (so StyleGAN2-ADA has `grid_sample_gradfix`).
    """

    @staticmethod
    def forward(ctx: Any, images_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
        ctx.save_for_backward(grid_BHW2)
        return F.grid_sample(images_BCHW, grid_BHW2, align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:
        (grid_BHW2,) = ctx.saved_tensors
        spread: Tensor = _Spread.apply(gradient_BCHW, grid_BHW2)
        return spread, None


class _Spread(torch.autograd.Function):
    """The transpose of `_Sampled`: each value is spread over the pixels that it was sampled from."""

    @staticmethod
    def forward(ctx: Any, values_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
        ctx.save_for_backward(grid_BHW2)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            values_BCHW,
            torch.empty_like(values_BCHW),
            grid_BHW2,
            interpolation_mode=0,
            padding_mode=0,
            align_corners=False,
            output_mask=[True, False],
        )[0]
        return spread

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:
        (grid_BHW2,) = ctx.saved_tensors
        sampled: Tensor = _Sampled.apply(gradient_BCHW, grid_BHW2)
        return sampled, None


def _per_image(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]


def _pixels(side: int, images_BCHW: Tensor) -> Tensor:
    return torch.arange(side, device=images_BCHW.device)


def _centres(side: int, images_BCHW: Tensor) -> Tensor:
    """Of the pixels of a side that reaches from -1 to 1."""
    return (2 * _pixels(side, images_BCHW).to(images_BCHW.dtype) + 1) / side - 1


def _below(numbers: Tensor, count: int) -> Tensor:
    """Whole numbers from 0 to count - 1, equally likely; a uniform near 1 may be rounded up to 1."""
    return (numbers * count).long().clamp(max=count - 1)

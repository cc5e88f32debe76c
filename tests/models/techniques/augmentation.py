"""Augmentations of the data and of what a discriminator sees, and the probability that ADA gives them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.data.augmentation import DATA_AUGMENTATIONS, augment
from models.data.differentiable import DIFFERENTIABLE_AUGMENTATIONS, augmented, draw_numbers
from models.spec.augmentation import (
    AugmentationKind,
    AugmentationSpec,
    DiscriminatorAugmentationKind,
    DiscriminatorAugmentationSpec,
)
from models.training.ada import Ada
from tests.models.techniques import Technique, row

COUNT, SIDE = 64, 16
CENTRE = (SIDE - 1) / 2

Transform = Callable[[Tensor], Tensor]
"""Images in [0, 1] -> images, each with numbers of its own."""


def of_data(kind: AugmentationKind) -> Transform:
    specs = [AugmentationSpec(kind=kind, probability=1.0)]
    return lambda images: augment(images, torch.zeros(len(images), dtype=torch.int64), specs, seed=0)[0]


def of_discriminator(kind: AugmentationKind) -> Transform:
    numbers = draw_numbers(COUNT, torch.Generator().manual_seed(0), "cpu")
    return lambda images: augmented(images, numbers, [kind], low=0.0)


def square(top: int = 4, left: int = 9, size: int = 4) -> Tensor:
    """The same white square on black, right of the centre and above it, many times."""
    images = torch.zeros(COUNT, 1, SIDE, SIDE)
    images[:, :, top : top + size, left : left + size] = 1
    return images


def middles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where each image's white lies, down and right of the centre in pixels."""
    weights = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    offsets = torch.arange(SIDE) - CENTRE
    return (weights.sum(2) * offsets).sum(1), (weights.sum(1) * offsets).sum(1)


def flips(transform: Transform) -> None:
    mirrored = (transform(square()) == square().flip(-1)).all((1, 2, 3))
    assert mirrored.float().mean() > 0.25


def rotates(transform: Transform) -> None:
    """The square goes round the centre, both ways, at its distance."""
    down, right = middles(transform(square()))
    angles = torch.atan2(down, right) - torch.atan2(*(middle[0] for middle in middles(square())))
    assert angles.min() < -0.1 < 0.1 < angles.max()
    first = torch.hypot(*middles(square()))
    torch.testing.assert_close(torch.hypot(down, right), first, rtol=0.05, atol=0)


def scales(transform: Transform) -> None:
    """A square in the centre has another area, larger or smaller, and stays in the centre."""
    images = square(top=4, left=4, size=8)
    result = transform(images)
    areas = result.sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert 0.75 < areas.min() < 0.9
    assert 1.1 < areas.max() < 1.25
    for middle in middles(result):
        assert middle.abs().max() < 0.01


def moves(transform: Transform) -> None:
    """The square moves by whole pixels, up to an eighth of the side, to all sides."""
    for before, after in zip(middles(square()), middles(transform(square())), strict=True):
        assert sorted({round(float(move), 3) for move in after - before}) == [-2, -1, 0, 1, 2]


def colours(transform: Transform) -> None:
    """Flat grey gets lighter or darker."""
    result = transform(torch.full((COUNT, 1, SIDE, SIDE), 0.5))
    assert result.mean((1, 2, 3)).min() < 0.45
    assert result.mean((1, 2, 3)).max() > 0.55


def cuts_out(transform: Transform) -> None:
    """A square of half the side, less what lies beyond the border, becomes grey."""
    grey = transform(torch.ones(COUNT, 1, SIDE, SIDE)) == 0.5
    assert grey.float().mean((1, 2, 3)).max() == 0.25
    assert grey.float().mean((1, 2, 3)).min() < 0.25
    assert grey.any((1, 2, 3)).all()


def black_and_white() -> Tensor:
    return torch.eye(2).repeat(COUNT // 2, 1)[:, :1, None, None].expand(COUNT, 1, SIDE, SIDE)


def blends(transform: Transform) -> None:
    """Of black and white becomes grey, flat in each image."""
    result = transform(black_and_white())
    assert ((result > 0) & (result < 1)).all()
    torch.testing.assert_close(result, result.mean((2, 3), keepdim=True).expand_as(result))


def pastes(transform: Transform) -> None:
    """Black and white lie beside each other in every image, and there is no grey."""
    result = transform(black_and_white())
    assert set(result.unique().tolist()) == {0.0, 1.0}
    assert (result.amax((1, 2, 3)) != result.amin((1, 2, 3))).all()


def blends_with_itself(transform: Transform) -> None:
    """White gets grey where its other versions have moved away, and a part of it stays."""
    result = transform(square(top=4, left=4, size=8))
    grey = ((result > 0.02) & (result < 0.98)).any((1, 2, 3))
    assert grey.float().mean() > 0.5
    assert result[:, :, 6:10, 6:10].mean() > result[:, :, 0].mean() + 0.3


def follows_overfitting() -> None:
    spec = DiscriminatorAugmentationSpec(
        kind=DiscriminatorAugmentationKind.ADA, target=0.6, adjustment_images=80
    )
    ada = Ada(spec, batch_size=10, device="cpu")
    for output, probability in ((1.0, 0.5), (1.0, 1.0), (-1.0, 0.5)):
        for _ in range(4):
            ada.observe(torch.full((10,), output))
            ada.adjust()
        assert float(ada.probability) == pytest.approx(probability)


DATA_CHECKS: dict[AugmentationKind, Callable[[Transform], None]] = {
    AugmentationKind.HORIZONTAL_FLIP: flips,
    AugmentationKind.ROTATION: rotates,
    AugmentationKind.CROP: moves,
    AugmentationKind.SCALE: scales,
    AugmentationKind.COLOUR: colours,
    AugmentationKind.MIXUP: blends,
    AugmentationKind.CUTMIX: pastes,
    AugmentationKind.AUGMIX: blends_with_itself,
}

DISCRIMINATOR_CHECKS: dict[AugmentationKind, Callable[[Transform], None]] = {
    AugmentationKind.HORIZONTAL_FLIP: flips,
    AugmentationKind.ROTATION: rotates,
    AugmentationKind.SCALE: scales,
    AugmentationKind.COLOUR: colours,
    AugmentationKind.TRANSLATION: moves,
    AugmentationKind.CUTOUT: cuts_out,
}


def _of_data(kind: AugmentationKind, check: Callable[[Transform], None]) -> Technique:
    def no_op(images: Tensor, labels: Tensor, probability: float, magnitude: float) -> tuple[Tensor, Tensor]:
        return images, labels

    technique = row(DATA_AUGMENTATIONS, kind, no_op, lambda: check(of_data(kind)))
    return replace(technique, name=f"data.augmentations.{kind}")


def _of_discriminator(kind: AugmentationKind, check: Callable[[Transform], None]) -> Technique:
    def no_op(images: Tensor, numbers: Tensor, low: float) -> Tensor:
        return images

    technique = row(DIFFERENTIABLE_AUGMENTATIONS, kind, no_op, lambda: check(of_discriminator(kind)))
    return replace(technique, name=f"discriminator_augmentation.policy.{kind}")


TECHNIQUES = [
    *(_of_data(kind, check) for kind, check in DATA_CHECKS.items()),
    *(_of_discriminator(kind, check) for kind, check in DISCRIMINATOR_CHECKS.items()),
    Technique(
        "discriminator_augmentation.ada",
        lambda monkeypatch: monkeypatch.setattr(Ada, "adjust", lambda self: None),
        follows_overfitting,
        DiscriminatorAugmentationKind.ADA,
    ),
]

"""The transforms of the papers, the same for real and made images, with gradients of both orders."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from models.data.differentiable import DIFFERENTIABLE_AUGMENTATIONS, NUMBERS, augmented, draw_numbers
from models.spec.augmentation import DIFFERENTIABLE, AugmentationKind

EVERY_KIND = pytest.mark.parametrize("kind", DIFFERENTIABLE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 16, channels: int = 3, side: int = 16, low: float = -1.0) -> Tensor:
    shape = (count, channels, side, side)
    return torch.rand(shape, generator=generator(), dtype=torch.float64) * (1 - low) + low


def transformed(kind: AugmentationKind, images: Tensor, numbers_B3: Tensor, low: float = -1.0) -> Tensor:
    return DIFFERENTIABLE_AUGMENTATIONS[kind](images, numbers_B3, low)


def uniforms(count: int = 16) -> Tensor:
    return torch.rand((count, 3), generator=generator(1), dtype=torch.float64)


def test_every_differentiable_kind_has_a_row() -> None:
    assert set(DIFFERENTIABLE_AUGMENTATIONS) == set(DIFFERENTIABLE)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_that_of_diffaugment(channels: int) -> None:
    """Brightness, saturation and contrast, in this order: their mean is no longer that of the image."""
    images, numbers = pictures(channels=channels), uniforms()
    for actual, image, (b, s, c) in zip(
        transformed(AugmentationKind.COLOUR, images, numbers), images, numbers.tolist(), strict=True
    ):
        expected = image + (b - 0.5)
        grey = expected.mean(0, keepdim=True)
        expected = (expected - grey) * (s * 2) + grey
        expected = (expected - expected.mean()) * (c + 0.5) + expected.mean()
        torch.testing.assert_close(actual, expected)


def test_colour_is_the_same_share_of_either_range() -> None:
    symmetric, numbers = pictures(), uniforms()
    unit = transformed(AugmentationKind.COLOUR, (symmetric + 1) / 2, numbers, low=0.0)
    torch.testing.assert_close(unit * 2 - 1, transformed(AugmentationKind.COLOUR, symmetric, numbers))


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_translation_moves_whole_pixels_into_black(low: float) -> None:
    images, numbers = pictures(low=low), uniforms()
    for actual, image, (down, right, _) in zip(
        transformed(AugmentationKind.TRANSLATION, images, numbers, low), images, numbers.tolist(), strict=True
    ):
        rows, columns = int(down * 5) - 2, int(right * 5) - 2  # 1/8 of 16 pixels are 2
        expected = torch.full_like(image, low)
        for y in range(16):
            for x in range(16):
                if 0 <= y + rows < 16 and 0 <= x + columns < 16:
                    expected[:, y, x] = image[:, y + rows, x + columns]
        assert torch.equal(actual, expected)


def test_cutout_is_that_of_diffaugment() -> None:
    """The formula of `rand_cutout`: indices are clamped at the border, and what they name becomes 0."""
    images, numbers = pictures(), uniforms()
    for actual, image, (y, x, _) in zip(
        transformed(AugmentationKind.CUTOUT, images, numbers), images, numbers.tolist(), strict=True
    ):
        rows = (torch.arange(8) + int(y * 17) - 4).clamp(0, 15)
        columns = (torch.arange(8) + int(x * 17) - 4).clamp(0, 15)
        mask = torch.ones(16, 16, dtype=torch.float64)
        mask[rows[:, None], columns] = 0
        assert torch.equal(actual, image * mask)


def test_every_shift_and_place_comes_up_also_for_a_uniform_next_to_1() -> None:
    images = pictures(4)
    nearly_1 = torch.full((4, 3), 1 - 2**-24)
    assert torch.isfinite(transformed(AugmentationKind.TRANSLATION, images, nearly_1)).all()
    shown = transformed(AugmentationKind.CUTOUT, images, nearly_1)
    assert (shown[:, :, 12:, 12:] == 0).all()
    assert (shown[:, :, :12] != 0).all()


def test_horizontal_flip_mirrors_below_a_half() -> None:
    images, numbers = pictures(), uniforms()
    for actual, image, (number, _, _) in zip(
        transformed(AugmentationKind.HORIZONTAL_FLIP, images, numbers), images, numbers.tolist(), strict=True
    ):
        assert torch.equal(actual, reference.horizontal_flip(image) if number < 0.5 else image)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_rotation_is_that_of_torchvision(low: float) -> None:
    images, numbers = pictures(low=low), uniforms()
    for actual, image, (number, _, _) in zip(
        transformed(AugmentationKind.ROTATION, images, numbers, low), images, numbers.tolist(), strict=True
    ):
        expected = reference.rotate(image - low, 20 * number - 10, InterpolationMode.BILINEAR) + low
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)  # its grid is float32


def test_scale_is_that_of_torchvision() -> None:
    images, numbers = pictures(), uniforms()
    for actual, image, (number, _, _) in zip(
        transformed(AugmentationKind.SCALE, images, numbers), images, numbers.tolist(), strict=True
    ):
        expected = reference.affine(
            image + 1,
            angle=0.0,
            translate=[0, 0],
            scale=0.9 + 0.2 * number,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(actual, expected - 1, rtol=0, atol=1e-5)


@EVERY_KIND
def test_first_and_second_derivatives_are_right(kind: AugmentationKind) -> None:
    """Penalties on D's gradient differentiate twice."""
    images = pictures(3, side=4).requires_grad_()
    numbers = draw_numbers(3, generator(2), "cpu").double()

    def squared(images: Tensor) -> Tensor:
        return augmented(images, numbers, [kind]).square()

    assert torch.autograd.gradcheck(squared, images)
    assert torch.autograd.gradgradcheck(squared, images)


@EVERY_KIND
def test_the_same_numbers_treat_every_batch_alike(kind: AugmentationKind) -> None:
    """Real and made images are transformed alike, whatever the batch, its precision and its parts."""
    images, numbers = pictures().float(), draw_numbers(16, generator(), "cpu")
    whole = augmented(images, numbers, [kind])
    assert torch.equal(augmented(images.clone(), numbers, [kind]), whole)
    parts = [augmented(i, n, [kind]) for i, n in zip(images.chunk(4), numbers.chunk(4), strict=True)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    halves = images.to(torch.bfloat16)
    torch.testing.assert_close(augmented(halves, numbers, [kind]), augmented(halves.float(), numbers, [kind]))


def test_autocast_does_not_blur_the_transforms() -> None:
    images, numbers = pictures().float(), draw_numbers(16, generator(), "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        inside = augmented(images, numbers, DIFFERENTIABLE)
    assert torch.equal(inside, augmented(images, numbers, DIFFERENTIABLE))


def test_the_policy_is_followed_in_its_order() -> None:
    images, numbers = pictures(), draw_numbers(16, generator(), "cpu").double()
    one, other = AugmentationKind.CUTOUT, AugmentationKind.COLOUR
    in_turn = augmented(augmented(images, numbers, [one]), numbers, [other])
    assert torch.equal(augmented(images, numbers, [one, other]), in_turn)
    assert not torch.equal(augmented(images, numbers, [other, one]), in_turn)


@EVERY_KIND
def test_a_probability_chooses_images(kind: AugmentationKind) -> None:
    """0 is the identity to the last bit, 1 is always, and between them its share of the images changes."""
    images, numbers = pictures(400, side=8), draw_numbers(400, generator(), "cpu").double()
    assert torch.equal(augmented(images, numbers, [kind], torch.tensor(0.0)), images)
    always = augmented(images, numbers, [kind])
    assert torch.equal(augmented(images, numbers, [kind], torch.tensor(1.0)), always)
    some = augmented(images, numbers, [kind], torch.tensor(0.3))
    as_always = (some == always).all((1, 2, 3))
    as_they_were = (some == images).all((1, 2, 3))
    assert (as_always | as_they_were).all()
    may_change = (always != images).any((1, 2, 3))
    assert 0.2 < as_always[may_change].double().mean() < 0.4


def test_each_transform_is_chosen_by_itself() -> None:
    images, numbers = pictures(200, side=8), draw_numbers(200, generator(), "cpu").double()
    half = torch.tensor(0.5)
    cut, coloured = (
        (augmented(images, numbers, [kind], half) != images).any((1, 2, 3))
        for kind in (AugmentationKind.CUTOUT, AugmentationKind.COLOUR)
    )
    assert 0.15 < (cut & coloured).double().mean() < 0.35
    assert 0.15 < (cut & ~coloured).double().mean() < 0.35


def test_gradients_reach_chosen_and_other_images() -> None:
    images = pictures().requires_grad_()
    numbers = draw_numbers(16, generator(), "cpu").double()
    augmented(images, numbers, [AugmentationKind.COLOUR], torch.tensor(0.5)).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).any((1, 2, 3)).all()


def test_numbers_come_from_the_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    numbers = draw_numbers(5, generator(3), "cpu")
    assert numbers.shape == (5, NUMBERS)
    assert torch.equal(numbers, draw_numbers(5, generator(3), "cpu"))
    augmented(pictures(5), numbers, DIFFERENTIABLE, torch.tensor(0.5))
    assert torch.equal(torch.get_rng_state(), before)

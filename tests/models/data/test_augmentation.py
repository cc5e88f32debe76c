"""Augmentations do what torchvision does, to the images that chance chooses and to no other."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from models.data.augmentation import DATA_AUGMENTATIONS, augment
from models.spec.augmentation import LARGEST_MAGNITUDES, MIXING, OF_DATA, AugmentationKind, AugmentationSpec

OF_ONE_IMAGE = [kind for kind in OF_DATA if kind not in (AugmentationKind.MIXUP, AugmentationKind.CUTMIX)]


def pictures(count: int = 16, channels: int = 3, side: int = 16) -> Tensor:
    """Images of the 256 levels."""
    levels = torch.randint(256, (count, channels, side, side), generator=torch.Generator().manual_seed(0))
    return levels / 255


def spec(
    kind: AugmentationKind, probability: float = 1.0, magnitude: float | None = None
) -> AugmentationSpec:
    return AugmentationSpec(kind=kind, probability=probability, magnitude=magnitude)


def augmented(images: Tensor, *augmentations: AugmentationSpec, seed: int = 0) -> Tensor:
    return augment(images, torch.arange(len(images)), augmentations, seed)[0]


def changed(images: Tensor, others: Tensor) -> Tensor:
    return (images != others).any((1, 2, 3))


def test_every_kind_of_data_has_a_row() -> None:
    assert set(DATA_AUGMENTATIONS) == set(OF_DATA)


@pytest.mark.parametrize("kind", OF_DATA)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 32])
def test_images_keep_shape_and_range_at_the_largest_magnitude(
    kind: AugmentationKind, channels: int, side: int
) -> None:
    images = pictures(4, channels, side)
    result = augmented(images, spec(kind, magnitude=LARGEST_MAGNITUDES[kind]))
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1
    assert changed(result, images).any()


@pytest.mark.parametrize("kind", OF_ONE_IMAGE)
def test_a_probability_chooses_images_and_leaves_the_others_exact(kind: AugmentationKind) -> None:
    images = pictures(200)
    before = images.clone()
    share = changed(augmented(images, spec(kind, 0.3)), images).float().mean()
    assert 0.15 < share < 0.45
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", OF_ONE_IMAGE)
def test_each_image_has_its_own_strength(kind: AugmentationKind) -> None:
    """All images of the batch are the same one, and do not come out the same."""
    images = pictures(1).expand(32, -1, -1, -1)
    results = augmented(images, spec(kind))
    different = len({image.numpy().tobytes() for image in results})
    assert different == 1 if kind is AugmentationKind.HORIZONTAL_FLIP else different > 16


@pytest.mark.parametrize("kind", [AugmentationKind.MIXUP, AugmentationKind.CUTMIX])
def test_batches_are_mixed_as_a_whole_or_not_at_all(kind: AugmentationKind) -> None:
    images, mixed = pictures(4), 0
    for seed in range(200):
        result = augmented(images, spec(kind, 0.3, 1.0), seed=seed)
        mixed += not torch.equal(result, images)
    assert 30 < mixed < 90


@pytest.mark.parametrize("kind", OF_DATA)
def test_the_seed_decides_everything(kind: AugmentationKind) -> None:
    images, augmentation = pictures(), spec(kind, 0.5 if kind in OF_ONE_IMAGE else 1.0)
    first = augmented(images, augmentation, seed=1)
    torch.rand(7)
    assert torch.equal(augmented(images, augmentation, seed=1), first)
    assert not torch.equal(augmented(images, augmentation, seed=2), first)


def test_augmentations_come_in_the_order_of_the_list() -> None:
    flip, crop = spec(AugmentationKind.HORIZONTAL_FLIP), spec(AugmentationKind.CROP)
    assert not torch.equal(augmented(pictures(), flip, crop), augmented(pictures(), crop, flip))


def test_flips_mirror() -> None:
    images = pictures()
    result = augmented(images, spec(AugmentationKind.HORIZONTAL_FLIP))
    assert torch.equal(result, reference.horizontal_flip(images))


def test_rotations_are_those_of_torchvision_within_their_degrees() -> None:
    """Found again among finely spaced rotations, to both sides."""
    images = pictures(12)
    found = []
    for image, result in zip(images, augmented(images, spec(AugmentationKind.ROTATION, 1, 20)), strict=True):
        angles = torch.arange(-30, 30, 0.1).tolist()
        turned = torch.stack([reference.rotate(image, a, InterpolationMode.BILINEAR) for a in angles])
        errors = (turned - result).abs().mean((1, 2, 3))
        assert errors.min() < 1e-2
        found.append(angles[int(errors.argmin())])
    assert -20.1 < min(found) < -5
    assert 5 < max(found) < 20.1


def test_scales_are_those_of_torchvision_within_their_fraction() -> None:
    images = pictures(12)
    found = []
    for image, result in zip(images, augmented(images, spec(AugmentationKind.SCALE, 1, 0.3)), strict=True):
        scales = torch.arange(0.5, 1.5, 0.002).tolist()
        resized = torch.stack(
            [
                reference.affine(image, 0.0, [0, 0], scale, [0.0, 0.0], InterpolationMode.BILINEAR)
                for scale in scales
            ]
        )
        errors = (resized - result).abs().mean((1, 2, 3))
        assert errors.min() < 1e-2
        found.append(scales[int(errors.argmin())])
    assert 0.699 < min(found) < 0.9
    assert 1.1 < max(found) < 1.301


def test_crops_are_windows_of_the_reflected_image() -> None:
    """Every one of the 5 × 5 places comes up, and nothing else."""
    images = pictures(1).expand(400, -1, -1, -1)
    padded = reference.pad(images[0], [2], padding_mode="reflect")
    windows = [padded[:, y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
    result = augmented(images, spec(AugmentationKind.CROP))
    places = {next(i for i, window in enumerate(windows) if torch.equal(image, window)) for image in result}
    assert places == set(range(25))


def test_colours_are_those_of_torchvision() -> None:
    """Flat grey is changed by brightness alone, within its fraction; noise by the others, too."""
    grey = torch.full((64, 3, 16, 16), 0.5)
    result = augmented(grey, spec(AugmentationKind.COLOUR, 1, 0.2))
    factors = result[:, 0, 0, 0] / 0.5
    assert 0.8 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2 + 1e-6
    torch.testing.assert_close(result, grey * factors[:, None, None, None])
    images = pictures(64)
    result = augmented(images, spec(AugmentationKind.COLOUR, 1, 0.2))
    for spread in (lambda x: x.std((1, 2, 3)), lambda x: x.std(1).mean((1, 2))):  # contrast, saturation
        ratio = spread(result) / spread(images)
        assert ratio.min() < 0.9
        assert ratio.max() > 1.0


def test_mixup_blends_with_the_image_before_and_keeps_the_label_of_the_larger_share() -> None:
    images = torch.eye(8)[:, :, None, None].expand(8, 8, 16, 16)  # image i has the one channel i
    labels = torch.tensor([5, 3, -1, 0, 1, 2, 4, 6])
    shares = []
    for seed in range(60):
        mixed, mixed_labels = augment(images, labels, [spec(AugmentationKind.MIXUP, 1, 1.0)], seed)
        own = float(mixed[0, 0, 0, 0])
        shares.append(own)
        torch.testing.assert_close(mixed, images * own + images.roll(1, 0) * (1 - own))
        assert torch.equal(mixed_labels, labels if own >= 0.5 else labels.roll(1))
    assert 0.35 < sum(shares) / 60 < 0.65  # Beta(1, 1) is uniform
    assert min(shares) < 0.2
    assert max(shares) > 0.8


def test_cutmix_takes_a_box_of_the_image_before_and_keeps_the_label_of_the_larger_share() -> None:
    images = torch.eye(8)[:, :, None, None].expand(8, 8, 16, 16)
    labels = torch.arange(8)
    boxes = 0
    for seed in range(60):
        mixed, mixed_labels = augment(images, labels, [spec(AugmentationKind.CUTMIX)], seed)
        pasted = mixed[0, 0] == 0
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert pasted.sum() == rows * columns
        assert torch.equal(mixed, torch.where(pasted, images.roll(1, 0), images))
        assert torch.equal(mixed_labels, labels if pasted.float().mean() <= 0.5 else labels.roll(1))
        boxes += bool(pasted.any())
    assert boxes > 40


def test_a_single_image_is_mixed_with_itself() -> None:
    for kind in (AugmentationKind.MIXUP, AugmentationKind.CUTMIX):
        image, label = augment(pictures(1), torch.tensor([-1]), [spec(kind)], 0)
        torch.testing.assert_close(image, pictures(1))
        assert label.tolist() == [-1]


def test_augmix_grows_with_its_severity() -> None:
    images = pictures(64)
    mild, severe = (
        (augmented(images, spec(AugmentationKind.AUGMIX, 1, severity)) - images).abs().mean()
        for severity in (1, 10)
    )
    assert severe > mild * 1.1


def test_labels_stay_where_images_are_changed_alone() -> None:
    labels = torch.arange(16)
    for kind in OF_DATA:
        if kind not in MIXING:
            assert torch.equal(augment(pictures(), labels, [spec(kind)], 0)[1], labels)


def test_nothing_to_do_gives_what_was_given() -> None:
    images, labels = augment(pictures(), torch.arange(16), [], 0)
    assert torch.equal(images, pictures())
    assert torch.equal(labels, torch.arange(16))

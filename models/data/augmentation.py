"""Augmentations of the images that are trained on, drawn from one seed a batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from models.data.differentiable import rotated, scaled
from models.spec.augmentation import MAGNITUDES, AugmentationKind, AugmentationSpec

Augmented = tuple[Tensor, Tensor]
"""Images (B,C,H,W) in [0, 1] and their labels (B,)."""

DataAugmentation = Callable[[Tensor, Tensor, float, float], Augmented]
"""Images and labels, the probability and the magnitude in the kind's unit -> images and labels.

What the probability leaves out stays as it was to the last bit. Draws from torch's global generator.
"""


def augment(
    images_BCHW: Tensor, labels_B: Tensor, augmentations: Sequence[AugmentationSpec], seed: int
) -> Augmented:
    """Every augmentation in turn, drawn from `seed` alone: the global generators are left as they are."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the devices, too; nothing is drawn on them.
        torch.default_generator.manual_seed(seed)
        for augmentation in augmentations:
            kind = augmentation.kind
            magnitude = augmentation.magnitude or MAGNITUDES[kind]
            apply = DATA_AUGMENTATIONS[kind]
            images_BCHW, labels_B = apply(images_BCHW, labels_B, augmentation.probability, magnitude)
    return images_BCHW, labels_B


def _horizontal_flip(
    images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float
) -> Augmented:
    return _chosen(F.horizontal_flip(images_BCHW), images_BCHW, probability), labels_B


def _rotation(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """Counterclockwise or clockwise about the centre, bilinear, black around it."""
    degrees_B = _between(-magnitude, magnitude, images_BCHW)
    return _chosen(rotated(images_BCHW, degrees_B, low=0.0), images_BCHW, probability), labels_B


def _crop(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """As for CIFAR-10 in He et al. 2016, but padded by reflection: black borders would be learnt."""
    side = images_BCHW.shape[-1]
    crop = v2.RandomCrop(side, padding=max(1, round(side * magnitude)), padding_mode="reflect")
    return _each(crop, images_BCHW, probability), labels_B


def _scale(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """About the centre, bilinear, black around it."""
    factor_B = _between(1 - magnitude, 1 + magnitude, images_BCHW)
    return _chosen(scaled(images_BCHW, factor_B, low=0.0), images_BCHW, probability), labels_B


def _colour(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """In random order; grey images have no saturation."""
    jitter = v2.ColorJitter(brightness=magnitude, contrast=magnitude, saturation=magnitude)
    return _each(jitter, images_BCHW, probability), labels_B


def _mixup(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """Zhang et al. 2018, with the label of the image that has the larger share: a generator learns blends."""
    return _mixed(v2.MixUp(alpha=magnitude, num_classes=2), images_BCHW, labels_B, probability)


def _cutmix(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """Yun et al. 2019, with the label of the image that has the larger share: a generator learns collages."""
    return _mixed(v2.CutMix(alpha=magnitude, num_classes=2), images_BCHW, labels_B, probability)


def _augmix(images_BCHW: Tensor, labels_B: Tensor, probability: float, magnitude: float) -> Augmented:
    """Hendrycks et al. 2020: images alone, without the paper's consistency loss; in 256 levels, on the CPU.

    On another device, torchvision would draw from that device's generator.
    """
    mix = v2.AugMix(severity=round(magnitude))
    device = images_BCHW.device

    def mixed(image_CHW: Tensor) -> Tensor:
        levels: Tensor = mix((image_CHW.cpu() * 255).round().to(torch.uint8))
        return levels.to(device) / 255

    return _each(mixed, images_BCHW, probability), labels_B


DATA_AUGMENTATIONS: dict[AugmentationKind, DataAugmentation] = {
    AugmentationKind.HORIZONTAL_FLIP: _horizontal_flip,
    AugmentationKind.ROTATION: _rotation,
    AugmentationKind.CROP: _crop,
    AugmentationKind.SCALE: _scale,
    AugmentationKind.COLOUR: _colour,
    AugmentationKind.MIXUP: _mixup,
    AugmentationKind.CUTMIX: _cutmix,
    AugmentationKind.AUGMIX: _augmix,
}


def _chosen(changed_BCHW: Tensor, images_BCHW: Tensor, probability: float) -> Tensor:
    """Each image changed with the probability, and as it was otherwise."""
    chosen_B111 = (torch.rand(len(images_BCHW)) < probability)[:, None, None, None]
    return torch.where(chosen_B111.to(images_BCHW.device), changed_BCHW, images_BCHW)


def _between(low: float, high: float, images_BCHW: Tensor) -> Tensor:
    return (torch.rand(len(images_BCHW)) * (high - low) + low).to(images_BCHW.device)


def _each(transform: Callable[[Tensor], Tensor], images_BCHW: Tensor, probability: float) -> Tensor:
    """One by one, since torchvision draws strengths once a call: the images that are chosen."""
    changed_BCHW = images_BCHW.clone()
    for index in (torch.rand(len(images_BCHW)) < probability).nonzero()[:, 0].tolist():
        changed_BCHW[index] = transform(images_BCHW[index])
    return changed_BCHW


def _mixed(
    mix: Callable[[Tensor, Tensor], Augmented], images_BCHW: Tensor, labels_B: Tensor, probability: float
) -> Augmented:
    """The whole batch or none of it: each image with the one before it, all in the same shares."""
    if torch.rand(()) >= probability:
        return images_BCHW, labels_B
    # The first image is told from the others, so that its soft label is the share that it keeps of itself.
    marked_B = torch.zeros_like(labels_B)
    marked_B[0] = 1
    mixed_BCHW, shares_B2 = mix(images_BCHW, marked_B)
    return mixed_BCHW, torch.where(shares_B2[0, 1] < 0.5, labels_B.roll(1), labels_B)

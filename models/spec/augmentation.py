"""Augmentations: of the images that are trained on, and of everything that a discriminator sees."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.spec.fields import Images, Model


class AugmentationKind(StrEnum):
    """What is done to an image, and the unit of `magnitude`.

    `horizontal_flip`: mirrored (none). `rotation`: by up to ± so many degrees. `crop`: padded by this
    fraction of the side, by reflection, and cropped at a random place. `scale`: by up to ± this fraction.
    `colour`: brightness, contrast and saturation by up to ± this fraction. `translation`: shifted by up to ±
    this fraction of the side, into black. `cutout`: a square of this fraction of the side is blanked (DeVries
    & Taylor 2017). `mixup`: blended with another image of the batch, Beta(α, α) (Zhang et al. 2018).
    `cutmix`: a box is taken from another, α (Yun et al. 2019). `augmix`: blended chains of operations,
    severity 1 to 10 (Hendrycks et al. 2020).
    """

    HORIZONTAL_FLIP = "horizontal_flip"
    ROTATION = "rotation"
    CROP = "crop"
    SCALE = "scale"
    COLOUR = "colour"
    TRANSLATION = "translation"
    CUTOUT = "cutout"
    MIXUP = "mixup"
    CUTMIX = "cutmix"
    AUGMIX = "augmix"


OF_DATA = (
    AugmentationKind.HORIZONTAL_FLIP,
    AugmentationKind.ROTATION,
    AugmentationKind.CROP,
    AugmentationKind.SCALE,
    AugmentationKind.COLOUR,
    AugmentationKind.MIXUP,
    AugmentationKind.CUTMIX,
    AugmentationKind.AUGMIX,
)
"""What may be done to the images that are trained on."""

DIFFERENTIABLE = (
    AugmentationKind.HORIZONTAL_FLIP,
    AugmentationKind.ROTATION,
    AugmentationKind.SCALE,
    AugmentationKind.COLOUR,
    AugmentationKind.TRANSLATION,
    AugmentationKind.CUTOUT,
)
"""What may be done to everything that a discriminator sees: G's gradient passes through it."""

MIXING = (AugmentationKind.MIXUP, AugmentationKind.CUTMIX, AugmentationKind.AUGMIX)
"""What makes blends, which a generator learns as if they were data."""

MAGNITUDES: dict[AugmentationKind, float] = {
    AugmentationKind.HORIZONTAL_FLIP: 1.0,
    AugmentationKind.ROTATION: 10.0,
    AugmentationKind.CROP: 0.125,
    AugmentationKind.SCALE: 0.1,
    AugmentationKind.COLOUR: 0.2,
    AugmentationKind.TRANSLATION: 0.125,
    AugmentationKind.CUTOUT: 0.5,
    AugmentationKind.MIXUP: 0.2,
    AugmentationKind.CUTMIX: 1.0,
    AugmentationKind.AUGMIX: 3.0,
}
"""Where none is given."""

LARGEST_MAGNITUDES: dict[AugmentationKind, float] = {
    AugmentationKind.HORIZONTAL_FLIP: 1.0,
    AugmentationKind.ROTATION: 180.0,
    AugmentationKind.CROP: 0.5,
    AugmentationKind.SCALE: 0.9,
    AugmentationKind.COLOUR: 1.0,
    AugmentationKind.TRANSLATION: 1.0,
    AugmentationKind.CUTOUT: 1.0,
    AugmentationKind.MIXUP: 100.0,
    AugmentationKind.CUTMIX: 100.0,
    AugmentationKind.AUGMIX: 10.0,
}


class AugmentationSpec(Model):
    """One augmentation of the images that are trained on; they are applied in the order of the list."""

    kind: AugmentationKind = Field(description="What is done.")
    probability: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Chance that it is done to an image, or, for `mixup` and `cutmix`, to a batch."
    )
    magnitude: Annotated[float, Field(gt=0, le=180)] | None = Field(
        None,
        description="How much, in the unit of the kind. Left out: 10° of rotation; 0.125 of crop and "
        "translation; 0.1 of scale; 0.2 of colour and `mixup`; 1 of `cutmix`; 3 of `augmix`.",
    )


class DiscriminatorAugmentationKind(StrEnum):
    """`diffaugment`: always (Zhao et al. 2020). `ada`: with a probability that follows D's overfitting, so
    that E[sign D(real)] stays at `target` (Karras et al. 2020, StyleGAN2-ADA, section 3)."""

    DIFFAUGMENT = "diffaugment"
    ADA = "ada"


class DiscriminatorAugmentationSpec(Model):
    """The same differentiable transforms of real and made images, in D's step and in G's."""

    kind: DiscriminatorAugmentationKind = Field(
        DiscriminatorAugmentationKind.DIFFAUGMENT, description="When the transforms are applied."
    )
    policy: tuple[AugmentationKind, ...] = Field(
        (AugmentationKind.COLOUR, AugmentationKind.TRANSLATION, AugmentationKind.CUTOUT),
        min_length=1,
        max_length=8,
        description="The transforms, in order; each once, with the strengths of the DiffAugment paper.",
    )
    target: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="E[sign D(real)] that `ada` holds. Left out: 0.6."
    )
    adjustment_images: Images | None = Field(
        None,
        description="Images over which the probability of `ada` can move from 0 to 1. Left out: 10 % of the "
        "run, at most 500,000.",
    )

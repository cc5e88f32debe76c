"""What a job trains on: the dataset's facts, and how its images are shown to the networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from models.spec.augmentation import AugmentationSpec
from models.spec.fields import Model

RESOLUTIONS = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class DatasetFacts:
    """What a spec needs to know of a packed dataset to be resolved."""

    name: str
    count: int
    resolution: int
    channels: int
    classes: tuple[str, ...]
    std: float | None = None
    """Standard deviation of all pixels, scaled to [0, 1]; None where it is not known."""


def pixel_std(means: Sequence[float], stds: Sequence[float]) -> float:
    """Standard deviation of the pixels of all channels together, from each channel's: 4 digits."""
    mean = sum(means) / len(means)
    square = sum(m**2 + s**2 for m, s in zip(means, stds, strict=True)) / len(means)
    return round(math.sqrt(max(0.0, square - mean**2)), 4)


BUILTIN_DATASETS = {
    "digits": DatasetFacts("digits", 1797, 16, 1, tuple("0123456789"), std=0.3560),
    "fashion-mnist": DatasetFacts(
        "fashion-mnist",
        60_000,
        32,
        1,
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        std=0.3477,
    ),
}
"""The datasets that are always there, under their own names as ids."""


class DataSpec(Model):
    """How the dataset's images are shown to the networks."""

    resolution: Literal[16, 32, 64, 128, 256] | None = Field(
        None, description="Side of the square images in pixels. Left out: the dataset's own."
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 (grey) or 3 (RGB), the `nc` of the networks. Left out: the dataset's own."
    )
    range: tuple[Literal[-1, 0], Literal[1]] = Field(
        (-1, 1),
        description="What pixels are scaled to: [-1, 1], where a generator ends in tanh, or [0, 1], where it "
        "ends in a sigmoid.",
    )
    augmentations: tuple[AugmentationSpec, ...] = Field(
        (), max_length=8, description="What is done to the images that are trained on, in this order."
    )
    drop_suspects: bool = Field(
        False, description="Leave out the images whose label the dataset's report suspects to be wrong."
    )
    held_out: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05,
        description="Fraction of the images that is never trained on and that evaluations use; "
        "0 while `evaluation` is null.",
    )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width; raises ValueError while the spec is not resolved."""
        if self.resolution is None or self.channels is None:
            raise ValueError("data.resolution and data.channels are open: resolve the spec first")
        return self.channels, self.resolution, self.resolution

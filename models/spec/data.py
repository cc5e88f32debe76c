"""What a job trains on: the dataset's facts, and how its images are shown to the networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

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


BUILTIN_DATASETS = {
    "digits": DatasetFacts("digits", 1797, 16, 1, tuple("0123456789")),
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
    ),
}
"""The datasets that are always there, under their own names as ids."""


class DataSpec(Model):
    """How the dataset's images are shown to the networks; pixels are scaled to [-1, 1]."""

    resolution: Literal[16, 32, 64, 128, 256] | None = Field(
        None, description="Side of the square images in pixels. Left out: the dataset's own."
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 (grey) or 3 (RGB), the `nc` of the networks. Left out: the dataset's own."
    )
    horizontal_flip: bool = Field(False, description="Mirror each shown image with probability 1/2.")
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

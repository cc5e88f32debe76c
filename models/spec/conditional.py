"""Models that learn the dataset's classes."""

from typing import Annotated

from pydantic import Field

from models.spec.fields import Model


class ConditionalSpec(Model):
    """Class labels for the networks: images of a chosen class can then be asked for."""

    classes: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Number of classes. Left out: the dataset's."
    )
    label_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Chance that a diffusion model is not told the label, for classifier-free guidance (Ho & "
        "Salimans 2022). Left out: 0.1; of no use to a GAN.",
    )

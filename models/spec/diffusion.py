"""The spec of a diffusion job: the denoising network, its noise schedule, loss and default sampler."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from models.spec.fields import Model
from models.spec.sampling import SamplerSpec
from models.spec.training import TrainingSpec

Width = Annotated[int, Field(ge=1, le=16)]


class NoiseScheduleKind(StrEnum):
    """`linear`: β from 1e-4 to 0.02 (Ho et al. 2020). `cosine`: ᾱ = cos² (Nichol & Dhariwal 2021, eq. 17)."""

    LINEAR = "linear"
    COSINE = "cosine"


class Prediction(StrEnum):
    """What the network predicts; `epsilon`: the noise (Ho et al. 2020, eq. 14)."""

    EPSILON = "epsilon"


class UnetSpec(Model):
    """diffusers' UNet2DModel: residual blocks at each resolution, attention at the chosen ones."""

    kind: Literal["unet"] = Field("unet", description="The architecture.")
    channels: Annotated[int, Field(ge=4, le=1024)] = Field(32, description="Width at the full resolution.")
    multipliers: tuple[Width, ...] = Field(
        (1, 2, 2), min_length=1, max_length=6, description="Width of each level; each halves the resolution."
    )
    layers_per_block: Annotated[int, Field(ge=1, le=8)] = Field(1, description="Residual blocks a level.")
    attention_resolutions: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (), max_length=6, description="Sides, in pixels, of the maps that get self-attention."
    )
    norm_groups: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Groups of GroupNorm.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout in residual blocks.")


class DenoisingLossSpec(Model):
    """Mean squared error of the prediction."""

    prediction: Prediction = Field(Prediction.EPSILON, description="What the network predicts.")


class NoiseScheduleSpec(Model):
    """How noise grows with time."""

    kind: NoiseScheduleKind = Field(NoiseScheduleKind.COSINE, description="Shape of the schedule.")
    timesteps: Annotated[int, Field(ge=2, le=10_000)] = Field(
        1000, description="Steps of the noising process."
    )


class DiffusionSpec(TrainingSpec):
    """A job that trains a network to remove noise."""

    family: Literal["diffusion"] = Field("diffusion", description="The family of models.")
    network: UnetSpec = Field(default_factory=UnetSpec, description="The denoising network.")
    loss: DenoisingLossSpec = Field(default_factory=DenoisingLossSpec, description="The denoising loss.")
    noise_schedule: NoiseScheduleSpec = Field(
        default_factory=NoiseScheduleSpec, description="The noising process that is undone."
    )
    sampler: SamplerSpec = Field(
        default_factory=SamplerSpec,
        description="Makes the sample grids; the default when images are asked for.",
    )

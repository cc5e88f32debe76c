"""The spec of a diffusion job: the denoising network, how noise grows, the loss and the default sampler."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from models.spec.fields import Model
from models.spec.sampling import SamplerSpec
from models.spec.training import TrainingSpec

Width = Annotated[int, Field(ge=1, le=16)]


class NoiseScheduleKind(StrEnum):
    """How noise grows.

    In `timesteps`: `linear`, β from 1e-4 to 0.02 (Ho et al. 2020); `cosine`, ᾱ = cos² (Nichol & Dhariwal
    2021, eq. 17); `sigmoid`, β along a sigmoid (Xu et al. 2022, GeoDiff). Continuous: `edm`, σ from
    `sigma_min` to `sigma_max`, with preconditioning (Karras et al. 2022); `flow`, the straight path from
    noise to the image (Lipman et al. 2023; Liu et al. 2023).
    """

    LINEAR = "linear"
    COSINE = "cosine"
    SIGMOID = "sigmoid"
    EDM = "edm"
    FLOW = "flow"


IN_TIMESTEPS = (NoiseScheduleKind.LINEAR, NoiseScheduleKind.COSINE, NoiseScheduleKind.SIGMOID)


class Prediction(StrEnum):
    """What the network predicts.

    `epsilon`: the noise (Ho et al. 2020, eq. 14). `v`: √ᾱ ε - √(1-ᾱ) x0 (Salimans & Ho 2022). `x0`: the
    image.
    """

    EPSILON = "epsilon"
    V = "v"
    X0 = "x0"


class Weighting(StrEnum):
    """Weight of the squared error at a signal-to-noise ratio. `uniform`: 1. `min_snr`: Hang et al. 2023."""

    UNIFORM = "uniform"
    MIN_SNR = "min_snr"


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


class DitSpec(Model):
    """A diffusion transformer with adaptive layer norm (Peebles & Xie 2023)."""

    kind: Literal["dit"] = Field("dit", description="The architecture.")
    patch_size: Literal[1, 2, 4, 8, 16] = Field(
        4, description="Side of a patch, in pixels; a patch is a token."
    )
    width: Annotated[int, Field(ge=16, le=4096)] = Field(128, description="Length of a token.")
    depth: Annotated[int, Field(ge=1, le=64)] = Field(6, description="Blocks.")
    heads: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Attention heads; they divide `width`.")
    mlp_ratio: Annotated[float, Field(ge=1, le=16)] = Field(4.0, description="Hidden width of a block's MLP.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout in the MLPs.")


NetworkSpec = Annotated[UnetSpec | DitSpec, Field(discriminator="kind")]


class DenoisingLossSpec(Model):
    """Mean squared error of the prediction."""

    prediction: Prediction | None = Field(
        None,
        description="What the network predicts. Left out: `epsilon`; null of `edm` and `flow`, which fix it.",
    )
    weighting: Weighting = Field(Weighting.UNIFORM, description="Weight of the error at each time.")
    min_snr_gamma: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="γ of `min_snr`. Left out: 5."
    )


class NoiseScheduleSpec(Model):
    """How noise grows with time. Fields of other kinds are null."""

    kind: NoiseScheduleKind = Field(NoiseScheduleKind.COSINE, description="Shape of the schedule.")
    timesteps: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None, description="Steps of the noising process. Left out: 1000; null of `edm` and `flow`."
    )
    zero_terminal_snr: bool = Field(
        False, description="Rescale so that the last timestep is pure noise (Lin et al. 2024)."
    )
    sigma_min: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="`edm`: left out, 0.002.")
    sigma_max: Annotated[float, Field(gt=1, le=1000)] | None = Field(None, description="`edm`: left out, 80.")
    rho: Annotated[float, Field(ge=1, le=100)] | None = Field(
        None, description="`edm`: how the sampler's steps bunch at low noise. Left out: 7."
    )
    sigma_data: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None, description="`edm`: standard deviation of the images. Left out: the dataset's."
    )
    time_mean: Annotated[float, Field(ge=-10, le=10)] | None = Field(
        None,
        description="`edm`: mean of ln σ in training, or -1.2. `flow`: mean of the logit of t, or 0.",
    )
    time_std: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None, description="Its standard deviation. Left out: 1.2 of `edm`, 1 of `flow`."
    )


class DiffusionSpec(TrainingSpec):
    """A job that trains a network to remove noise."""

    family: Literal["diffusion"] = Field("diffusion", description="The family of models.")
    network: NetworkSpec = Field(default_factory=UnetSpec, description="The denoising network.")
    loss: DenoisingLossSpec = Field(default_factory=DenoisingLossSpec, description="The denoising loss.")
    noise_schedule: NoiseScheduleSpec = Field(
        default_factory=NoiseScheduleSpec, description="The noising process that is undone."
    )
    sampler: SamplerSpec = Field(
        default_factory=SamplerSpec,
        description="Makes the sample grids; the default when images are asked for.",
    )

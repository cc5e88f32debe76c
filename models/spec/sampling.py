"""How a diffusion model's images are drawn."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.spec.fields import Model


class SamplerKind(StrEnum):
    """`ddpm`: ancestral sampling (Ho et al. 2020, algorithm 2). `ddim`: Song et al. 2021, eq. 12."""

    DDPM = "ddpm"
    DDIM = "ddim"


class SamplerSpec(Model):
    """A sampler of diffusion models; a GAN takes none."""

    kind: SamplerKind = Field(SamplerKind.DDIM, description="The sampler.")
    steps: Annotated[int, Field(ge=1, le=10_000)] = Field(
        50,
        description="Evaluations of the network, `num_inference_steps` of diffusers; at most the timesteps.",
    )
    eta: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Noise added at each step of `ddim`: 0 none, 1 as much as `ddpm`."
    )

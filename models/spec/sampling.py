"""How a diffusion model's images are drawn."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.spec.fields import Model


class SamplerKind(StrEnum):
    """How noise becomes an image.

    Of the noise schedules in timesteps: `ddpm`, ancestral sampling (Ho et al. 2020, algorithm 2); `ddim`
    (Song et al. 2021, eq. 12); `dpmpp`, DPM-Solver++ of second order (Lu et al. 2022); `unipc` (Zhao et al.
    2023). Of `edm` and `flow`: `euler`, and `heun`, of second order with two evaluations a step (Karras et
    al. 2022, algorithm 1).
    """

    DDPM = "ddpm"
    DDIM = "ddim"
    DPMPP = "dpmpp"
    UNIPC = "unipc"
    EULER = "euler"
    HEUN = "heun"


class SamplerSpec(Model):
    """A sampler of diffusion models; a GAN takes none."""

    kind: SamplerKind | None = Field(
        None, description="The sampler. Left out: `ddim`; `heun` of `edm`; `euler` of `flow`."
    )
    steps: Annotated[int, Field(ge=1, le=10_000)] = Field(
        50,
        description="Steps of the sampler, `num_inference_steps` of diffusers; at most the timesteps.",
    )
    eta: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Noise added at each step of `ddim`: 0 none, 1 as much as `ddpm`."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = Field(
        1.0,
        description="How much a conditional model's prediction is drawn away from that without a label "
        "(classifier-free guidance): 1 not at all.",
    )

"""The spec of a GAN job: generator, discriminator and the game between them."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from models.spec.fields import Model
from models.spec.training import OptimizersSpec, TrainingSpec


class Init(StrEnum):
    """`normal`: N(0, 0.02) as in DCGAN (Radford et al. 2016). `kaiming`: He et al. 2015, fan-in."""

    NORMAL = "normal"
    KAIMING = "kaiming"


class DiscriminatorOutput(StrEnum):
    """`logits`: the last convolution itself. `sigmoid`: a probability, as in the classical recipe."""

    LOGITS = "logits"
    SIGMOID = "sigmoid"


class GanLoss(StrEnum):
    """`non_saturating`: binary cross-entropy, G maximises log D(G(z)) (Goodfellow et al. 2014, section 3)."""

    NON_SATURATING = "non_saturating"


class GeneratorSpec(Model):
    """DCGAN's generator: transposed 4x4 convolutions from a 4x4 map, BatchNorm, ReLU, Tanh."""

    kind: Literal["dcgan"] = Field("dcgan", description="The architecture.")
    nz: Annotated[int, Field(ge=1, le=4096)] = Field(100, description="Length of the latent vector.")
    ngf: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Width of the last hidden map. Left out: 64 from 64 px up, 32 below."
    )
    init: Init = Field(Init.NORMAL, description="Initial weights.")


class DiscriminatorSpec(Model):
    """DCGAN's discriminator: 4x4 convolutions of stride 2, BatchNorm, LeakyReLU 0.2."""

    kind: Literal["dcgan"] = Field("dcgan", description="The architecture.")
    ndf: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Width of the first map. Left out: 64 from 64 px up, 32 below."
    )
    output: DiscriminatorOutput = Field(
        DiscriminatorOutput.LOGITS, description="What the last layer returns."
    )
    init: Init = Field(Init.NORMAL, description="Initial weights.")


class GanLossSpec(Model):
    """The adversarial loss."""

    kind: GanLoss = Field(GanLoss.NON_SATURATING, description="Which game is played.")


class GanSpec(TrainingSpec):
    """A job that trains a generator against a discriminator."""

    family: Literal["gan"] = Field("gan", description="The family of models.")
    generator: GeneratorSpec = Field(default_factory=GeneratorSpec, description="Makes images from noise.")
    discriminator: DiscriminatorSpec = Field(
        default_factory=DiscriminatorSpec, description="Tells real images from made ones."
    )
    loss: GanLossSpec = Field(default_factory=GanLossSpec, description="The game that the two play.")
    optimizers: OptimizersSpec = Field(
        default_factory=OptimizersSpec, description="Merged into `optimizer` for one network."
    )

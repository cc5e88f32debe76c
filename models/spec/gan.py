"""The spec of a GAN job: generator, discriminator and the game between them."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from models.spec.augmentation import DiscriminatorAugmentationSpec
from models.spec.fields import Model
from models.spec.layers import Activation, Init, Norm
from models.spec.training import OptimizersSpec, TrainingSpec

Sides = Annotated[tuple[Annotated[int, Field(ge=4, le=128)], ...], Field(max_length=6)]


class DiscriminatorOutput(StrEnum):
    """`logits`: the last convolution itself. `sigmoid`: a probability, as in the classical recipe."""

    LOGITS = "logits"
    SIGMOID = "sigmoid"


class GanLoss(StrEnum):
    """The game.

    `minimax`: G minimises log(1 - D(G(z))) (Goodfellow et al. 2014, eq. 1). `non_saturating`: G maximises
    log D(G(z)) (ibid., section 3). `least_squares`: Mao et al. 2017. `wasserstein`: Arjovsky et al. 2017.
    `hinge`: Lim & Ye 2017. `relativistic`: softplus of D(fake) - D(real), image by image (Jolicoeur-Martineau
    2019; Huang et al. 2024, R3GAN).
    """

    MINIMAX = "minimax"
    NON_SATURATING = "non_saturating"
    LEAST_SQUARES = "least_squares"
    WASSERSTEIN = "wasserstein"
    HINGE = "hinge"
    RELATIVISTIC = "relativistic"


class Penalty(StrEnum):
    """A term of D's loss on its gradient with respect to images.

    `gradient_penalty`: (|gradient| - 1)² between real and made images (Gulrajani et al. 2017). `r1`: half the
    squared gradient at real images (Mescheder et al. 2018); `r2`: at made ones.
    """

    GRADIENT_PENALTY = "gradient_penalty"
    R1 = "r1"
    R2 = "r2"


class PenaltySpec(Model):
    """One penalty on D's gradient."""

    kind: Penalty = Field(description="Which gradient, and how it is penalised.")
    weight: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None,
        description="Its weight, λ or γ. Left out: 10 of `gradient_penalty`; 0.0002 × resolution² / "
        "batch_size of `r1` and `r2` (Karras et al. 2020).",
    )
    final_weight: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        None, description="Its weight at the end of the run, reached along a cosine; null keeps it constant."
    )
    every: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="Steps between two times; beyond 1 it is lazy: an update of its own, with the weight "
        "times `every` (Karras et al. 2020, StyleGAN2).",
    )


class GeneratorSpec(Model):
    """DCGAN's generator: transposed 4x4 convolutions from a 4x4 map, ending in tanh."""

    kind: Literal["dcgan"] = Field("dcgan", description="The architecture.")
    nz: Annotated[int, Field(ge=1, le=4096)] = Field(100, description="Length of the latent vector.")
    ngf: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Width of the last hidden map. Left out: 64 from 64 px up, 32 below."
    )
    norm: Norm = Field(Norm.BATCH, description="Normalisation of the hidden maps.")
    norm_groups: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Groups of `group`.")
    activation: Activation = Field(Activation.RELU, description="After each hidden map.")
    spectral_norm: bool = Field(False, description="Divide each weight by its largest singular value.")
    attention_resolutions: Sides = Field(
        (), description="Sides, in pixels, of the hidden maps that get self-attention (Zhang et al. 2019)."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout of the hidden maps.")
    init: Init = Field(Init.NORMAL, description="Initial weights.")


class DiscriminatorSpec(Model):
    """DCGAN's discriminator: 4x4 convolutions of stride 2."""

    kind: Literal["dcgan"] = Field("dcgan", description="The architecture.")
    ndf: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Width of the first map. Left out: 64 from 64 px up, 32 below."
    )
    output: DiscriminatorOutput = Field(
        DiscriminatorOutput.LOGITS, description="What the last layer returns."
    )
    norm: Norm = Field(Norm.BATCH, description="Normalisation of all hidden maps but the first.")
    norm_groups: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Groups of `group`.")
    activation: Activation = Field(Activation.LEAKY_RELU, description="After each hidden map.")
    spectral_norm: bool = Field(
        False, description="Divide each weight by its largest singular value (Miyato et al. 2018)."
    )
    weight_clip: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None, description="Every weight is clipped to ± this after each update (Arjovsky et al. 2017)."
    )
    attention_resolutions: Sides = Field(
        (), description="Sides, in pixels, of the hidden maps that get self-attention (Zhang et al. 2019)."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout of the hidden maps.")
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
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="Updates of the discriminator for one of the generator, `n_critic`."
    )
    penalties: tuple[PenaltySpec, ...] = Field(
        (), max_length=3, description="Penalties on the discriminator's gradient."
    )
    discriminator_augmentation: DiscriminatorAugmentationSpec | None = Field(
        None, description="Augment all that the discriminator sees; null does not."
    )
    optimizers: OptimizersSpec = Field(
        default_factory=OptimizersSpec,
        description="Merged into `optimizer` for one network; one of another `kind` replaces it whole.",
    )
    lazy_rescaling: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor on the discriminator's learning rate and exponent of its betas, which make up "
        "for the updates of lazy penalties (Karras et al. 2020, StyleGAN2, appendix B). Left out: updates of "
        "the loss / all updates, 16/17 with one penalty every 16 steps; 1 without.",
    )

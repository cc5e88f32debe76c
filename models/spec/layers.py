"""What convolutional networks may be built of."""

from enum import StrEnum


class Init(StrEnum):
    """Initial weights of convolutions and linear layers.

    `normal`: N(0, 0.02) as in DCGAN (Radford et al. 2016). `kaiming`: He et al. 2015, fan-in.
    `xavier`: uniform, Glorot & Bengio 2010. `orthogonal`: Saxe et al. 2014.
    """

    NORMAL = "normal"
    KAIMING = "kaiming"
    XAVIER = "xavier"
    ORTHOGONAL = "orthogonal"


class Norm(StrEnum):
    """Normalisation between layers.

    `batch`: Ioffe & Szegedy 2015. `instance`: Ulyanov et al. 2016. `group`: Wu & He 2018, in `norm_groups`.
    `none`: none, and the convolutions have biases instead.
    """

    BATCH = "batch"
    INSTANCE = "instance"
    GROUP = "group"
    NONE = "none"


class Activation(StrEnum):
    """Between layers. `leaky_relu`: slope 0.2 (Radford et al. 2016). `relu`. `silu`: Elfwing et al. 2018."""

    LEAKY_RELU = "leaky_relu"
    RELU = "relu"
    SILU = "silu"

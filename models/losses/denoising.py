"""The forward noising process and the targets that a denoising network is trained on."""

from collections.abc import Callable

from torch import Tensor

from models.spec.diffusion import Prediction


def noised(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """x_t = √ᾱ·x0 + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4); ᾱ in [0, 1], one an image."""
    alphas = alphas_cumprod_B.view(-1, 1, 1, 1)
    return alphas.sqrt() * images_BCHW + (1 - alphas).sqrt() * noise_BCHW


def _epsilon(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """The noise itself (Ho et al. 2020, eq. 14)."""
    return noise_BCHW


TARGETS: dict[Prediction, Callable[[Tensor, Tensor, Tensor], Tensor]] = {Prediction.EPSILON: _epsilon}
"""What the network should return, from (images, noise, ᾱ)."""

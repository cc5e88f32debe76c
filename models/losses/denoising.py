"""The forward noising process, and the targets and weights that a denoising network is trained with."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.spec.diffusion import Prediction, Weighting


def noised(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """x_t = √ᾱ·x0 + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4); ᾱ in [0, 1], one an image."""
    alphas = alphas_cumprod_B.view(-1, 1, 1, 1)
    return alphas.sqrt() * images_BCHW + (1 - alphas).sqrt() * noise_BCHW


def weighted_mse(predicted_BCHW: Tensor, target_BCHW: Tensor, weights_B: Tensor) -> Tensor:
    """The mean over all values of w·(predicted - target)², with one weight w ≥ 0 an image.

    Both sides are scaled by √w, so that weights of 1 give F.mse_loss to the last bit.
    """
    scales = weights_B.sqrt().view(-1, 1, 1, 1)
    return F.mse_loss(predicted_BCHW.float() * scales, target_BCHW * scales)


def _epsilon(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """The noise itself (Ho et al. 2020, eq. 14)."""
    return noise_BCHW


def _v(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """√ᾱ·ε - √(1-ᾱ)·x0 (Salimans & Ho 2022, section 4)."""
    alphas = alphas_cumprod_B.view(-1, 1, 1, 1)
    return alphas.sqrt() * noise_BCHW - (1 - alphas).sqrt() * images_BCHW


def _x0(images_BCHW: Tensor, noise_BCHW: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """The image."""
    return images_BCHW


TARGETS: dict[Prediction, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Prediction.EPSILON: _epsilon,
    Prediction.V: _v,
    Prediction.X0: _x0,
}
"""What the network should return, from (images, noise, ᾱ)."""


_ERROR_OF_ONE: dict[Prediction, Callable[[Tensor], Tensor]] = {
    Prediction.EPSILON: lambda snr: snr,
    Prediction.V: lambda snr: snr + 1,
    Prediction.X0: torch.ones_like,
}
"""The squared error of a prediction for a squared error of 1 of the image that it implies."""


def _uniform(snr: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """1 at every time (Ho et al. 2020, eq. 14)."""
    return torch.ones_like(snr)


def _min_snr(snr: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """min(SNR, γ) of the image's error, which is ε's over SNR and v's over SNR + 1 (Hang et al. 2023)."""
    return snr.clamp(max=gamma) / _ERROR_OF_ONE[prediction](snr)


WEIGHTINGS: dict[Weighting, Callable[[Tensor, Prediction, float], Tensor]] = {
    Weighting.UNIFORM: _uniform,
    Weighting.MIN_SNR: _min_snr,
}
"""Weights of the squared error, from (signal-to-noise ratios ᾱ/(1-ᾱ), what is predicted, γ of min-SNR)."""

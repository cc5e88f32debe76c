"""The denoising network of a diffusion model: diffusers' UNet2DModel, returning a plain tensor."""

from typing import Any

from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from models.spec.diffusion import UnetSpec

HEAD_WIDTH = 8


class Denoiser(UNet2DModel):  # type: ignore[misc]  # diffusers' classes reach mypy as Any
    """UNet2DModel with the same parameters and names, called as `denoiser(images, timesteps)`."""

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy images (B, C, H, W) and timesteps (B,) or () to the prediction (B, C, H, W)."""
        prediction: Tensor = super().forward(images, timesteps, return_dict=False)[0]
        return prediction


def unet_config(network: UnetSpec, *, channels: int, resolution: int) -> dict[str, Any]:
    """The arguments of UNet2DModel for `channels`-channel images of `resolution` pixels.

    The middle of the network, at the lowest resolution, attends if any level does. Heads are 8 wide where 8
    divides every width; otherwise each attention has one head.
    """
    widths = [network.channels * multiplier for multiplier in network.multipliers]
    attends = [resolution >> level in network.attention_resolutions for level in range(len(widths))]
    return {
        "sample_size": resolution,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": tuple(widths),
        "layers_per_block": network.layers_per_block,
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        "add_attention": any(attends),
        "attention_head_dim": None if any(width % HEAD_WIDTH for width in widths) else HEAD_WIDTH,
        "norm_num_groups": network.norm_groups,
        "dropout": network.dropout,
    }

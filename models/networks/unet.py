"""The denoising network of a diffusion model: diffusers' UNet2DModel, returning a plain tensor."""

from typing import Any

from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from models.networks.layers import given
from models.spec.diffusion import UnetSpec

HEAD_WIDTH = 8


class Denoiser(UNet2DModel):  # type: ignore[misc]  # diffusers' classes reach mypy as Any
    """UNet2DModel with the same parameters and names, called as `denoiser(images, times, labels)`."""

    def forward(self, images: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noisy images (B, C, H, W), times (B,) or () and labels (B,) to the prediction (B, C, H, W)."""
        wanted_B = None if self.class_embedding is None else given(labels)
        prediction: Tensor = super().forward(images, times, wanted_B, return_dict=False)[0]
        return prediction


def unet_config(
    network: UnetSpec, *, channels: int, resolution: int, classes: int | None = None
) -> dict[str, Any]:
    """The arguments of UNet2DModel for `channels`-channel images of `resolution` pixels.

    The middle of the network, at the lowest resolution, attends if any level does. Heads are 8 wide where 8
    divides every width; otherwise each attention has one head. The embedding of labels, which is added to
    that of times, has a row more than `classes`: "no label" (Ho & Salimans 2022).
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
        "num_class_embeds": None if classes is None else classes + 1,
    }

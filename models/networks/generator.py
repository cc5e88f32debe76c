"""DCGAN's generator (Radford et al. 2016), layer for layer pytorch/examples' where nothing is asked."""

import torch
from torch import Tensor, nn

from models.networks.layers import (
    ACTIVATIONS,
    NORMS,
    ConditionalBatchNorm2d,
    SelfAttention,
    given,
    multipliers,
)
from models.spec.gan import GeneratorSpec
from models.spec.layers import Norm


class DCGANGenerator(nn.Module):
    """Makes images from latent vectors, and from labels where there are `classes`.

    At 64 px the state dict is that of the classical class: `main.0.weight`, `main.1.weight`, and so on.

    A label acts through BatchNorm (Miyato & Koyama 2018). With another norm, or none, an embedding as long as
    the latent vector is concatenated with it (Mirza & Osindero 2014). `low` is the value of black: -1 ends in
    tanh, 0 in a sigmoid.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        channels: int,
        resolution: int,
        *,
        classes: int | None = None,
        low: int = -1,
    ) -> None:
        super().__init__()
        if spec.ngf is None:
            raise ValueError("The spec leaves generator.ngf open: resolve it first.")
        self.nz, self._spec, self._classes = spec.nz, spec, classes
        concatenates = classes is not None and spec.norm is not Norm.BATCH
        self.embedding = nn.Embedding(classes, spec.nz) if classes is not None and concatenates else None
        widths = [spec.ngf * multiplier for multiplier in multipliers(resolution)]
        biased = spec.norm is Norm.NONE
        length = spec.nz * (2 if concatenates else 1)
        layers: list[nn.Module] = [nn.ConvTranspose2d(length, widths[0], 4, 1, 0, bias=biased)]
        for index, (width, following) in enumerate(zip(widths, [*widths[1:], channels], strict=True)):
            layers += self._after_a_map(width, side=4 * 2**index)
            layers += [nn.ConvTranspose2d(width, following, 4, 2, 1, bias=biased)]
        self.main = nn.Sequential(*layers, nn.Sigmoid() if low == 0 else nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, nz) or (B, nz, 1, 1) and labels (B,) to images (B, C, H, W) in [-1, 1] or [0, 1]."""
        maps = latents.reshape(latents.shape[0], self.nz, 1, 1)
        if self.embedding is not None:
            embedded_BZ11 = self.embedding(given(labels))[..., None, None]
            maps = torch.cat([maps, embedded_BZ11], dim=1)
        for layer in self.main:
            maps = layer(maps, given(labels)) if isinstance(layer, ConditionalBatchNorm2d) else layer(maps)
        return maps

    def _after_a_map(self, width: int, *, side: int) -> list[nn.Module]:
        spec = self._spec
        if self._classes is not None and spec.norm is Norm.BATCH:
            layers: list[nn.Module] = [ConditionalBatchNorm2d(width, self._classes)]
        else:
            layers = [NORMS[spec.norm](width, spec.norm_groups)]
        layers += [ACTIVATIONS[spec.activation]()]
        if spec.dropout:
            layers += [nn.Dropout(spec.dropout)]
        if side in spec.attention_resolutions:
            layers += [SelfAttention(width)]
        return layers

"""DCGAN's discriminator (Radford et al. 2016), layer for layer pytorch/examples' where nothing is asked."""

from itertools import pairwise

from torch import Tensor, nn

from models.networks.layers import ACTIVATIONS, NORMS, LabelProjection, SelfAttention, given, multipliers
from models.spec.gan import DiscriminatorOutput, DiscriminatorSpec
from models.spec.layers import Norm


class DCGANDiscriminator(nn.Module):
    """Scores images: real ones high, made ones low; with `classes`, images that are of their label.

    `sigmoid` ends in probabilities, as the classical class does; `logits` leaves that last layer out. Both
    have the same state dict. A label adds the projection of the last hidden map, summed over its pixels, on
    its embedding to the score (Miyato & Koyama 2018, equation 8).
    """

    def __init__(
        self, spec: DiscriminatorSpec, channels: int, resolution: int, *, classes: int | None = None
    ) -> None:
        super().__init__()
        if spec.ndf is None:
            raise ValueError("The spec leaves discriminator.ndf open: resolve it first.")
        widths = [spec.ndf * multiplier for multiplier in reversed(multipliers(resolution))]
        biased = spec.norm is Norm.NONE
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=biased)]
        layers += _after_a_map(spec, widths[0], side=resolution // 2)
        for index, (width, following) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(width, following, 4, 2, 1, bias=biased)]
            layers += [NORMS[spec.norm](following, spec.norm_groups)]
            layers += _after_a_map(spec, following, side=resolution // 2 ** (index + 2))
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=biased))
        self.projection = LabelProjection(classes, widths[-1]) if classes is not None else None
        self.output = nn.Sigmoid() if spec.output is DiscriminatorOutput.SIGMOID else nn.Identity()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) and labels (B,) to scores (B,)."""
        *hidden, last = self.main
        maps = images
        for layer in hidden:
            maps = layer(maps)
        scores_B = last(maps).flatten()
        if self.projection is not None:
            scores_B = scores_B + self.projection(maps, given(labels))
        outputs_B: Tensor = self.output(scores_B)
        return outputs_B


def _after_a_map(spec: DiscriminatorSpec, width: int, *, side: int) -> list[nn.Module]:
    layers = [ACTIVATIONS[spec.activation]()]
    if spec.dropout:
        layers += [nn.Dropout(spec.dropout)]
    if side in spec.attention_resolutions:
        layers += [SelfAttention(width)]
    return layers

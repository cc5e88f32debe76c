"""DCGAN's discriminator (Radford et al. 2016), layer for layer that of pytorch/examples."""

from itertools import pairwise

from torch import Tensor, nn

from models.networks.layers import multipliers
from models.spec.gan import DiscriminatorOutput


class DCGANDiscriminator(nn.Module):
    """Scores images: real ones high, made ones low.

    `sigmoid` ends in probabilities, as the classical class does; `logits` leaves that last layer out. Both
    have the same state dict.
    """

    def __init__(self, ndf: int, nc: int, resolution: int, output: DiscriminatorOutput) -> None:
        super().__init__()
        widths = [ndf * multiplier for multiplier in reversed(multipliers(resolution))]
        layers: list[nn.Module] = [
            nn.Conv2d(nc, widths[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for width, following in pairwise(widths):
            layers += [nn.Conv2d(width, following, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(following), nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False)]
        if output is DiscriminatorOutput.SIGMOID:
            layers += [nn.Sigmoid()]
        self.main = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, nc, resolution, resolution) in [-1, 1] to scores (B,)."""
        scores: Tensor = self.main(images)
        return scores.flatten()

"""DCGAN's generator (Radford et al. 2016), layer for layer that of pytorch/examples."""

from torch import Tensor, nn

from models.networks.layers import multipliers


class DCGANGenerator(nn.Module):
    """Makes images from latent vectors.

    At 64 px the state dict is that of the classical class: `main.0.weight`, `main.1.weight`, and so on.
    """

    def __init__(self, nz: int, ngf: int, nc: int, resolution: int) -> None:
        super().__init__()
        self.nz = nz
        widths = [ngf * multiplier for multiplier in multipliers(resolution)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, 1, 0, bias=False)]
        for width, following in zip(widths, [*widths[1:], nc], strict=True):
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(width, following, 4, 2, 1, bias=False)]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, nz) or (B, nz, 1, 1) to images (B, nc, resolution, resolution) in [-1, 1]."""
        images: Tensor = self.main(latents.reshape(len(latents), self.nz, 1, 1))
        return images

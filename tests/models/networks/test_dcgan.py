"""DCGAN is the classical one: it exchanges weights with pytorch/examples' classes, and answers as they do."""

import pytest
import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.generator import DCGANGenerator
from models.networks.layers import multipliers
from models.spec.gan import DiscriminatorOutput, DiscriminatorSpec, GeneratorSpec

NZ, NGF, NDF = 100, 8, 8
GENERATOR = GeneratorSpec(nz=NZ, ngf=NGF)
LOGITS = DiscriminatorSpec(ndf=NDF)
SIGMOID = DiscriminatorSpec(ndf=NDF, output=DiscriminatorOutput.SIGMOID)


class ClassicalGenerator(nn.Module):
    """pytorch/examples dcgan/main.py, for 64 px."""

    def __init__(self, nc: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(NZ, NGF * 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(NGF * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 8, NGF * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NGF * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 4, NGF * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NGF * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 2, NGF, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NGF),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.main(latents)


class ClassicalDiscriminator(nn.Module):
    """pytorch/examples dcgan/main.py, for 64 px."""

    def __init__(self, nc: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, NDF, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF, NDF * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NDF * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF * 2, NDF * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NDF * 4),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF * 4, NDF * 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NDF * 8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF * 8, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images).view(-1, 1).squeeze(1)


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_the_generator_is_the_classical_one_both_ways(nc: int, training: bool) -> None:
    ours, classical = DCGANGenerator(GENERATOR, nc, 64), ClassicalGenerator(nc)
    latents = torch.randn(4, NZ, 1, 1)
    classical.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours.train(training)(latents), classical.train(training)(latents))
    other = ClassicalGenerator(nc)
    ours.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(ours(latents), other.train(training)(latents))


@pytest.mark.parametrize("nc", [1, 3])
def test_the_sigmoid_discriminator_is_the_classical_one_both_ways(nc: int) -> None:
    ours = DCGANDiscriminator(SIGMOID, nc, 64)
    classical, images = ClassicalDiscriminator(nc), torch.rand(4, nc, 64, 64) * 2 - 1
    classical.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours(images), classical(images))
    other = ClassicalDiscriminator(nc)
    ours.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(ours(images), other(images))


def test_logits_are_what_the_sigmoid_would_be_given() -> None:
    """A sigmoid left in, or a weight renamed, would train another loss than the one asked for."""
    logits = DCGANDiscriminator(LOGITS, 3, 64)
    sigmoid = DCGANDiscriminator(SIGMOID, 3, 64)
    sigmoid.load_state_dict(logits.state_dict(), strict=True)
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(torch.sigmoid(logits(images)), sigmoid(images))


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("nc", [1, 3])
def test_shapes_and_ranges_at_every_resolution(resolution: int, nc: int) -> None:
    generator = DCGANGenerator(GeneratorSpec(nz=NZ, ngf=2), nc, resolution)
    discriminator = DCGANDiscriminator(DiscriminatorSpec(ndf=2), nc, resolution)
    images = generator(torch.randn(2, NZ))
    assert images.shape == (2, nc, resolution, resolution)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)
    assert torch.equal(generator.eval()(torch.ones(2, NZ)), generator(torch.ones(2, NZ, 1, 1)))


def test_widths_halve_and_are_capped_at_eight() -> None:
    expected = {16: [2, 1], 32: [4, 2, 1], 64: [8, 4, 2, 1], 128: [8, 8, 4, 2, 1], 256: [8, 8, 8, 4, 2, 1]}
    assert {resolution: multipliers(resolution) for resolution in expected} == expected


@pytest.mark.parametrize("resolution", [8, 48, 512])
def test_a_resolution_without_a_layout_is_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match="choose one of"):
        DCGANGenerator(GENERATOR, 1, resolution)

"""DCGAN is the classical one: it exchanges weights with pytorch/examples' classes, and answers as they do."""

import math

import pytest
import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.generator import DCGANGenerator
from models.networks.layers import INITS, fan_in, multipliers
from models.spec.gan import DiscriminatorOutput
from models.spec.layers import Init

NZ, NGF, NDF = 100, 8, 8


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
    ours, classical = DCGANGenerator(NZ, NGF, nc, 64), ClassicalGenerator(nc)
    latents = torch.randn(4, NZ, 1, 1)
    classical.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours.train(training)(latents), classical.train(training)(latents))
    other = ClassicalGenerator(nc)
    ours.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(ours(latents), other.train(training)(latents))


@pytest.mark.parametrize("nc", [1, 3])
def test_the_sigmoid_discriminator_is_the_classical_one_both_ways(nc: int) -> None:
    ours = DCGANDiscriminator(NDF, nc, 64, DiscriminatorOutput.SIGMOID)
    classical, images = ClassicalDiscriminator(nc), torch.rand(4, nc, 64, 64) * 2 - 1
    classical.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours(images), classical(images))
    other = ClassicalDiscriminator(nc)
    ours.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(ours(images), other(images))


def test_logits_are_what_the_sigmoid_would_be_given() -> None:
    """A sigmoid left in, or a weight renamed, would train another loss than the one asked for."""
    logits = DCGANDiscriminator(NDF, 3, 64, DiscriminatorOutput.LOGITS)
    sigmoid = DCGANDiscriminator(NDF, 3, 64, DiscriminatorOutput.SIGMOID)
    sigmoid.load_state_dict(logits.state_dict(), strict=True)
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(torch.sigmoid(logits(images)), sigmoid(images))


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("nc", [1, 3])
def test_shapes_and_ranges_at_every_resolution(resolution: int, nc: int) -> None:
    generator = DCGANGenerator(NZ, 2, nc, resolution)
    discriminator = DCGANDiscriminator(2, nc, resolution, DiscriminatorOutput.LOGITS)
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
        DCGANGenerator(NZ, 8, 1, resolution)


def _initialised(init: Init) -> list[nn.Module]:
    torch.manual_seed(0)
    generator = DCGANGenerator(NZ, 32, 3, 64)
    discriminator = DCGANDiscriminator(32, 3, 64, DiscriminatorOutput.LOGITS)
    return [layer for network in (generator, discriminator) for layer in network.apply(INITS[init]).main]


def test_normal_init_has_the_stated_spread() -> None:
    """Convolutions N(0, 0.02), BatchNorm N(1, 0.02): torch's default would be several times wider."""
    for layer in _initialised(Init.NORMAL):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(layer.weight.mean().item()) < 0.002
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5)
            assert abs(layer.weight.mean().item() - 1) < 0.02
            assert not layer.bias.any()


def test_kaiming_init_has_the_stated_spread() -> None:
    for layer in _initialised(Init.KAIMING):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in(layer)), rel=0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))


def test_kaiming_init_keeps_the_scale_of_a_signal() -> None:
    """What it is for (He et al. 2015): before BatchNorm, G's hidden maps all have the same mean square.

    With torch's own fan-in of a transposed convolution, each map would have half that of the one before.
    """
    torch.manual_seed(0)
    generator = DCGANGenerator(NZ, 64, 3, 64).apply(INITS[Init.KAIMING]).eval()
    signal, spreads = torch.randn(8, NZ, 1, 1), []
    for layer in generator.main:
        signal = layer(signal)
        if isinstance(layer, nn.ConvTranspose2d):
            inside = signal[:, :, 1:-1, 1:-1] if len(spreads) else signal  # a border pixel sums fewer inputs
            spreads.append(inside.square().mean().item())
    assert spreads[:-1] == pytest.approx([2.0] * 4, rel=0.25)  # three random filters of the last say little


def test_every_init_is_in_the_table() -> None:
    assert set(INITS) == set(Init)

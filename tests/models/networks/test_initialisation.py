"""Initial weights have the spread that their papers state."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.generator import DCGANGenerator
from models.networks.initialisation import INITS, fan_in
from models.networks.layers import ConditionalBatchNorm2d, LabelProjection
from models.spec.gan import DiscriminatorSpec, GeneratorSpec
from models.spec.layers import Init, Norm

NZ = 100
WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, LabelProjection)


def _initialised(init: Init, norm: Norm = Norm.BATCH, classes: int | None = None) -> list[Any]:
    torch.manual_seed(0)
    generator = DCGANGenerator(GeneratorSpec(nz=NZ, ngf=32, norm=norm), 3, 64, classes=classes)
    discriminator = DCGANDiscriminator(DiscriminatorSpec(ndf=32, norm=norm), 3, 64, classes=classes)
    return [layer for network in (generator, discriminator) for layer in network.apply(INITS[init]).modules()]


def _scales_and_shifts(layers: list[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for layer in layers:
        if isinstance(layer, ConditionalBatchNorm2d):
            yield layer.scale.weight, layer.shift.weight
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            yield layer.weight, layer.bias


def test_normal_init_has_the_stated_spread() -> None:
    """N(0, 0.02): torch's default would be several times wider."""
    for layer in _initialised(Init.NORMAL, classes=50):
        if isinstance(layer, WEIGHTED):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(layer.weight.mean().item()) < 0.002


@pytest.mark.parametrize("norm", [Norm.BATCH, Norm.INSTANCE, Norm.GROUP])
@pytest.mark.parametrize("classes", [None, 5])
def test_normal_init_spreads_the_scales_of_norms_around_one(norm: Norm, classes: int | None) -> None:
    for scale, shift in _scales_and_shifts(_initialised(Init.NORMAL, norm, classes)):
        assert scale.std().item() == pytest.approx(0.02, rel=0.5)
        assert abs(scale.mean().item() - 1) < 0.02
        assert not shift.any()


@pytest.mark.parametrize("init", [Init.KAIMING, Init.XAVIER, Init.ORTHOGONAL])
@pytest.mark.parametrize("classes", [None, 5])
def test_the_other_inits_leave_norms_plain(init: Init, classes: int | None) -> None:
    pairs = list(_scales_and_shifts(_initialised(init, classes=classes)))
    assert len(pairs) == 7
    for scale, shift in pairs:
        assert torch.equal(scale, torch.ones_like(scale))
        assert not shift.any()


@pytest.mark.parametrize("init", Init)
def test_biases_start_at_zero(init: Init) -> None:
    """Only networks without a norm have any; torch's default draws them at random."""
    convolutions = [layer for layer in _initialised(init, Norm.NONE) if isinstance(layer, WEIGHTED[:2])]
    assert len(convolutions) == 10
    assert not any(layer.bias.any() for layer in convolutions)


def test_kaiming_init_has_the_stated_spread() -> None:
    for layer in _initialised(Init.KAIMING, classes=50):
        if isinstance(layer, WEIGHTED):
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in(layer)), rel=0.1)


def test_kaiming_init_keeps_the_scale_of_a_signal() -> None:
    """What it is for (He et al. 2015): before BatchNorm, G's hidden maps all have the same mean square.

    With torch's own fan-in of a transposed convolution, each map would have half that of the one before.
    """
    torch.manual_seed(0)
    generator = DCGANGenerator(GeneratorSpec(nz=NZ, ngf=64), 3, 64).apply(INITS[Init.KAIMING]).eval()
    signal, spreads = torch.randn(8, NZ, 1, 1), []
    for layer in generator.main:
        signal = layer(signal)
        if isinstance(layer, nn.ConvTranspose2d):
            inside = signal[:, :, 1:-1, 1:-1] if len(spreads) else signal  # a border pixel sums fewer inputs
            spreads.append(inside.square().mean().item())
    assert spreads[:-1] == pytest.approx([2.0] * 4, rel=0.25)  # three random filters of the last say little


def test_xavier_init_is_uniform_within_its_bound() -> None:
    """Glorot & Bengio 2010, equation 16, with torch's fans."""
    for layer in _initialised(Init.XAVIER, classes=50):
        if isinstance(layer, WEIGHTED):
            fans = sum(nn.init._calculate_fan_in_and_fan_out(layer.weight))
            bound = math.sqrt(6 / fans)
            assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_orthogonal_init_has_singular_values_of_one() -> None:
    """Saxe et al. 2014: whichever is fewer, rows or columns of the flattened weight, are orthonormal."""
    for layer in _initialised(Init.ORTHOGONAL, classes=50):
        if isinstance(layer, WEIGHTED):
            values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
            assert values.numpy() == pytest.approx(1, abs=1e-4)


def test_every_init_is_in_the_table() -> None:
    assert set(INITS) == set(Init)

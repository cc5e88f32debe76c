"""DCGAN is the classical one: it exchanges weights with pytorch/examples' classes, and answers as they do."""

import pytest
import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.generator import DCGANGenerator
from models.networks.initialisation import INITS
from models.networks.layers import SelfAttention, multipliers
from models.spec.gan import DiscriminatorOutput, DiscriminatorSpec, GeneratorSpec
from models.spec.layers import Activation, Init, Norm

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


def _layers(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.main]


def test_every_field_has_its_place_in_the_generator() -> None:
    """Convolution, norm, activation, dropout, attention; neither of the last two after the image itself."""
    spec = GeneratorSpec(
        nz=NZ,
        ngf=NGF,
        norm=Norm.GROUP,
        norm_groups=4,
        activation=Activation.SILU,
        dropout=0.3,
        attention_resolutions=(8,),
    )
    hidden = ["ConvTranspose2d", "GroupNorm", "SiLU", "Dropout"]
    expected = [*hidden, *hidden, "SelfAttention", *hidden, "ConvTranspose2d", "Tanh"]
    generator = DCGANGenerator(spec, 3, 32)
    assert _layers(generator) == expected
    assert (generator.main[1].num_groups, generator.main[3].p) == (4, 0.3)
    assert generator(torch.randn(2, NZ)).shape == (2, 3, 32, 32)


def test_every_field_has_its_place_in_the_discriminator() -> None:
    """The first map has no norm (Radford et al. 2016); dropout and attention follow hidden maps only."""
    spec = DiscriminatorSpec(
        ndf=NDF, norm=Norm.INSTANCE, activation=Activation.RELU, dropout=0.3, attention_resolutions=(8, 16)
    )
    hidden = ["Conv2d", "InstanceNorm2d", "ReLU", "Dropout"]
    expected = ["Conv2d", "ReLU", "Dropout", "SelfAttention", *hidden, "SelfAttention", *hidden, "Conv2d"]
    discriminator = DCGANDiscriminator(spec, 3, 32)
    assert _layers(discriminator) == expected
    assert discriminator(torch.randn(2, 3, 32, 32)).shape == (2,)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_attention_sits_at_the_maps_of_the_side_asked_for(side: int) -> None:
    generator = DCGANGenerator(GeneratorSpec(nz=NZ, ngf=8, attention_resolutions=(side,)), 1, 32)
    discriminator = DCGANDiscriminator(DiscriminatorSpec(ndf=8, attention_resolutions=(side,)), 1, 32)
    sides: list[int] = []
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, SelfAttention):
                layer.register_forward_hook(lambda layer, inputs, output: sides.append(output.shape[-1]))
    discriminator(generator(torch.randn(2, NZ)))
    assert sides == [side, side]


@pytest.mark.parametrize("norm", Norm)
def test_convolutions_have_biases_only_without_a_norm(norm: Norm) -> None:
    """Without them no map could shift; under a norm they would be taken out again."""
    networks = (
        DCGANGenerator(GeneratorSpec(ngf=8, norm=norm), 1, 32),
        DCGANDiscriminator(DiscriminatorSpec(ndf=8, norm=norm), 1, 32),
    )
    biases = [
        layer.bias is not None
        for network in networks
        for layer in network.main
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert len(biases) == 8
    assert set(biases) == {norm is Norm.NONE}


def test_images_are_in_the_range_asked_for() -> None:
    """[0, 1] ends in a sigmoid, whose images are those of tanh at half the input, moved."""
    torch.manual_seed(0)
    centred = DCGANGenerator(GENERATOR, 1, 32)
    positive = DCGANGenerator(GENERATOR, 1, 32, low=0)
    positive.load_state_dict(centred.state_dict(), strict=True)
    latents = 100 * torch.randn(4, NZ)
    before = centred.main[:-1](latents[..., None, None])
    assert torch.equal(positive(latents), torch.sigmoid(before))
    assert torch.equal(centred(latents), torch.tanh(before))


@pytest.mark.parametrize("norm", Norm)
def test_a_label_changes_what_both_networks_make_of_an_input(norm: Norm) -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(GeneratorSpec(nz=NZ, ngf=8, norm=norm), 1, 32, classes=3).eval()
    discriminator = DCGANDiscriminator(DiscriminatorSpec(ndf=8, norm=norm), 1, 32, classes=3).eval()
    generator.apply(INITS[Init.NORMAL])
    latents, labels = torch.randn(1, NZ).expand(3, NZ), torch.tensor([0, 1, 2])
    images = generator(latents, labels)
    assert images.shape == (3, 1, 32, 32)
    assert not torch.allclose(images[0], images[1], atol=1e-6)
    scores = discriminator(images[:1].expand(3, -1, -1, -1), labels)
    assert len(set(scores.tolist())) == 3
    with pytest.raises(ValueError, match="needs a label for each image"):
        generator(latents)
    with pytest.raises(ValueError, match="needs a label for each image"):
        discriminator(images)


def test_the_projection_is_of_the_last_hidden_map() -> None:
    """And the sigmoid is of the whole score, not of its part without labels."""
    torch.manual_seed(0)
    sigmoid = SIGMOID.model_copy(update={"norm": Norm.INSTANCE})
    discriminator = DCGANDiscriminator(sigmoid, 1, 32, classes=3)
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 2, 1, 0])
    features = discriminator.main[:-1](images)
    score = discriminator.main[-1](features).flatten() + discriminator.projection(features, labels)
    assert torch.equal(discriminator(images, labels), torch.sigmoid(score))


def test_networks_without_labels_leave_them_alone() -> None:
    """One training loop hands labels to every network."""
    generator, discriminator = DCGANGenerator(GENERATOR, 1, 32), DCGANDiscriminator(LOGITS, 1, 32)
    latents, labels = torch.randn(4, NZ), torch.zeros(4, dtype=torch.long)
    assert torch.equal(generator(latents, labels), generator(latents))
    images = torch.randn(4, 1, 32, 32)
    assert torch.equal(discriminator(images, labels), discriminator(images))

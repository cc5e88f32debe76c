"""What the parts of the networks do: norms, activations, initial weights, dropout, attention, labels."""

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks import build_networks, discriminator, factory, generator, spectral, unet
from models.networks.initialisation import INITS, fan_in
from models.networks.layers import ACTIVATIONS, NORMS
from models.presets import plan
from models.spec import BUILTIN_DATASETS
from models.spec.diffusion import UnetSpec
from models.spec.layers import Activation, Init, Norm
from tests.models.techniques import Technique, row

UNET = {"channels": 8, "multipliers": [1, 2]}
DIT = {"kind": "dit", "width": 16, "depth": 1, "heads": 2}


def _gan(
    generator: dict[str, Any] | None = None, discriminator: dict[str, Any] | None = None, **changes: Any
) -> dict[str, nn.Module]:
    """Small networks of a GAN, of 16 px."""
    return _built(
        {
            "family": "gan",
            "generator": {"ngf": 8, "nz": 8, **(generator or {})},
            "discriminator": {"ndf": 8, **(discriminator or {})},
            **changes,
        }
    )


def _denoiser(network: dict[str, Any], **changes: Any) -> nn.Module:
    """A small denoiser for 16 px, with every weight as if training had moved it."""
    denoiser = _built({"family": "diffusion", "network": network, **changes})["network"]
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.1)
    return denoiser


def _built(raw: dict[str, Any]) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return build_networks(plan(raw, BUILTIN_DATASETS.get).spec)


def _maps() -> Tensor:
    torch.manual_seed(0)
    return 3 + 2 * torch.randn(5, 8, 4, 6)


def normalises(norm: Norm, shape: tuple[int, ...], dimensions: tuple[int, ...]) -> None:
    """Mean 0 and variance 1 over `dimensions`, and not over every smaller part of the maps."""
    normalised = NORMS[norm](8, 4)(_maps()).detach().reshape(shape)
    assert normalised.mean(dimensions).abs().max() < 1e-5
    assert (normalised.var(dimensions, unbiased=False) - 1).abs().max() < 1e-3
    assert normalised.mean(dimensions[-1]).abs().max() > 0.01


def normalises_nothing() -> None:
    """And the convolutions shift their maps themselves."""
    assert torch.equal(NORMS[Norm.NONE](8, 4)(_maps()), _maps())
    network = _gan({"norm": "none"})["generator"]
    assert network.main[0].bias is not None


def activates(activation: Activation, expected: list[float]) -> None:
    values = ACTIVATIONS[activation]()(torch.tensor([-2.0, 3.0]))
    assert values.tolist() == pytest.approx(expected)


def _initial_weights(init: Init) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(32, 64, 4, 2, 1), nn.ConvTranspose2d(64, 32, 4, 2, 1)]
    torch.manual_seed(0)
    for layer in layers:
        layer.apply(INITS[init])
    return layers


def draws_dcgans_normal() -> None:
    for layer in _initial_weights(Init.NORMAL):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()


def keeps_the_scale_of_a_signal() -> None:
    for layer in _initial_weights(Init.KAIMING):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in(layer)), rel=0.05)


def is_uniform_within_glorots_bound() -> None:
    for layer in _initial_weights(Init.XAVIER):
        bound = math.sqrt(6 / ((32 + 64) * 16))
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)


def is_orthogonal() -> None:
    for layer in _initial_weights(Init.ORTHOGONAL):
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        assert (values - 1).abs().max() < 1e-4


def drops(network: nn.Module, *inputs: Tensor) -> None:
    """Two passes differ in training and are equal afterwards."""
    network.eval()
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    assert not torch.allclose(network(*inputs), network(*inputs), atol=1e-6)


def drops_in_the_generator() -> None:
    drops(_gan({"dropout": 0.5})["generator"], torch.randn(8, 8))


def drops_in_the_discriminator() -> None:
    drops(_gan(discriminator={"dropout": 0.5})["discriminator"], torch.randn(8, 1, 16, 16))


def drops_in_the_denoiser(network: dict[str, Any]) -> None:
    drops(_denoiser({**network, "dropout": 0.5}), torch.randn(2, 1, 16, 16), torch.tensor(5))


def without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "Dropout", lambda probability: nn.Identity())


def sees_afar(layers: nn.Sequential, maps: Tensor) -> None:
    """The first pixel depends on the last, which the layers' convolutions alone cannot reach."""
    for name, parameter in layers.eval().named_parameters():
        if name.endswith("gamma"):
            nn.init.ones_(parameter)
    maps.requires_grad_()
    layers(maps)[:, :, 0, 0].sum().backward()
    assert maps.grad is not None
    assert maps.grad[:, :, -1, -1].any()


def sees_afar_in_the_generator() -> None:
    network = _gan({"attention_resolutions": [8]})["generator"]
    sees_afar(network.main[3:7], torch.randn(2, 16, 4, 4).relu())


def sees_afar_in_the_discriminator() -> None:
    network = _gan(discriminator={"attention_resolutions": [8]})["discriminator"]
    sees_afar(network.main[:3], torch.randn(2, 1, 16, 16))


def attends_in_the_unet() -> None:
    network = _denoiser({**UNET, "attention_resolutions": [8]})
    network(torch.randn(2, 1, 16, 16), torch.tensor(5)).square().sum().backward()
    gradients = [weight.grad for name, weight in network.named_parameters() if "to_v.weight" in name]
    assert gradients
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def attends_in_the_transformer() -> None:
    """The prediction for the first patch depends on the last patch."""
    images = torch.randn(1, 1, 16, 16, requires_grad=True)
    _denoiser(DIT)(images, torch.tensor(5))[:, :, 0, 0].sum().backward()
    assert images.grad is not None
    assert images.grad[:, :, -1, -1].any()


def without_attention_in_the_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    original = unet.unet_config

    def plain(network: UnetSpec, **shape: Any) -> dict[str, Any]:
        return original(network.model_copy(update={"attention_resolutions": ()}), **shape)

    monkeypatch.setattr(unet, "unet_config", plain)


def bounds_every_weight(name: str) -> None:
    """Also after the weights have moved: each largest singular value goes back to 1."""
    network = spectral.add_spectral_norm(_gan()[name])
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    for _ in range(60):
        spectral.iterate_spectral_norms(network)
    for layer in network.main:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            matrix = layer.weight.detach().movedim(outputs, 0).flatten(1)
            assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1, abs=0.02)


def heeds_labels(network: nn.Module, *inputs: Tensor) -> None:
    """The same input under two labels gives two outputs."""
    torch.manual_seed(0)
    first, second = network.eval()(*inputs, torch.tensor([0, 1]))
    assert not torch.allclose(first, second, atol=1e-6)


def heeds_labels_in_the_generator(norm: Norm) -> None:
    heeds_labels(_gan({"norm": norm}, conditional={})["generator"], torch.ones(2, 8))


def heeds_labels_in_the_discriminator() -> None:
    heeds_labels(_gan(conditional={})["discriminator"], torch.ones(2, 1, 16, 16))


def heeds_labels_in_the_denoiser(network: dict[str, Any]) -> None:
    heeds_labels(_denoiser(network, conditional={}), torch.ones(2, 1, 16, 16), torch.tensor(5))


def ends_in_a_sigmoid() -> None:
    """A new network's images are around the middle of [0, 1], and not around 0 as those of tanh."""
    images = _gan(data={"range": [0, 1]})["generator"](torch.randn(8, 8))
    assert images.min() >= 0
    assert images.mean().item() == pytest.approx(0.5, abs=0.05)
    assert images.std() > 0


def _without_norm(width: int, groups: int) -> nn.Module:
    return nn.Identity()


def _torchs_default(layer: nn.Module) -> None:
    """Leaves the weights that the layer was made with."""


TECHNIQUES = [
    row(NORMS, Norm.BATCH, _without_norm, partial(normalises, Norm.BATCH, (5, 8, 4, 6), (0, 2, 3))),
    row(NORMS, Norm.INSTANCE, _without_norm, partial(normalises, Norm.INSTANCE, (5, 8, 4, 6), (2, 3))),
    row(NORMS, Norm.GROUP, _without_norm, partial(normalises, Norm.GROUP, (5, 4, 2, 4, 6), (2, 3, 4))),
    row(NORMS, Norm.NONE, NORMS[Norm.BATCH], normalises_nothing),
    row(
        ACTIVATIONS,
        Activation.LEAKY_RELU,
        nn.Identity,
        partial(activates, Activation.LEAKY_RELU, [-0.4, 3.0]),
    ),
    row(ACTIVATIONS, Activation.RELU, nn.Identity, partial(activates, Activation.RELU, [0.0, 3.0])),
    row(
        ACTIVATIONS,
        Activation.SILU,
        nn.Identity,
        partial(activates, Activation.SILU, [-2 / (1 + math.e**2), 3 / (1 + math.e**-3)]),
    ),
    row(INITS, Init.NORMAL, _torchs_default, draws_dcgans_normal),
    row(INITS, Init.KAIMING, _torchs_default, keeps_the_scale_of_a_signal),
    row(INITS, Init.XAVIER, _torchs_default, is_uniform_within_glorots_bound),
    row(INITS, Init.ORTHOGONAL, _torchs_default, is_orthogonal),
    Technique("generator.dropout", without_dropout, drops_in_the_generator),
    Technique("discriminator.dropout", without_dropout, drops_in_the_discriminator),
    Technique("network.dropout of unet", without_dropout, partial(drops_in_the_denoiser, UNET)),
    Technique("network.dropout of dit", without_dropout, partial(drops_in_the_denoiser, DIT)),
    Technique(
        "generator.attention_resolutions",
        lambda patch: patch.setattr(generator, "SelfAttention", lambda width: nn.Identity()),
        sees_afar_in_the_generator,
    ),
    Technique(
        "discriminator.attention_resolutions",
        lambda patch: patch.setattr(discriminator, "SelfAttention", lambda width: nn.Identity()),
        sees_afar_in_the_discriminator,
    ),
    Technique("network.attention_resolutions", without_attention_in_the_unet, attends_in_the_unet),
    Technique(
        "network.kind dit",
        lambda patch: patch.setattr(F, "scaled_dot_product_attention", lambda query, key, value: value),
        attends_in_the_transformer,
    ),
    *(
        Technique(
            f"{name}.spectral_norm",
            lambda patch: patch.setattr(spectral, "add_spectral_norm", lambda network: network),
            partial(bounds_every_weight, name),
        )
        for name in ("generator", "discriminator")
    ),
    *(
        Technique(
            f"conditional {name}", lambda patch: patch.setattr(factory, "_classes", lambda spec: None), check
        )
        for name, check in {
            "generator with BatchNorm": partial(heeds_labels_in_the_generator, Norm.BATCH),
            "generator without a norm": partial(heeds_labels_in_the_generator, Norm.NONE),
            "discriminator": heeds_labels_in_the_discriminator,
            "unet": partial(heeds_labels_in_the_denoiser, UNET),
            "dit": partial(heeds_labels_in_the_denoiser, DIT),
        }.items()
    ),
    Technique("data.range", lambda patch: patch.setattr(nn, "Sigmoid", nn.Tanh), ends_in_a_sigmoid),
]

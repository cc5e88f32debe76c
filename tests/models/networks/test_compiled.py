"""torch.compile translates the networks and changes neither names nor numbers."""

import copy
import shutil
from typing import Any

import pytest
import torch
from torch import nn

from models.networks import build_networks, compile_networks
from models.networks.spectral import add_spectral_norm, iterate_spectral_norms, plain_state_dict
from models.presets import plan
from models.spec import BUILTIN_DATASETS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # compiling takes minutes on a busy machine
    pytest.mark.filterwarnings("ignore"),  # torch's compiler warns of what it does itself
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler"),
]

SPECS: dict[str, dict[str, Any]] = {
    "gan": {
        "family": "gan",
        "generator": {"ngf": 8, "attention_resolutions": [8]},
        "discriminator": {"ndf": 8, "norm": "instance"},
        "conditional": {},
    },
    "unet": {"family": "diffusion", "network": {"channels": 8, "multipliers": [1]}},
    "dit": {"family": "diffusion", "network": {"kind": "dit", "width": 32, "depth": 1}, "conditional": {}},
}


def _inputs(name: str) -> tuple[torch.Tensor, ...]:
    labels, images = torch.tensor([0, 3, 9]), torch.randn(3, 1, 16, 16)
    if name == "generator":
        return torch.randn(3, 100), labels
    return (images, labels) if name == "discriminator" else (images, torch.tensor([3, 500, 999]), labels)


@pytest.mark.parametrize("kind", SPECS)
def test_compiled_networks_give_the_same_outputs_and_gradients(kind: str) -> None:
    torch.manual_seed(0)
    plain = build_networks(plan(SPECS[kind], BUILTIN_DATASETS.get).spec)
    for network in plain.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    compiled = copy.deepcopy(plain)
    compile_networks(compiled)
    for name, network in plain.items():
        inputs = _inputs(name)
        expected, made = network(*inputs), compiled[name](*inputs)
        assert torch.allclose(made, expected, atol=1e-5)
        expected.square().mean().backward()
        made.square().mean().backward()
        assert compiled[name].state_dict().keys() == network.state_dict().keys()
        pairs = zip(compiled[name].parameters(), network.parameters(), strict=True)
        assert all(torch.allclose(one.grad, other.grad, atol=1e-4) for one, other in pairs)


def test_a_compiled_network_follows_its_spectral_norm() -> None:
    """A weight or an estimate frozen into the translation would train another network."""
    torch.manual_seed(0)
    network = build_networks(plan(SPECS["gan"], BUILTIN_DATASETS.get).spec)["discriminator"]
    plain = add_spectral_norm(network)
    compiled = copy.deepcopy(plain)
    compile_networks({"discriminator": compiled})
    images, labels = _inputs("discriminator")
    for _ in range(2):
        assert torch.allclose(compiled(images, labels), plain(images, labels), atol=1e-5)
        with torch.no_grad():
            for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
                other.copy_(one.normal_(std=0.1))
        iterate_spectral_norms(plain)
        iterate_spectral_norms(compiled)
    assert plain_state_dict(compiled).keys() == plain_state_dict(plain).keys()


def test_an_average_of_a_compiled_network_is_a_plain_copy() -> None:
    network = build_networks(plan(SPECS["gan"], BUILTIN_DATASETS.get).spec)["generator"].eval()
    inputs = _inputs("generator")
    expected = network(*inputs)
    compile_networks({"generator": network})
    network(*inputs)
    assert torch.equal(copy.deepcopy(network)(*inputs), expected)

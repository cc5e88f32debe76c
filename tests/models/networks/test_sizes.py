"""What networks weigh and training takes, told without taking it."""

from typing import Any

import pytest
import torch
from torch import nn

from models.networks import build_networks, count_parameters, training_memory_bytes
from models.networks.sizes import OPTIMIZER_TENSORS, saved_bytes
from models.presets import plan
from models.spec import BUILTIN_DATASETS
from models.training.optimizer import build_optimizer
from tests.models.networks.specs import SPECS, spec_of


@pytest.mark.parametrize("name", SPECS)
def test_counts_are_those_of_the_real_networks(name: str) -> None:
    real = build_networks(spec_of(name))
    assert count_parameters(spec_of(name)) == {
        key: sum(parameter.numel() for parameter in network.parameters()) for key, network in real.items()
    }


@pytest.mark.parametrize("name", SPECS)
def test_asking_for_sizes_draws_nothing(name: str) -> None:
    """A dry run in a training process must not change the training."""
    before = torch.get_rng_state()
    count_parameters(spec_of(name))
    training_memory_bytes(spec_of(name))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["ddpm", "ddpm with attention", "a conditional transformer"])
def test_activation_bytes_on_meta_are_those_really_kept(name: str) -> None:
    """Attention included: on meta torch would keep its weights, which no device does."""

    def kept(device: str) -> int:
        with torch.device(device):
            networks = build_networks(spec_of(name))
            images, times = torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.long)
        return saved_bytes(networks, lambda: networks["network"](images, times, times))

    assert kept("meta") == pytest.approx(kept("cpu"), rel=0.05)


def test_memory_grows_with_the_batch_and_falls_with_accumulation() -> None:
    def size(**changes: object) -> int:
        return training_memory_bytes(plan({**SPECS["ddpm"], **changes}, BUILTIN_DATASETS.get).spec)

    assert size(batch_size=128) > 1.8 * size(batch_size=64)
    assert size(batch_size=128, accumulation=2) == size(batch_size=64)


@pytest.mark.parametrize(
    ("optimizer", "tensors"),
    [
        ({"kind": "adam"}, 2),
        ({"kind": "adamw"}, 2),
        ({"kind": "rmsprop"}, 1),
        ({"kind": "rmsprop", "momentum": 0.9}, 2),
        ({"kind": "sgd"}, 0),
        ({"kind": "sgd", "momentum": 0.9}, 1),
    ],
)
def test_an_optimizer_takes_what_it_keeps(optimizer: dict[str, Any], tensors: int) -> None:
    """Compared with what torch's own optimizer holds of one weight after a step."""
    spec = plan({"family": "gan", "optimizer": optimizer}, BUILTIN_DATASETS.get).spec
    weight = nn.Linear(64, 64, bias=False)
    made = build_optimizer(weight, spec.optimizer)
    weight(torch.ones(1, 64)).sum().backward()
    made.step()
    kept = sum(value.numel() for value in made.state[weight.weight].values() if value is not None)
    assert round(kept / weight.weight.numel()) == tensors
    assert OPTIMIZER_TENSORS[spec.optimizer.kind] + bool(spec.optimizer.momentum) == tensors


def test_each_network_counts_its_own_optimizer() -> None:
    def size(**optimizers: object) -> int:
        raw = {"family": "gan", "optimizer": {"kind": "adam"}, "optimizers": optimizers}
        return training_memory_bytes(plan(raw, BUILTIN_DATASETS.get).spec)

    count = count_parameters(plan({"family": "gan"}, BUILTIN_DATASETS.get).spec)
    assert size() - size(discriminator={"kind": "rmsprop"}) == 4 * count["discriminator"]
    assert size() - size(generator={"kind": "sgd"}) == 8 * count["generator"]


def test_a_penalty_takes_the_memory_of_its_second_derivatives() -> None:
    def size(*penalties: dict[str, Any]) -> int:
        raw = {
            "family": "gan",
            "batch_size": 1024,
            "discriminator": {"norm": "none"},
            "penalties": penalties,
        }
        return training_memory_bytes(plan(raw, BUILTIN_DATASETS.get).spec)

    assert size({"kind": "r1"}) > 1.2 * size()
    assert size({"kind": "r1"}, {"kind": "r2"}) > 1.2 * size({"kind": "r1"})
    assert size({"kind": "r1", "every": 16}) < size({"kind": "r1"})

"""A run starts from another's weights, and from nothing else of it."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from models import checkpoints
from models.data import PackedDataset
from models.networks import build_networks
from models.spec import JobSpec
from models.spec.starting import misfits
from models.tensor_files import CheckpointError
from models.training import Saved, train
from models.training.entry import build_recipe
from tests.models.training.specs import SMALL, small

SPECTRAL = {**SMALL["dcgan"]["discriminator"], "norm": "none", "spectral_norm": True}


def checkpoint_of(spec: JobSpec, dataset: PackedDataset, out: Path) -> Path:
    saved = [event for event in train(spec, dataset, out) if isinstance(event, Saved)][-1]
    return out / saved.path


@pytest.mark.parametrize(
    ("preset", "overrides", "apart"),
    [
        ("dcgan", {}, 0.0),
        # The largest singular values, all about 1, are estimated anew from another vector.
        ("dcgan", {"discriminator": SPECTRAL}, 0.1),
        ("dcgan-vanilla", {}, 0.0),
        ("ddpm", {}, 0.0),
    ],
)
def test_training_starts_from_the_weights_of_the_checkpoint(
    preset: str, overrides: dict[str, Any], apart: float, digits: PackedDataset, tmp_path: Path
) -> None:
    """Breaks when a fine-tuning starts from random weights: it would look like training, and lose days."""
    first = checkpoint_of(small(preset, evaluation=None, **overrides), digits, tmp_path / "first")
    spec = small(preset, seed=9, evaluation=None, init_from=str(first), **overrides)
    recipe = build_recipe(spec, torch.device("cpu"), init=first)
    again = checkpoints.save(
        tmp_path / "again", spec=spec, step=0, images=0, networks=recipe.networks, averaged=None
    )
    stored, started = (safetensors.torch.load_file(path) for path in (first, again.path))
    assert started
    for name, tensor in started.items():
        torch.testing.assert_close(tensor, stored[name], rtol=apart, atol=0, msg=name)
    random = build_recipe(spec, torch.device("cpu"))
    (name, network), *_ = random.networks.items()
    assert not torch.equal(next(network.parameters()), next(recipe.networks[name].parameters()))
    assert list(train(spec, digits, tmp_path / "second", init=first))


def test_without_the_file_it_does_not_start(digits: PackedDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ckpt_1 is needed"):
        list(train(small("dcgan", init_from="ckpt_1"), digits, tmp_path))


def test_weights_of_other_networks_are_refused(digits: PackedDataset, tmp_path: Path) -> None:
    first = checkpoint_of(small("dcgan", evaluation=None), digits, tmp_path)
    wider = small("dcgan", generator={"ngf": 8, "nz": 8})
    with pytest.raises(CheckpointError, match=r"generator\.main"):
        checkpoints.load_weights(first, build_networks(wider))


@pytest.mark.parametrize(
    ("overrides", "paths"),
    [
        ({}, []),
        ({"seed": 8, "optimizer": {"learning_rate": 1e-5}, "budget": {"steps": 99}}, []),
        ({"generator": {"ngf": 4, "nz": 8, "init": "kaiming", "dropout": 0.5}}, []),
        ({"generator": {"ngf": 8, "nz": 8}}, ["generator.ngf"]),
        ({"discriminator": {"ndf": 4, "norm": "none"}}, ["discriminator.norm"]),
        ({"data": {"resolution": 32}}, ["data.resolution"]),
        ({"data": {"range": [0, 1]}}, ["data.range"]),
        ({"conditional": {}}, ["conditional.classes"]),
    ],
)
def test_what_would_build_other_networks_is_named(overrides: dict[str, Any], paths: list[str]) -> None:
    assert [error.path for error in misfits(small("dcgan", **overrides), small("dcgan"))] == paths


def test_another_family_is_named() -> None:
    (error,) = misfits(small("ddpm"), small("dcgan"))
    assert error.path == "init_from"

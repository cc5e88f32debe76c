"""What the UNet has beside diffusers' own network: labels, times of any kind, dropout in training."""

from typing import Any

import pytest
import torch

from models.networks.unet import Denoiser, unet_config
from models.spec.diffusion import UnetSpec


def _network(*, classes: int | None = None, **fields: Any) -> Denoiser:
    torch.manual_seed(0)
    spec = UnetSpec(channels=8, multipliers=(1, 2), norm_groups=4, **fields)
    return Denoiser(**unet_config(spec, channels=1, resolution=16, classes=classes)).eval()


def test_labels_have_one_row_more_for_no_label() -> None:
    network, images = _network(classes=3), torch.randn(1, 1, 16, 16).expand(4, -1, -1, -1)
    assert network.class_embedding.weight.shape[0] == 4
    predictions = network(images, torch.tensor(5), torch.arange(4))
    assert len({float(prediction.detach().sum()) for prediction in predictions}) == 4
    with pytest.raises(ValueError, match="needs a label for each image"):
        network(images, torch.tensor(5))


def test_a_network_without_labels_leaves_them_alone() -> None:
    network, images = _network(), torch.randn(4, 1, 16, 16)
    assert torch.equal(network(images, torch.tensor(5), torch.arange(4)), network(images, torch.tensor(5)))


def test_times_may_be_floats() -> None:
    """Of EDM and flow: cut down to integers, most of EDM's noise levels would be one."""
    network, images = _network(), torch.randn(2, 1, 16, 16)
    assert torch.equal(network(images, torch.tensor(7.0)), network(images, torch.tensor(7)))
    assert not torch.equal(network(images, torch.tensor(0.25)), network(images, torch.tensor(0.0)))


def test_dropout_acts_in_training_only() -> None:
    network, images, time = _network(dropout=0.5), torch.randn(2, 1, 16, 16), torch.tensor(5)
    assert torch.equal(network(images, time), network(images, time))
    network.train()
    assert not torch.allclose(network(images, time), network(images, time))

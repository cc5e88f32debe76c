"""The averaged weights against the closed form."""

import pytest
import torch
from torch import nn

from models.spec.training import EmaSpec
from models.training.ema import Ema


def follow(half_life: int, ramp: float, images: int, batch: int) -> float:
    """The average after the weight jumped from 0 to 1 and `images` images were shown."""
    source = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(source.weight)
    ema = Ema(source, EmaSpec(half_life_images=half_life, ramp=ramp))
    nn.init.ones_(source.weight)
    for seen in range(batch, images + 1, batch):
        ema.update(seen, batch)
    return ema.network.weight.item()


def test_a_weight_counts_half_after_the_half_life() -> None:
    assert follow(half_life=640, ramp=1.0, images=640, batch=640) == pytest.approx(0.5)
    # With ramp 1 the half-life is the images shown so far, until those are 640: a product of decays.
    decays = [0.5 ** (64 / min(640, seen)) for seen in range(64, 1281, 64)]
    expected = 1 - torch.tensor(decays).prod().item()
    assert follow(half_life=640, ramp=1.0, images=1280, batch=64) == pytest.approx(expected, rel=1e-5)


def test_the_ramp_forgets_the_start() -> None:
    """Early weights are noise: with a ramp the average follows at once, without it would lag behind."""
    assert follow(half_life=10**6, ramp=0.05, images=1280, batch=64) > 0.99
    assert follow(half_life=10**6, ramp=1.0, images=1280, batch=1280) == pytest.approx(0.5)


def test_buffers_are_copied_and_weights_averaged() -> None:
    """Averaged BatchNorm weights with stale statistics sample noise."""
    source = nn.BatchNorm1d(2)
    ema = Ema(source, EmaSpec(half_life_images=1000, ramp=1.0))
    source.running_mean.fill_(7.0)
    source.num_batches_tracked.fill_(3)
    source.weight.data.fill_(5.0)
    ema.update(10**6, 100)
    assert ema.network.running_mean.tolist() == [7.0, 7.0]
    assert ema.network.num_batches_tracked.item() == 3
    assert 1.0 < ema.network.weight[0].item() < 2.0
    assert not any(weights.requires_grad for weights in ema.network.parameters())

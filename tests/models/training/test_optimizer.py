"""Optimizers and schedules against torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind, ScheduleSpec
from models.training.optimizer import DECAYS, OPTIMIZERS, LearningRate, build_optimizer

STEPS, WARMUP, RATE = 50, 10, 3e-3
DECAYING = STEPS - WARMUP
SCHEDULES: dict[ScheduleKind, dict[str, Any]] = {
    ScheduleKind.CONSTANT: {},
    ScheduleKind.STEP: {"gamma": 0.3, "step_size": 7},
    ScheduleKind.EXPONENTIAL: {"gamma": 0.93},
    ScheduleKind.LINEAR: {},
    ScheduleKind.COSINE: {},
}
REFERENCES: dict[ScheduleKind, Callable[[optim.Optimizer], optim.lr_scheduler.LRScheduler]] = {
    ScheduleKind.CONSTANT: lambda o: optim.lr_scheduler.ConstantLR(o, factor=1.0, total_iters=0),
    ScheduleKind.STEP: lambda o: optim.lr_scheduler.StepLR(o, step_size=7, gamma=0.3),
    ScheduleKind.EXPONENTIAL: lambda o: optim.lr_scheduler.ExponentialLR(o, gamma=0.93),
    ScheduleKind.LINEAR: lambda o: optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=DECAYING),
    ScheduleKind.COSINE: lambda o: optim.lr_scheduler.CosineAnnealingLR(o, T_max=DECAYING),
}


def rates(kind: ScheduleKind, warmup: int) -> list[float]:
    schedule = ScheduleSpec(kind=kind, warmup_steps=warmup, **SCHEDULES[kind])
    rate = LearningRate(OptimizerSpec(learning_rate=RATE, schedule=schedule), STEPS)
    return [rate.at(step) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("kind", ScheduleKind)
def test_any_decay_after_a_warmup_is_torchs(kind: ScheduleKind) -> None:
    """The rate rises linearly to the peak, from which torch's scheduler takes it down."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = REFERENCES[kind](optimizer)
    expected = [RATE * step / WARMUP for step in range(1, WARMUP + 1)]
    for _ in range(DECAYING):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(kind, WARMUP) == pytest.approx(expected, rel=1e-9)
    assert rates(kind, 0)[0] == RATE


@pytest.mark.parametrize("kind", [kind for kind in ScheduleKind if kind is not ScheduleKind.CONSTANT])
def test_a_decay_ends_low(kind: ScheduleKind) -> None:
    """A schedule that does nothing would end at the peak."""
    assert 0 <= rates(kind, WARMUP)[-1] < 0.1 * RATE


def test_every_kind_has_a_row() -> None:
    assert set(DECAYS) == set(ScheduleKind)
    assert set(OPTIMIZERS) == set(OptimizerKind)


def test_lazy_updates_are_made_up_for() -> None:
    """Rate and betas of D with a penalty every 16 steps (Karras et al. 2020, StyleGAN2, appendix B)."""
    spec = OptimizerSpec(learning_rate=RATE, betas=(0.5, 0.99))
    rescaling = 16 / 17
    (group,) = build_optimizer(nn.Linear(1, 1), spec, rescaling=rescaling).param_groups
    assert group["betas"] == pytest.approx((0.5**rescaling, 0.99**rescaling))
    assert LearningRate(spec, STEPS, rescaling).at(1) == pytest.approx(RATE * rescaling)


ADAMS: dict[str, Any] = {"betas": (0.4, 0.95), "eps": 1e-3, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("kind", "reference", "settings"),
    [
        ("adam", optim.Adam, ADAMS),
        ("adamw", optim.AdamW, ADAMS),
        ("rmsprop", optim.RMSprop, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.7}),
        ("rmsprop", optim.RMSprop, {"alpha": 0.99}),
        ("sgd", optim.SGD, {"momentum": 0.7, "weight_decay": 0.1}),
        ("sgd", optim.SGD, {}),
    ],
)
def test_updates_are_torchs(kind: str, reference: type[optim.Optimizer], settings: dict[str, Any]) -> None:
    """Every field of the spec reaches the update: five steps equal torch's plain implementation."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    plain = {"foreach": False} | ({} if kind == "rmsprop" else {"fused": False})
    spec = OptimizerSpec(kind=OptimizerKind(kind), learning_rate=0.05, **settings)
    pairs = [
        (ours, build_optimizer(ours, spec)),
        (theirs, reference(theirs.parameters(), lr=0.05, **plain, **settings)),
    ]
    first = ours.weight.detach().clone()
    for step in range(5):
        images = torch.full((2, 4), float(step + 1) / 10)
        for network, optimizer in pairs:
            network(images).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)
    assert (ours.weight - first).abs().max() > 0.01

"""Optimizers and schedules against torch's own."""

import pytest
import torch
from torch import nn, optim

from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind, ScheduleSpec
from models.training.optimizer import DECAYS, LearningRate, build_optimizer

STEPS, WARMUP, RATE = 50, 10, 3e-3
REFERENCES = {
    ScheduleKind.CONSTANT: lambda o: optim.lr_scheduler.ConstantLR(o, factor=1.0, total_iters=0),
    ScheduleKind.LINEAR: lambda o: optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS - WARMUP),
    ScheduleKind.COSINE: lambda o: optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS - WARMUP),
}


def rates(kind: ScheduleKind, warmup: int) -> list[float]:
    spec = OptimizerSpec(learning_rate=RATE, schedule=ScheduleSpec(kind=kind, warmup_steps=warmup))
    return [LearningRate(spec, STEPS).at(step) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("kind", ScheduleKind)
def test_decay_is_torchs(kind: ScheduleKind) -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = REFERENCES[kind](optimizer)
    expected = []
    for _ in range(STEPS - WARMUP):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(kind, WARMUP)[WARMUP:] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ScheduleKind)
def test_warmup_rises_linearly_to_the_peak(kind: ScheduleKind) -> None:
    rising = rates(kind, WARMUP)[:WARMUP]
    assert rising == pytest.approx([RATE * step / WARMUP for step in range(1, WARMUP + 1)])
    assert rates(kind, 0)[0] == RATE


@pytest.mark.parametrize("kind", [ScheduleKind.LINEAR, ScheduleKind.COSINE])
def test_decay_ends_near_zero(kind: ScheduleKind) -> None:
    """A schedule that does nothing would end at the peak."""
    assert 0 <= rates(kind, WARMUP)[-1] < 0.05 * RATE
    assert set(DECAYS) == set(ScheduleKind)


@pytest.mark.parametrize(("kind", "reference"), [("adam", optim.Adam), ("adamw", optim.AdamW)])
def test_updates_are_torchs(kind: str, reference: type[optim.Optimizer]) -> None:
    """Every field of the spec reaches the update: five steps equal torch's plain implementation."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    settings = {"betas": (0.4, 0.95), "eps": 1e-3, "weight_decay": 0.1}
    spec = OptimizerSpec(kind=OptimizerKind(kind), learning_rate=0.05, **settings)
    pairs = [
        (ours, build_optimizer(ours, spec)),
        (theirs, reference(theirs.parameters(), lr=0.05, foreach=False, fused=False, **settings)),
    ]
    for step in range(5):
        images = torch.full((2, 4), float(step + 1))
        for network, optimizer in pairs:
            network(images).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)

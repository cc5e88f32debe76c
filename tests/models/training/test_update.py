"""One training step on a linear layer: every number can be computed by hand."""

import psutil
import pytest
import torch
from torch import Tensor, nn

from models.spec.optimizer import OptimizerSpec
from models.spec.training import EmaSpec
from models.training.ema import Ema
from models.training.memory import memory
from models.training.recipe import Batch, Losses
from tests.models.training.steps import ROWS, layer, made_step, phase, recipe

SGD = OptimizerSpec(kind="sgd", learning_rate=1.0)


def squares(network: nn.Module, scale: float = 1.0) -> object:
    """The mean of (scale · y)²."""
    return lambda part, step: {"loss/square": (scale * network(part["x"])).square().mean()}


@pytest.mark.parametrize("accumulation", [1, 2, 3, 12])
def test_parts_share_out_the_rows_in_order_and_lose_none(accumulation: int) -> None:
    """The lecture's loop forgets the last group; here each part has the same rows of every tensor."""
    seen: list[Tensor] = []
    network = layer()

    def loss(part: Batch, step: int) -> Losses:
        assert torch.equal(part["x"].flatten() * ROWS, part["rows"].float())
        seen.append(part["rows"])
        return {"loss/mean": network(part["x"]).mean()}

    made_step(recipe(phase(network, loss)), accumulation=accumulation)
    assert [len(rows) for rows in seen] == [ROWS // accumulation] * accumulation
    assert torch.equal(torch.cat(seen), torch.arange(ROWS))
    assert 1 - network.weight.item() == pytest.approx(sum(range(ROWS)) / ROWS / ROWS)


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_parts_make_the_update_and_the_loss_of_the_whole_batch(accumulation: int) -> None:
    whole, parts = layer(2.0), layer(2.0)
    expected = made_step(recipe(phase(whole, squares(whole))))
    metrics = made_step(recipe(phase(parts, squares(parts))), accumulation=accumulation)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-6, atol=0)
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_before_and_after_run_once_an_update_and_the_step_is_told() -> None:
    told: list[str] = []
    network = layer()

    def loss(part: Batch, step: int) -> Losses:
        told.append(f"part of step {step}")
        return {"loss/mean": network(part["x"]).mean()}

    hooks = {
        "before": lambda: told.append(f"before, {network.weight.item():.0f}"),
        "after": lambda: told.append(f"after, {network.weight.item():.2f}"),
    }
    made_step(recipe(phase(network, loss, **hooks)), step=4, accumulation=2)
    moved = 1 - sum(range(ROWS)) / ROWS / ROWS
    assert told == ["before, 1", "part of step 4", "part of step 4", f"after, {moved:.2f}"]


def test_phases_may_share_an_optimizer() -> None:
    """Its moments go on from one phase to the next, and no gradient is left over."""
    network = layer()
    momentum = OptimizerSpec(kind="sgd", learning_rate=1.0, momentum=0.5)
    first = phase(network, lambda part, step: {"loss/a": 3 * network.weight.sum()}, optimizer=momentum)
    second = phase(
        network, lambda part, step: {"loss/b": network.weight.sum()}, shared=first.optimizer, name="lazy"
    )
    made_step(recipe(first, second))
    assert network.weight.item() == pytest.approx(1 - 3 - (0.5 * 3 + 1))
    assert network.weight.grad is None


def test_a_phase_moves_its_own_network_only() -> None:
    ours, other = layer(), layer()
    made_step(recipe(phase(ours, lambda part, step: {"loss/both": other(ours(part["x"])).sum()})))
    assert ours.weight.item() != 1
    assert other.weight.item() == 1
    assert other.weight.grad is None


def test_what_is_no_loss_is_told_and_not_minimised() -> None:
    network = layer()
    losses = {"loss/a": 2 * network.weight.sum(), "loss/b": network.weight.sum()}
    metrics = made_step(
        recipe(phase(network, lambda part, step: losses | {"output/c": network.weight.sum()}))
    )
    assert network.weight.item() == pytest.approx(1 - 3)
    assert metrics["output/c"] == 1
    assert metrics["learning_rate/layer"] == 1


@pytest.mark.parametrize("field", ["clip_grad_norm", "clip_grad_value"])
def test_gradients_are_clipped_as_torch_clips_them(field: str) -> None:
    """The metric is the norm before the clipping."""
    torch.manual_seed(0)
    network, reference = nn.Linear(1, 5), nn.Linear(1, 5)
    reference.load_state_dict(network.state_dict())
    before = [weights.detach().clone() for weights in network.parameters()]
    spec = SGD.model_copy(update={field: 0.3})
    metrics = made_step(recipe(phase(network, squares(network, 4.0), optimizer=spec)))
    x = torch.arange(ROWS).view(-1, 1) / ROWS
    (4 * reference(x)).square().mean().backward()
    norm = nn.utils.get_total_norm([weights.grad for weights in reference.parameters()])
    clip = nn.utils.clip_grad_norm_ if field == "clip_grad_norm" else nn.utils.clip_grad_value_
    clip(reference.parameters(), 0.3)
    assert metrics["gradient_norm/layer"] == pytest.approx(norm.item(), rel=1e-5)
    assert norm > 0.3
    for old, ours, theirs in zip(before, network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(old - ours, theirs.grad, rtol=1e-4, atol=1e-6)


def tiny_gradient(network: nn.Module) -> object:
    """A gradient of 1e-8 in fp16, whose smallest number is 6e-8."""
    return lambda part, step: {"loss/tiny": (network(torch.ones(1, 1)).float() * 1e-8).sum()}


@pytest.mark.parametrize("scaled", [False, True])
def test_fp16_keeps_tiny_gradients_by_scaling_the_loss(scaled: bool) -> None:
    """On the weight itself the step is the true one: what was scaled up is scaled down again."""
    network = layer(0.0)
    scaler = torch.amp.GradScaler("cpu") if scaled else None
    made_step(recipe(phase(network, tiny_gradient(network)), scaler=scaler), precision="fp16")
    expected = -1e-8 if scaled else 0.0
    assert network.weight.item() == pytest.approx(expected, rel=1e-2, abs=0)


def test_fp16_clips_what_is_no_longer_scaled() -> None:
    """Scaled gradients are thousands of times longer than the limit, and the update would vanish."""
    network = layer(0.0)
    loss = {"loss/tenth": 0.1 * network.weight.sum()}
    clipped = phase(network, lambda part, step: loss, clip_grad_norm=0.05)
    metrics = made_step(recipe(clipped, scaler=torch.amp.GradScaler("cpu")), precision="fp16")
    assert metrics["gradient_norm/layer"] == pytest.approx(0.1, rel=1e-3)
    assert network.weight.item() == pytest.approx(-0.05, rel=1e-3)


def test_fp16_leaves_out_an_update_that_overflows_and_scales_less() -> None:
    network = layer(1.0)
    scaler = torch.amp.GradScaler("cpu")
    loss = lambda part, step: {"loss/huge": (network(torch.ones(1, 1)).float() * 1e3).sum()}  # noqa: E731
    made = recipe(phase(network, loss), scaler=scaler)
    scale = scaler.get_scale()
    made_step(made, precision="fp16")
    assert network.weight.item() == 1.0
    assert scaler.get_scale() == scale / 2
    for _ in range(12):
        made_step(made, precision="fp16")
    assert network.weight.item() < -900


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_networks_compute_in_the_precision_and_weights_stay_in_float32(
    precision: str, dtype: torch.dtype
) -> None:
    network, seen = layer(), []

    def loss(part: Batch, step: int) -> Losses:
        output = network(part["x"])
        seen.append(output.dtype)
        return {"loss/mean": output.float().mean()}

    made_step(recipe(phase(network, loss)), precision=precision)
    assert seen == [dtype]
    assert network.weight.dtype is torch.float32


def test_the_average_follows_every_step_and_its_distance_is_measured() -> None:
    """With the half-life of one batch the average goes half the way: from 1 to -2, half is -0.5."""
    network = layer(1.0)
    ema = Ema(network, EmaSpec(half_life_images=ROWS, ramp=1.0))
    loss = {"loss/three": 3 * network.weight.sum()}
    metrics = made_step(recipe(phase(network, lambda part, step: loss), ema=ema))
    assert ema.network.weight.item() == pytest.approx(-0.5)
    assert metrics["ema/distance"] == pytest.approx(abs(-2 - -0.5) / 0.5)


def test_the_memory_of_the_process_is_measured_in_bytes() -> None:
    held = memory(torch.device("cpu"))["memory/peak_bytes"]
    now = psutil.Process().memory_info().rss
    assert now * 0.9 <= held < 100 * now

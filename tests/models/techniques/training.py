"""What every training shares: optimizers, schedules, clipping, accumulation, averages, precision, layout."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind, ScheduleSpec
from models.spec.training import EmaSpec, MemoryFormat, Precision
from models.training import settle, update
from models.training.ema import Ema
from models.training.optimizer import DECAYS, OPTIMIZERS, LearningRate, build_optimizer
from models.training.recipe import Batch, Losses
from tests.models.techniques import Technique, row
from tests.models.training.specs import small
from tests.models.training.steps import ROWS, layer, made_step, phase, recipe

CPU = torch.device("cpu")


def moved(spec: OptimizerSpec, gradients: list[float], weight: float = 1.0) -> list[float]:
    """How far a weight has moved after updates by these gradients."""
    network = layer(weight)
    optimizer = build_optimizer(network, spec)
    distances = []
    for gradient in gradients:
        network.weight.grad = torch.full_like(network.weight, gradient)
        optimizer.step()
        distances.append(weight - network.weight.item())
    return distances


def of_kind(kind: OptimizerKind, **fields: Any) -> OptimizerSpec:
    return OptimizerSpec(kind=kind, learning_rate=0.01, **fields)


def adam_steps_by_the_rate() -> None:
    """Its first step is the rate, however long the gradient."""
    spec = of_kind(OptimizerKind.ADAM, betas=(0.9, 0.999))
    assert moved(spec, [100.0]) == pytest.approx([0.01], rel=1e-4)
    assert moved(spec, [0.01]) == pytest.approx([0.01], rel=1e-4)


def adamw_decays_apart_from_the_gradient() -> None:
    """By rate · decay · weight, which Adam's division would make the rate itself."""
    spec = of_kind(OptimizerKind.ADAMW, betas=(0.9, 0.999), weight_decay=0.1)
    assert moved(spec, [0.0], weight=2.0) == pytest.approx([0.01 * 0.1 * 2], rel=1e-3)
    assert moved(spec, [100.0], weight=2.0) == pytest.approx([0.01 + 0.01 * 0.1 * 2], rel=1e-3)


def rmsprop_divides_by_the_root_of_the_mean_square() -> None:
    """From a mean square of 0: the first step is rate / √(1 - α)."""
    expected = 0.01 / (1 - 0.96) ** 0.5
    assert moved(of_kind(OptimizerKind.RMSPROP, alpha=0.96), [3.0]) == pytest.approx([expected], rel=1e-4)


def sgd_steps_by_the_gradient_and_has_momentum() -> None:
    spec = of_kind(OptimizerKind.SGD, momentum=0.5)
    assert moved(spec, [2.0, 0.0]) == pytest.approx([0.02, 0.03], rel=1e-4)


def stands_still(parameters: Any, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.SGD(parameters, lr=0.0)


def rates(kind: ScheduleKind, **fields: Any) -> list[float]:
    """The rates of 100 steps, of which the first 10 warm up to 1."""
    schedule = ScheduleSpec(kind=kind, warmup_steps=10, **fields)
    rate = LearningRate(OptimizerSpec(learning_rate=1.0, schedule=schedule), 100)
    return [rate.at(step) for step in range(1, 101)]


def decays(kind: ScheduleKind, middle: float, last: float, **fields: Any) -> Callable[[], None]:
    """Half-way from the peak, at step 56, and at the last."""

    def check() -> None:
        found = rates(kind, **fields)
        assert found[10] == pytest.approx(1)
        assert (found[55], found[99]) == pytest.approx((middle, last), abs=1e-3)

    return check


def warms_up() -> None:
    assert rates(ScheduleKind.LINEAR)[:10] == pytest.approx([step / 10 for step in range(1, 11)])


def without_warmup(self: LearningRate, step: int) -> float:
    return self.spec.learning_rate


def updated(loss: Callable[[nn.Module, Tensor], Tensor], **fields: Any) -> float:
    """How far a weight of 1 moves in a step of plain gradient descent."""
    network = layer()
    spec = OptimizerSpec(kind=OptimizerKind.SGD, learning_rate=1.0, **fields)
    made = phase(network, lambda part, step: {"loss/x": loss(network, part["x"])}, optimizer=spec)
    made_step(recipe(made))
    return 1 - network.weight.item()


def decays_weights() -> None:
    assert updated(lambda network, x: 0 * network(x).mean(), weight_decay=0.25) == pytest.approx(0.25)


def without_decay(parameters: Any, spec: OptimizerSpec) -> optim.Optimizer:
    return optim.SGD(parameters, spec.learning_rate)


def clips_the_norm() -> None:
    assert updated(lambda network, x: 100 * network.weight.sum(), clip_grad_norm=0.5) == pytest.approx(0.5)


def clips_values() -> None:
    assert updated(lambda network, x: 100 * network.weight.sum(), clip_grad_value=0.5) == pytest.approx(0.5)


def accumulates() -> None:
    """Three parts a step, each with a third of the rows, make the gradient of the whole batch."""
    network, seen = layer(), []

    def loss(part: Batch, step: int) -> Losses:
        seen.append(len(part["x"]))
        return {"loss/mean": network(part["x"]).mean()}

    made_step(recipe(phase(network, loss)), accumulation=3)
    assert seen == [ROWS // 3] * 3
    assert 1 - network.weight.item() == pytest.approx(sum(range(ROWS)) / ROWS / ROWS)


def averages_weights() -> None:
    """Half-way after the half-life, and the buffers copied: BatchNorm's statistics are no weights."""
    source = nn.BatchNorm1d(1)
    ema = Ema(source, EmaSpec(half_life_images=ROWS, ramp=1.0))
    source.weight.data.fill_(3.0)
    source.running_mean.fill_(3.0)
    ema.update(10**6, ROWS)
    assert ema.network.weight.item() == pytest.approx(2)
    assert ema.network.running_mean.item() == 3


def forgets_the_start() -> None:
    """After 1,000 images the half-life is 50 of them, and not the million asked for."""
    source = layer(0.0)
    ema = Ema(source, EmaSpec(half_life_images=10**6, ramp=0.05))
    source.weight.data.fill_(1.0)
    ema.update(1000, 50)
    assert ema.network.weight.item() == pytest.approx(0.5)


def without_ramp(self: Ema, images: int, batch_size: int) -> None:
    for average, weight in zip(self._averages, self._weights, strict=True):
        average.data.lerp_(weight.data, 1 - 0.5 ** (batch_size / self._half_life))


def computes_in(precision: Precision, dtype: torch.dtype) -> Callable[[], None]:
    def check() -> None:
        network, seen = layer(), []

        def loss(part: Batch, step: int) -> Losses:
            output = network(part["x"])
            seen.append(output.dtype)
            return {"loss/mean": output.float().mean()}

        made_step(recipe(phase(network, loss)), precision=precision)
        assert seen == [dtype]
        assert network.weight.dtype is torch.float32

    return check


def lies_in(memory_format: MemoryFormat, layout: torch.memory_format) -> Callable[[], None]:
    """Not seen of a layout that is both, as of one channel or one pixel."""

    def check() -> None:
        spec = small("dcgan", memory_format=memory_format)
        weights = settle.place_networks(spec, CPU)["generator"].main[3].weight
        assert weights.shape[1] > 1
        assert weights.is_contiguous(memory_format=layout)

    return check


def is_fp32_where_bf16_is_slow() -> None:
    """An AVX2 processor emulates bf16 and was 25 times slower."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            patch.setattr(torch.cpu, name, lambda: False)
        assert settle._precisions(Precision.AUTO, CPU) == [Precision.FP32]


def precision(member: Precision, dtype: torch.dtype) -> Technique:
    def disable(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(update.AUTOCAST, member)

    return Technique(f"Precision.{member}", disable, computes_in(member, dtype), member)


def field(name: str, owner: Any, attribute: str, no_op: Any, check: Callable[[], None]) -> Technique:
    return Technique(name, lambda monkeypatch: monkeypatch.setattr(owner, attribute, no_op), check)


def unchanged(*arguments: Any, **keywords: Any) -> None:
    """Does nothing."""


TECHNIQUES: list[Technique] = [
    row(OPTIMIZERS, OptimizerKind.ADAM, stands_still, adam_steps_by_the_rate),
    row(OPTIMIZERS, OptimizerKind.ADAMW, stands_still, adamw_decays_apart_from_the_gradient),
    row(OPTIMIZERS, OptimizerKind.RMSPROP, stands_still, rmsprop_divides_by_the_root_of_the_mean_square),
    row(OPTIMIZERS, OptimizerKind.SGD, stands_still, sgd_steps_by_the_gradient_and_has_momentum),
    # What a constant schedule does is to keep the rate; without it there is none.
    row(DECAYS, ScheduleKind.CONSTANT, lambda *_: 0.0, decays(ScheduleKind.CONSTANT, 1, 1)),
    *(
        row(DECAYS, kind, lambda *_: 1.0, check)
        for kind, check in {
            ScheduleKind.STEP: decays(ScheduleKind.STEP, 0.5, 0.25, gamma=0.5, step_size=40),
            ScheduleKind.EXPONENTIAL: decays(ScheduleKind.EXPONENTIAL, 0.9**45, 0.9**89, gamma=0.9),
            ScheduleKind.LINEAR: decays(ScheduleKind.LINEAR, 0.5, 1 / 90),
            ScheduleKind.COSINE: decays(ScheduleKind.COSINE, 0.5, 0),
        }.items()
    ),
    field("schedule.warmup_steps", LearningRate, "at", without_warmup, warms_up),
    Technique(
        "optimizer.weight_decay",
        lambda monkeypatch: monkeypatch.setitem(OPTIMIZERS, OptimizerKind.SGD, without_decay),
        decays_weights,
    ),
    field(
        "optimizer.clip_grad_norm", nn.utils, "clip_grad_norm_", lambda *_: torch.zeros(()), clips_the_norm
    ),
    field("optimizer.clip_grad_value", nn.utils, "clip_grad_value_", unchanged, clips_values),
    field("accumulation", update, "_split", lambda batch, parts: [batch], accumulates),
    field("ema", Ema, "update", unchanged, averages_weights),
    field("ema.ramp", Ema, "update", without_ramp, forgets_the_start),
    precision(Precision.BF16, torch.bfloat16),
    precision(Precision.FP16, torch.float16),
    field(
        "precision auto",
        settle,
        "_precisions",
        lambda asked, device: [Precision.FP32, Precision.BF16],
        is_fp32_where_bf16_is_slow,
    ),
    row(
        settle.MEMORY_FORMATS,
        MemoryFormat.CONTIGUOUS,
        torch.channels_last,
        lies_in(MemoryFormat.CONTIGUOUS, torch.contiguous_format),
    ),
    row(
        settle.MEMORY_FORMATS,
        MemoryFormat.CHANNELS_LAST,
        torch.contiguous_format,
        lies_in(MemoryFormat.CHANNELS_LAST, torch.channels_last),
    ),
]

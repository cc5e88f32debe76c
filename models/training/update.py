"""One training step: a batch, and every update that is due on it."""

from typing import Protocol

import torch
from torch import Tensor, nn

from models.spec import JobSpec
from models.spec.training import Precision
from models.training.means import Means
from models.training.recipe import Batch, Phase, Recipe

AUTOCAST = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
"""What networks compute in; of others nothing is cast."""


class Stream(Protocol):
    """An endless supply of training batches."""

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,)."""
        ...


def one_step(
    spec: JobSpec, recipe: Recipe, stream: Stream, step: int, means: Means, *, measure: bool
) -> None:
    """Draw one batch and make every update that is due on it; `measure` also takes norms and distances."""
    parts = _split(recipe.draw(*stream.next()), spec.accumulation)
    for phase in recipe.phases:
        if step % phase.every == 0:
            _update(phase, parts, step, means, spec.precision, recipe.scaler, measure=measure)
    if recipe.ema:
        recipe.ema.update(step * spec.batch_size, spec.batch_size)
        if measure:
            means.add({"ema/distance": recipe.ema.distance()})


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    pieces = {name: tensor.chunk(parts) for name, tensor in batch.items()}
    return [{name: piece[index] for name, piece in pieces.items()} for index in range(parts)]


def _update(
    phase: Phase,
    parts: list[Batch],
    step: int,
    means: Means,
    precision: Precision,
    scaler: torch.amp.GradScaler | None,
    *,
    measure: bool,
) -> None:
    parameters = list(phase.network.parameters())
    device_type = parameters[0].device.type
    if phase.before:
        phase.before()
    for part in parts:
        with torch.autocast(device_type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            losses = phase.loss(part, step)
        total = torch.stack([value for name, value in losses.items() if name.startswith("loss/")]).sum()
        scaled = scaler.scale(total) if scaler else total
        # Only this network's gradients are computed: none for D's weights in G's phase.
        torch.autograd.backward(scaled / len(parts), inputs=parameters)
        means.add(losses)
    if scaler:
        scaler.unscale_(phase.optimizer)
    _clip(phase, parameters, means, measure=measure)
    rate = phase.learning_rate.at(step)
    for group in phase.optimizer.param_groups:
        group["lr"] = rate
    if scaler:
        scaler.step(phase.optimizer)
        scaler.update()
    else:
        phase.optimizer.step()
    phase.optimizer.zero_grad(set_to_none=True)
    if phase.after:
        phase.after()
    means.set(f"learning_rate/{phase.name}", rate)


def _clip(phase: Phase, parameters: list[nn.Parameter], means: Means, *, measure: bool) -> None:
    """Clip by norm or by value; the norm that is measured is the one before."""
    if phase.clip_grad_norm is not None:
        norm = nn.utils.clip_grad_norm_(parameters, phase.clip_grad_norm)
        means.add({f"gradient_norm/{phase.name}": norm})
        return
    if measure:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means.add({f"gradient_norm/{phase.name}": nn.utils.get_total_norm(gradients)})
    if phase.clip_grad_value is not None:
        nn.utils.clip_grad_value_(parameters, phase.clip_grad_value)

"""The only training loop: runs a recipe over a stream of batches and yields what happens."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models import checkpoints
from models.sampling import SamplingError, generate
from models.sampling.pictures import encode, grid
from models.spec import DiffusionSpec, JobSpec, every_steps, total_steps
from models.spec.training import Precision
from models.training.events import Evaluated, Event, Finished, Progress, Sampled, Saved, TrainingError
from models.training.means import Means
from models.training.recipe import Batch, Phase, Recipe

_TELL_SECONDS = 5.0  # a run whose metrics are far apart still shows that it moves
_LEGIBLE_PIXELS = 64  # smaller images are enlarged in the grids, which are made to be looked at
_DIVERGED = (
    "Lower optimizer.learning_rate, set optimizer.clip_grad_norm, or use precision fp32; "
    "any checkpoint of the run is from before the divergence."
)


class Stream(Protocol):
    """An endless supply of training batches."""

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] and labels (B,)."""
        ...


def run(
    spec: JobSpec, recipe: Recipe, stream: Stream, held_out: tuple[Tensor, Tensor], out: Path
) -> Iterator[Event]:
    """Train by a resolved spec; pictures and checkpoints are written below `out`.

    `held_out` are images to evaluate on: some never trained on, and as many trained on.
    Raises TrainingError when a loss is no longer finite.
    """
    began = time.perf_counter()
    steps, means, log_every = total_steps(spec), Means(), spec.log_every_steps or 1
    evaluate_every = every_steps(spec.evaluation, spec.batch_size) if spec.evaluation else None
    told, training_seconds, told_at = 0, 0.0, began
    for step in range(1, steps + 1):
        images, step_began = step * spec.batch_size, time.perf_counter()
        logs = step % log_every == 0 or step == steps
        one_step(spec, recipe, stream, step, means, measure_gradients=logs)
        metrics = means.read() if logs else {}
        now = time.perf_counter()
        training_seconds += now - step_began
        if logs or now - told_at >= _TELL_SECONDS:
            _refuse_divergence(metrics, step)
            yield Progress(step, images, (images - told) / max(training_seconds, 1e-9), metrics)
            told, training_seconds, told_at = images, 0.0, now
        yield from _artifacts(spec, recipe, out, step, last=step == steps)
        if evaluate_every and (step % evaluate_every == 0 or step == steps) and len(held_out[0]):
            scores = _evaluate(recipe, held_out, spec.batch_size)
            yield Evaluated(step, images, scores, len(held_out[0]))
    yield Finished(steps, steps * spec.batch_size, time.perf_counter() - began)


def one_step(
    spec: JobSpec, recipe: Recipe, stream: Stream, step: int, means: Means, *, measure_gradients: bool
) -> None:
    """Draw one batch and make every update that is due on it."""
    parts = _split(recipe.draw(*stream.next()), spec.accumulation)
    for phase in recipe.phases:
        if step % phase.every == 0:
            _update(phase, parts, step, means, spec.precision, measure_gradients=measure_gradients)
    if recipe.ema:
        recipe.ema.update(step * spec.batch_size, spec.batch_size)


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
    *,
    measure_gradients: bool,
) -> None:
    parameters = list(phase.network.parameters())
    for part in parts:
        device_type = next(iter(part.values())).device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=precision is Precision.BF16):
            losses = phase.loss(part)
        total = torch.stack([value for name, value in losses.items() if name.startswith("loss/")]).sum()
        # Only this network's gradients are computed: none for D's weights in G's phase.
        torch.autograd.backward(total / len(parts), inputs=parameters)
        means.add(losses)
    if phase.clip_grad_norm is not None:
        norm = nn.utils.clip_grad_norm_(parameters, phase.clip_grad_norm)
        means.add({f"gradient_norm/{phase.name}": norm})
    elif measure_gradients:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means.add({f"gradient_norm/{phase.name}": nn.utils.get_total_norm(gradients)})
    rate = phase.learning_rate.at(step)
    for group in phase.optimizer.param_groups:
        group["lr"] = rate
    phase.optimizer.step()
    phase.optimizer.zero_grad(set_to_none=True)
    means.set(f"learning_rate/{phase.name}", rate)


def _artifacts(spec: JobSpec, recipe: Recipe, out: Path, step: int, *, last: bool) -> Iterator[Event]:
    images = step * spec.batch_size
    if last or step % every_steps(spec.samples, spec.batch_size) == 0:
        path = Path("samples") / f"{step:08d}.png"
        _draw_samples(spec, recipe, out / path)
        yield Sampled(step, images, str(path))
    if last or step % every_steps(spec.checkpoints, spec.batch_size) == 0:
        folder = Path("checkpoints") / f"{step:08d}"
        saved = checkpoints.save(
            out / folder,
            spec=spec,
            step=step,
            images=images,
            networks=recipe.networks,
            averaged=recipe.averaged_networks(),
        )
        yield Saved(step, images, str(folder / saved.path.name), saved.sha256, saved.size_bytes)


def _draw_samples(spec: JobSpec, recipe: Recipe, path: Path) -> None:
    """A grid from seeds 0, 1, …: the same noise at every step and in every job."""
    device = next(recipe.networks[recipe.sampling].parameters()).device
    sampler = spec.sampler if isinstance(spec, DiffusionSpec) else None
    seeds = range(spec.samples.count)
    try:
        pictures = generate(recipe.sampling_networks(), spec, seeds, sampler=sampler, device=device)
    except SamplingError as error:
        raise TrainingError("diverged", str(error), _DIVERGED) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = max(1, _LEGIBLE_PIXELS // pictures.shape[-1])
    path.write_bytes(encode(grid(pictures, scale=scale), "png"))


@torch.no_grad()
def _evaluate(recipe: Recipe, held_out: tuple[Tensor, Tensor], batch_size: int) -> dict[str, float]:
    means = Means()
    for unseen, seen in zip(*(torch.split(group, batch_size) for group in held_out), strict=True):
        means.add(recipe.evaluate(unseen, seen), weight=len(unseen))
    return means.read()


def _refuse_divergence(metrics: dict[str, float], step: int) -> None:
    for name, value in metrics.items():
        if name.startswith("loss/") and not abs(value) < float("inf"):
            raise TrainingError(
                "diverged",
                f"{name} is {value} at step {step}",
                _DIVERGED,
            )

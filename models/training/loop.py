"""The only training loop: runs a recipe over a stream of batches and yields what happens."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import checkpoint_folders, checkpoints
from models.data import BatchStream
from models.metrics.measurement import Measurement
from models.sampling import SamplingError, generate
from models.sampling.pictures import encode, grid
from models.spec import DiffusionSpec, JobSpec, every_steps, total_steps
from models.spec.interval import Interval
from models.training import state
from models.training.events import (
    Evaluated,
    Event,
    Finished,
    Progress,
    Sampled,
    Saved,
    Stopped,
    TrainingError,
)
from models.training.means import Means
from models.training.memory import memory
from models.training.recipe import Recipe
from models.training.update import one_step

_TELL_SECONDS = 5.0  # a run whose metrics are far apart still shows that it moves
_SAVE_SECONDS = 4.0  # after so long a new run saves what it has, though its first checkpoint be hours away
_LEGIBLE_PIXELS = 64  # smaller images are enlarged in the grids, which are made to be looked at
_DIVERGED = (
    "To go on as it was would end here again. Post a new job with a lower optimizer.learning_rate, "
    "optimizer.clip_grad_norm or precision fp32; with init_from it starts at a checkpoint of this one, "
    "all of which are from before."
)


@dataclass(frozen=True)
class Trial:
    """Images that the networks are tried on, with their labels: some never trained on, and as many
    trained on.
    """

    held_out: tuple[Tensor, Tensor]
    trained: tuple[Tensor, Tensor]


Score = Callable[[Mapping[str, nn.Module]], Measurement]
"""From the networks that make images to what they score."""


def run(
    spec: JobSpec,
    recipe: Recipe,
    stream: BatchStream,
    trial: Trial,
    score: Score | None,
    out: Path,
    *,
    resume: Path | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train by a resolved spec; pictures and checkpoints are written below `out`.

    What belongs to a step is told before its checkpoint: a run that resumes there has nothing to make up for.
    A new run saves a first checkpoint after four seconds, whatever the spec's interval is, and a step before
    its images are scored one that has four seconds of work in it.
    `resume` is a checkpoint's folder; `stopping` is asked after each step.
    Raises TrainingError when a loss is no longer finite, and CheckpointError when it cannot resume.
    """
    began = time.perf_counter()
    steps, means, log_every = total_steps(spec), Means(), spec.log_every_steps or 1
    start, saved_at = 0, began
    if resume is not None:
        path = resume / checkpoint_folders.STATE
        start = state.load(path, spec=spec, recipe=recipe, stream=stream, means=means)
    told, training_seconds, told_at, saved = start * spec.batch_size, 0.0, began, start > 0
    device = next(recipe.networks[recipe.sampling].parameters()).device
    for step in range(start + 1, steps + 1):
        images, step_began, last = step * spec.batch_size, time.perf_counter(), step == steps
        logs = step % log_every == 0 or last
        one_step(spec, recipe, stream, step, means, measure=logs)
        metrics = {**means.read(), **memory(device)} if logs else {}
        now = time.perf_counter()
        training_seconds += now - step_began
        if logs or now - told_at >= _TELL_SECONDS:
            _refuse_divergence(metrics, step)
            yield Progress(step, images, (images - told) / max(training_seconds, 1e-9), metrics)
            told, training_seconds, told_at = images, 0.0, now
        if last or _due(spec.samples, spec, step):
            yield _sampled(spec, recipe, out, step)
        if _evaluates(spec, step):
            yield _evaluated(spec, recipe, trial, score, step)
        stops, due = not last and stopping(), last or _due(spec.checkpoints, spec, step)
        # Scores may take minutes, in which nobody can be told to stop with a checkpoint.
        at_risk = not saved or _evaluates(spec, step + 1)
        if due or stops or (at_risk and time.perf_counter() - saved_at >= _SAVE_SECONDS):
            yield _saved(spec, recipe, stream, means, out, step, interim=not due)
            saved, saved_at = True, time.perf_counter()
        if stops:
            yield Stopped(step, images)
            return
    yield Finished(steps, steps * spec.batch_size, time.perf_counter() - began)


def _evaluates(spec: JobSpec, step: int) -> bool:
    return spec.evaluation is not None and (step == total_steps(spec) or _due(spec.evaluation, spec, step))


def _due(interval: Interval, spec: JobSpec, step: int) -> bool:
    return step % every_steps(interval, spec.batch_size) == 0


def _sampled(spec: JobSpec, recipe: Recipe, out: Path, step: int) -> Sampled:
    path = Path("samples") / f"{step:08d}.png"
    _draw_samples(spec, recipe, out / path, step)
    return Sampled(step, step * spec.batch_size, str(path))


def _saved(
    spec: JobSpec,
    recipe: Recipe,
    stream: BatchStream,
    means: Means,
    out: Path,
    step: int,
    *,
    interim: bool,
) -> Saved:
    _refuse_broken_weights(recipe, step)
    folder, images = Path("checkpoints") / f"{step:08d}", step * spec.batch_size
    saved = checkpoints.save(
        out / folder,
        spec=spec,
        step=step,
        images=images,
        networks=recipe.networks,
        averaged=recipe.averaged_networks(),
    )
    whole = state.save(out / folder, spec=spec, step=step, recipe=recipe, stream=stream, means=means)
    checkpoint_folders.commit(out / folder, (saved, whole))
    path = str(folder / saved.path.name)
    return Saved(step, images, path, saved.sha256, saved.size_bytes, whole.size_bytes, interim)


def _draw_samples(spec: JobSpec, recipe: Recipe, path: Path, step: int) -> None:
    """A grid from seeds 0, 1, …: the same noise at every step and in every job."""
    device = next(recipe.networks[recipe.sampling].parameters()).device
    sampler = spec.sampler if isinstance(spec, DiffusionSpec) else None
    seeds = range(spec.samples.count)
    try:
        pictures = generate(recipe.sampling_networks(), spec, seeds, sampler=sampler, device=device)
    except SamplingError as error:
        raise TrainingError("diverged", str(error), _DIVERGED, step) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = max(1, _LEGIBLE_PIXELS // pictures.shape[-1])
    path.write_bytes(encode(grid(pictures, scale=scale), "png"))


def _evaluated(spec: JobSpec, recipe: Recipe, trial: Trial, score: Score | None, step: int) -> Evaluated:
    values = _tried(recipe, trial, spec.batch_size)
    details: dict[str, Any] = {}
    if score is not None:
        try:
            measured = score(recipe.sampling_networks())
        except SamplingError as error:
            raise TrainingError("diverged", str(error), _DIVERGED, step) from None
        values |= measured.scores
        details = measured.details
    return Evaluated(step, step * spec.batch_size, values, len(trial.held_out[0]), details)


@torch.no_grad()
def _tried(recipe: Recipe, trial: Trial, batch_size: int) -> dict[str, float]:
    means = Means()
    groups = (*trial.held_out, *trial.trained)
    for unseen, unseen_labels, seen, seen_labels in zip(
        *(torch.split(group, batch_size) for group in groups), strict=True
    ):
        if len(unseen):
            means.add(recipe.evaluate(unseen, unseen_labels, seen, seen_labels), weight=len(unseen))
    return means.read()


def _refuse_divergence(metrics: dict[str, float], step: int) -> None:
    for name, value in metrics.items():
        if name.startswith("loss/") and not abs(value) < float("inf"):
            raise TrainingError(
                "diverged",
                f"{name} is {value} at step {step}",
                _DIVERGED,
                step,
            )


@torch.no_grad()
def _refuse_broken_weights(recipe: Recipe, step: int) -> None:
    """A checkpoint of them could neither make images nor be gone on from; losses are read less often."""
    for name, network in (*recipe.networks.items(), *(recipe.averaged_networks() or {}).items()):
        parameters = [weights.isfinite().all() for weights in network.parameters()]
        if not torch.stack(parameters).all():
            raise TrainingError(
                "diverged", f"weights of the {name} are not finite after step {step}", _DIVERGED, step
            )

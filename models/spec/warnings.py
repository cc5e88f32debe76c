"""What a resolved spec may do and probably does not mean to."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.augmentation import MIXING, AugmentationKind
from models.spec.budget import every_steps, total_steps
from models.spec.data import DatasetFacts
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.optimizer import OptimizerSpec

_MIRRORING_CHANGES = ("digits",)
"""Datasets whose mirrored images mean something else, or nothing."""


def warnings(spec: JobSpec, facts: DatasetFacts, steps: int) -> Iterator[str]:
    """One sentence each, naming the fields."""
    for warn in _WARNINGS:
        yield from warn(spec, facts)


def optimizers_of(spec: JobSpec) -> Iterator[tuple[str, OptimizerSpec]]:
    """Every optimizer of the spec with its path."""
    yield "optimizer", spec.optimizer
    if isinstance(spec, GanSpec):
        for name in ("generator", "discriminator"):
            optimizer: OptimizerSpec | None = getattr(spec.optimizers, name)
            if optimizer is not None:
                yield f"optimizers.{name}", optimizer


def _size(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    channels, resolution, _ = spec.data.image_shape
    if resolution > facts.resolution:
        yield (
            f"data.resolution {resolution} is more than the {facts.resolution} px at which "
            f"{facts.name!r} is stored: images are enlarged and carry no more detail"
        )
    if channels < facts.channels:
        yield f"data.channels 1 turns the colour images of {facts.name!r} grey"
    if spec.batch_size > facts.count:
        yield f"batch_size {spec.batch_size} is more than the {facts.count} images: batches repeat images"


def _augmentation(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    for index, augmentation in enumerate(spec.data.augmentations):
        path = f"data.augmentations.{index}"
        if augmentation.kind is AugmentationKind.HORIZONTAL_FLIP and facts.name in _MIRRORING_CHANGES:
            yield f"{path}: horizontal_flip mirrors {facts.name}, and so they are learnt; so with text"
        if augmentation.kind in MIXING:
            yield f"{path}: {augmentation.kind} makes blends, and the model learns to make blends"


def _optimizer(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    for path, optimizer in optimizers_of(spec):
        if isinstance(spec, GanSpec) and optimizer.betas is not None and optimizer.betas[0] >= 0.9:
            yield f"{path}.betas: β1 = {optimizer.betas[0]} makes GANs oscillate; 0.5 or 0 is usual"
        if (warmup := optimizer.schedule.warmup_steps or 0) >= total_steps(spec):
            yield (
                f"{path}.schedule.warmup_steps {warmup} is not less than the {total_steps(spec)} steps of "
                "the run: learning_rate is never reached"
            )


def _discriminator(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    if not isinstance(spec, GanSpec):
        return
    for name, network in (("generator", spec.generator), ("discriminator", spec.discriminator)):
        own: OptimizerSpec = getattr(spec.optimizers, name) or spec.optimizer
        if network.spectral_norm and own.weight_decay:
            yield (
                f"{name}.spectral_norm with weight_decay {own.weight_decay}: the norm undoes the decay, "
                "which only raises the effective learning rate"
            )
    judge: OptimizerSpec = spec.optimizers.discriminator or spec.optimizer
    if spec.discriminator.weight_clip is not None and judge.clip_grad_norm is not None:
        yield (
            "discriminator.weight_clip with clip_grad_norm: clipped weights already bound the gradient; the "
            "two hide each other's effect"
        )


def _ema(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    shown = total_steps(spec) * spec.batch_size
    if spec.ema is not None and (spec.ema.half_life_images or 0) > shown / 10:
        yield (
            f"ema.half_life_images {spec.ema.half_life_images} is more than 10 % of the {shown} images of "
            "the run: the average lags behind"
        )


def _evaluation(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    evaluation = spec.evaluation
    if evaluation is None:
        return
    if evaluation.scores == () and not facts.classes:
        yield (
            f"evaluation.scores: {facts.name!r} has no labels to train a classifier on, so nothing is "
            "scored; evaluation.extractor inception scores it"
        )
    measured = every_steps(evaluation, spec.batch_size)
    stored = every_steps(spec.checkpoints, spec.batch_size)
    if evaluation.scores and measured % stored:
        yield (
            f"evaluation is due every {measured} steps and checkpoints every {stored}: only those that fall "
            "together are scored"
        )


_WARNINGS: tuple[Callable[[JobSpec, DatasetFacts], Iterable[str]], ...] = (
    _size,
    _augmentation,
    _optimizer,
    _discriminator,
    _ema,
    _evaluation,
)

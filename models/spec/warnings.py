"""What a resolved spec may do and probably does not mean to."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.augmentation import MIXING, AugmentationKind, DiscriminatorAugmentationKind
from models.spec.budget import every_steps, total_steps
from models.spec.data import DatasetFacts
from models.spec.evaluation import FEATURES, ScoreKind
from models.spec.gan import GanLoss, GanSpec
from models.spec.job import JobSpec
from models.spec.optimizer import OptimizerSpec


def warnings(spec: JobSpec, facts: DatasetFacts) -> Iterator[str]:
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


def _used_optimizers(spec: JobSpec) -> Iterator[tuple[str, OptimizerSpec]]:
    """Without the shared one where each network has its own."""
    found = list(optimizers_of(spec))
    yield from found[1:] if len(found) == 3 else found


def _optimizer_of(spec: GanSpec, network: str) -> tuple[str, OptimizerSpec]:
    own: OptimizerSpec | None = getattr(spec.optimizers, network)
    return (f"optimizers.{network}", own) if own is not None else ("optimizer", spec.optimizer)


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


def _labels(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    if spec.data.drop_suspects and not facts.classes:
        yield f"data.drop_suspects: {facts.name!r} has no labels that could be suspected; nothing is left out"


def _augmentation(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    kinds = {f"data.augmentations.{i}": a.kind for i, a in enumerate(spec.data.augmentations)}
    if isinstance(spec, GanSpec) and spec.discriminator_augmentation is not None:
        policy = spec.discriminator_augmentation.policy
        kinds |= {f"discriminator_augmentation.policy.{i}": kind for i, kind in enumerate(policy)}
    for path, kind in kinds.items():
        if kind is AugmentationKind.HORIZONTAL_FLIP and _shows_characters(facts):
            yield (
                f"{path}: horizontal_flip mirrors the characters of {facts.name!r}, which then are no "
                "characters, and the model learns to make them so"
            )
        if kind in MIXING:
            yield f"{path}: {kind} makes blends, and the model learns to make blends"


def _shows_characters(facts: DatasetFacts) -> bool:
    """Whether the classes are digits or letters, whose mirrored images mean something else, or nothing."""
    return bool(facts.classes) and all(len(name) == 1 and name.isalnum() for name in facts.classes)


def _optimizer(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    for path, optimizer in _used_optimizers(spec):
        if isinstance(spec, GanSpec) and optimizer.betas is not None and optimizer.betas[0] >= 0.9:
            yield f"{path}.betas: β1 = {optimizer.betas[0]} makes GANs oscillate; 0.5 or 0 is usual"
        if (warmup := optimizer.schedule.warmup_steps or 0) >= total_steps(spec):
            yield (
                f"{path}.schedule.warmup_steps {warmup} is not less than the {total_steps(spec)} steps of "
                "the run: learning_rate is never reached"
            )


def _constraints(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    if not isinstance(spec, GanSpec):
        return
    for name, network in (("generator", spec.generator), ("discriminator", spec.discriminator)):
        path, own = _optimizer_of(spec, name)
        if network.spectral_norm and own.weight_decay:
            yield (
                f"{path}.weight_decay {own.weight_decay} with {name}.spectral_norm: the norm undoes the "
                "decay, which only raises the effective learning rate"
            )
    path, own = _optimizer_of(spec, "discriminator")
    if spec.discriminator.weight_clip is not None and own.clip_grad_norm is not None:
        yield (
            f"{path}.clip_grad_norm with discriminator.weight_clip: clipped weights already bound the "
            "gradient; the two hide each other's effect"
        )


def _ada(spec: JobSpec, facts: DatasetFacts) -> Iterable[str]:
    if not isinstance(spec, GanSpec) or spec.discriminator_augmentation is None:
        return
    ada = spec.discriminator_augmentation.kind is DiscriminatorAugmentationKind.ADA
    if ada and spec.loss.kind in (GanLoss.WASSERSTEIN, GanLoss.RELATIVISTIC):
        yield (
            f"discriminator_augmentation.kind ada with loss.kind {spec.loss.kind}: ada follows the sign of "
            "D(real), which means nothing where only differences of D count; diffaugment needs no sign"
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
    if evaluation.scores == () and len(facts.classes) < 2:
        yield (
            f"evaluation.scores: {facts.name!r} has no two classes to train a classifier on, so nothing is "
            "scored; evaluation.extractor inception scores it"
        )
    if spec.data.held_out * facts.count < 1:
        yield (
            f"data.held_out {spec.data.held_out} of the {facts.count} images is none: evaluation has no "
            "image that was not trained on"
        )
    real = facts.count // 2
    if evaluation.extractor and ScoreKind.FID in (evaluation.scores or ()):
        dimensions = FEATURES[evaluation.extractor]
        if real < dimensions:
            yield (
                f"evaluation.scores: fid is against {real} real images, half of {facts.name!r}, in "
                f"{dimensions} dimensions a covariance without full rank: it ranks checkpoints, and no more"
            )
    measured = every_steps(evaluation, spec.batch_size)
    stored = every_steps(spec.checkpoints, spec.batch_size)
    if evaluation.scores and measured % stored and measured < total_steps(spec):
        yield (
            f"evaluation is due every {measured} steps and checkpoints every {stored}: scores between two "
            "checkpoints belong to none"
        )


_WARNINGS: tuple[Callable[[JobSpec, DatasetFacts], Iterable[str]], ...] = (
    _size,
    _labels,
    _augmentation,
    _optimizer,
    _constraints,
    _ada,
    _ema,
    _evaluation,
)

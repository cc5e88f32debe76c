"""What a spec that parses may still not combine, with the reason: the rules of both families."""

from collections.abc import Callable, Iterable, Sequence

from models.spec.augmentation import LARGEST_MAGNITUDES, OF_DATA
from models.spec.data import DatasetFacts
from models.spec.diffusion_rules import diffusion_errors
from models.spec.evaluation import FEATURES, OF_CLASSES, OF_PAIRS, ExtractorKind, ScoreKind
from models.spec.fields import FieldError
from models.spec.gan import GanSpec
from models.spec.gan_rules import gan_errors
from models.spec.job import JobSpec
from models.spec.optimizer import OptimizerKind, ScheduleKind
from models.spec.warnings import optimizers_of

_ADAMS = (OptimizerKind.ADAM, OptimizerKind.ADAMW)
_OPTIMIZER_FIELDS: dict[str, tuple[OptimizerKind, ...]] = {
    "betas": _ADAMS,
    "momentum": (OptimizerKind.SGD, OptimizerKind.RMSPROP),
    "alpha": (OptimizerKind.RMSPROP,),
}
_SCHEDULE_FIELDS: dict[str, tuple[ScheduleKind, ...]] = {
    "gamma": (ScheduleKind.STEP, ScheduleKind.EXPONENTIAL),
    "step_size": (ScheduleKind.STEP,),
}


def broken_rules(spec: JobSpec, facts: DatasetFacts) -> list[FieldError]:
    """Every rule that a resolved spec breaks."""
    errors = [error for rule in _RULES for error in rule(spec, facts)]
    family = gan_errors(spec, facts) if isinstance(spec, GanSpec) else diffusion_errors(spec, facts)
    return [*errors, *family]


def _batch_is_divisible(spec: JobSpec, facts: DatasetFacts) -> Iterable[FieldError]:
    if spec.batch_size % spec.accumulation:
        yield FieldError("accumulation", f"must divide batch_size {spec.batch_size} into equal parts")


def _optimizers_have_their_fields(spec: JobSpec, facts: DatasetFacts) -> Iterable[FieldError]:
    for path, optimizer in optimizers_of(spec):
        yield from _foreign(optimizer, _OPTIMIZER_FIELDS, optimizer.kind, path)
        schedule = optimizer.schedule
        yield from _foreign(schedule, _SCHEDULE_FIELDS, schedule.kind, f"{path}.schedule")
        if optimizer.clip_grad_norm is not None and optimizer.clip_grad_value is not None:
            message = "clips what clip_grad_norm has clipped already; give one of the two"
            yield FieldError(f"{path}.clip_grad_value", message)


def _foreign(
    part: object,
    fields: dict[str, tuple[OptimizerKind, ...]] | dict[str, tuple[ScheduleKind, ...]],
    kind: OptimizerKind | ScheduleKind,
    path: str,
) -> Iterable[FieldError]:
    for name, kinds in fields.items():
        if getattr(part, name) is not None and kind not in kinds:
            message = f"is no field of kind {kind}, only of {', '.join(kinds)}; leave it out"
            yield FieldError(f"{path}.{name}", message)


def _augmentations_fit(spec: JobSpec, facts: DatasetFacts) -> Iterable[FieldError]:
    for index, augmentation in enumerate(spec.data.augmentations):
        path, kind = f"data.augmentations.{index}", augmentation.kind
        if kind not in OF_DATA:
            message = (
                f"{kind} of the real images alone is learnt as if it were in the data; put it into "
                "discriminator_augmentation.policy of a GAN"
            )
            yield FieldError(f"{path}.kind", message)
        elif (augmentation.magnitude or 0) > (most := LARGEST_MAGNITUDES[kind]):
            yield FieldError(
                f"{path}.magnitude", f"is {augmentation.magnitude}; {kind} takes at most {most:g}"
            )


def _classes_are_there(spec: JobSpec, facts: DatasetFacts) -> Iterable[FieldError]:
    if spec.conditional is None:
        return
    if not facts.classes:
        yield FieldError("conditional", f"the dataset {facts.name!r} has no classes; leave it out")
    elif spec.conditional.classes != len(facts.classes):
        message = f"is {spec.conditional.classes}, and {facts.name!r} has {len(facts.classes)} classes"
        yield FieldError("conditional.classes", message)


def _scores_can_be_had(spec: JobSpec, facts: DatasetFacts) -> Iterable[FieldError]:
    evaluation = spec.evaluation
    if evaluation is None:
        return
    scores, extractor = evaluation.scores or (), evaluation.extractor
    if not scores:
        if evaluation.best_by is not None:
            yield FieldError("evaluation.best_by", "nothing is scored; leave it out")
        return
    if extractor is None:
        message = f"{facts.name!r} has no labels to train a classifier on; set inception, or no scores"
        yield FieldError("evaluation.extractor", message)
        return
    yield from _extractor_fits(extractor, scores, facts)
    yield from _enough_real_images(scores, facts)
    if ScoreKind.FID in scores and evaluation.samples < FEATURES[extractor]:
        message = (
            f"fid of {evaluation.samples} images in {FEATURES[extractor]} dimensions is a covariance without "
            f"full rank; take at least {FEATURES[extractor]}, or leave fid out of scores"
        )
        yield FieldError("evaluation.samples", message)
    if evaluation.best_by is not None and evaluation.best_by not in scores:
        yield FieldError("evaluation.best_by", f"{evaluation.best_by} is not among scores")


def _extractor_fits(
    extractor: ExtractorKind, scores: Sequence[ScoreKind], facts: DatasetFacts
) -> Iterable[FieldError]:
    if extractor is ExtractorKind.CLASSIFIER:
        if len(facts.classes) < 2:
            message = (
                f"a classifier needs two classes, and {facts.name!r} has {len(facts.classes)}; set inception"
            )
            yield FieldError("evaluation.extractor", message)
        return
    for index, score in enumerate(scores):
        if score in OF_CLASSES:
            message = f"{score} needs extractor classifier: {extractor} does not know the dataset's classes"
            yield FieldError(f"evaluation.scores.{index}", message)


def _enough_real_images(scores: Sequence[ScoreKind], facts: DatasetFacts) -> Iterable[FieldError]:
    real = facts.count // 2
    for index, score in enumerate(scores):
        if real < 2 and score in OF_PAIRS:
            message = (
                f"{score} needs two real images, and half of {facts.name!r}, which is scored against, has "
                f"{real}; leave it out, or upload four images or more"
            )
            yield FieldError(f"evaluation.scores.{index}", message)


_RULES: tuple[Callable[[JobSpec, DatasetFacts], Iterable[FieldError]], ...] = (
    _batch_is_divisible,
    _optimizers_have_their_fields,
    _augmentations_fit,
    _classes_are_there,
    _scores_can_be_had,
)

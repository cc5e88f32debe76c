"""The values that a spec leaves out and that follow from the dataset and the budget, as a patch."""

import secrets
from typing import Any

from models.spec.augmentation import MAGNITUDES, DiscriminatorAugmentationKind
from models.spec.budget import every_steps, total_steps
from models.spec.data import DatasetFacts
from models.spec.diffusion import IN_TIMESTEPS, DiffusionSpec, NoiseScheduleKind, Prediction, Weighting
from models.spec.evaluation import (
    DEFAULT_SCORES,
    OF_CLASSES,
    OF_PAIRS,
    EvaluationSpec,
    ExtractorKind,
    ScoreKind,
)
from models.spec.gan import GanSpec, Penalty, PenaltySpec
from models.spec.interval import Interval
from models.spec.job import JobSpec
from models.spec.optimizer import OptimizerKind, OptimizerSpec, ScheduleKind
from models.spec.sampler_rules import usual_sampler
from models.spec.sampling import SamplerKind, SamplerSpec

_GRIDS_APART = {"gan": 1, "diffusion": 250}
"""Fewest steps between two sample grids where nothing is said: one costs as much as tens of steps."""

_EVALUATIONS_APART = {"gan": 1, "diffusion": 1000}

_SCORED_IN_STEPS = 10


def derived(spec: JobSpec, facts: DatasetFacts) -> dict[str, Any]:
    """The patch; a spec that is resolved has an empty effect."""
    steps = total_steps(spec)
    patch: dict[str, Any] = {
        "data": _data(spec, facts),
        "checkpoints": _checkpoints(spec, steps),
        "samples": _interval(spec.samples, steps, 20, _GRIDS_APART[spec.family]),
        "log_every_steps": spec.log_every_steps or max(1, steps // 1000),
        "optimizer": _optimizer(spec.optimizer, steps),
    }
    if spec.seed is None:
        patch["seed"] = secrets.randbelow(2**31)
    if spec.ema is not None and spec.ema.half_life_images is None:
        most = 20_000 if spec.family == "gan" else 900_000
        patch["ema"] = {"half_life_images": max(1, min(steps * spec.batch_size // 20, most))}
    if spec.conditional is not None:
        patch["conditional"] = {"classes": spec.conditional.classes or len(facts.classes) or None}
    if isinstance(spec, GanSpec):
        patch |= _gan(spec, patch["data"]["resolution"], steps)
    else:
        patch |= _diffusion(spec, facts)
        if spec.conditional is not None and spec.conditional.label_dropout is None:
            patch["conditional"]["label_dropout"] = 0.1
    if spec.evaluation is None:
        patch["data"]["held_out"] = 0.0
    else:
        patch["evaluation"] = _evaluation(spec, spec.evaluation, facts, steps)
    return patch


def _data(spec: JobSpec, facts: DatasetFacts) -> dict[str, Any]:
    patch: dict[str, Any] = {
        "resolution": spec.data.resolution or facts.resolution,
        "channels": spec.data.channels or facts.channels,
    }
    if spec.data.augmentations:
        patch["augmentations"] = [
            {**a.model_dump(mode="json"), "magnitude": a.magnitude or MAGNITUDES[a.kind]}
            for a in spec.data.augmentations
        ]
    return patch


def _gan(spec: GanSpec, resolution: int, steps: int) -> dict[str, Any]:
    width = 64 if resolution >= 64 else 32
    own = {"generator": spec.optimizers.generator, "discriminator": spec.optimizers.discriminator}
    patch: dict[str, Any] = {
        "generator": {"ngf": spec.generator.ngf or width},
        "discriminator": {"ndf": spec.discriminator.ndf or width},
        "optimizers": {name: _optimizer(each, steps) for name, each in own.items() if each is not None},
        "penalties": [_penalty(penalty, resolution, spec.batch_size) for penalty in spec.penalties],
        "lazy_rescaling": spec.lazy_rescaling or _lazy_rescaling(spec.penalties),
    }
    augmentation = spec.discriminator_augmentation
    if augmentation is not None and augmentation.kind is DiscriminatorAugmentationKind.ADA:
        patch["discriminator_augmentation"] = {
            "target": augmentation.target or 0.6,
            "adjustment_images": augmentation.adjustment_images
            or max(1, min(steps * spec.batch_size // 10, 500_000)),
        }
    return patch


def _penalty(penalty: PenaltySpec, resolution: int, batch_size: int) -> dict[str, Any]:
    usual = 10.0 if penalty.kind is Penalty.GRADIENT_PENALTY else 2e-4 * resolution**2 / batch_size
    return {**penalty.model_dump(mode="json"), "weight": penalty.weight or usual}


def _lazy_rescaling(penalties: tuple[PenaltySpec, ...]) -> float:
    return 1 / (1 + sum(1 / penalty.every for penalty in penalties if penalty.every > 1))


def _diffusion(spec: DiffusionSpec, facts: DatasetFacts) -> dict[str, Any]:
    schedule, loss = spec.noise_schedule, spec.loss
    patch: dict[str, Any] = {"sampler": _named(spec.sampler, usual_sampler(schedule.kind)), "loss": {}}
    if schedule.kind in IN_TIMESTEPS:
        patch["noise_schedule"] = {"timesteps": schedule.timesteps or 1000}
        patch["loss"]["prediction"] = loss.prediction or Prediction.EPSILON
    elif schedule.kind is NoiseScheduleKind.EDM:
        # Pixels scaled to [-1, 1] have twice the spread of [0, 1]; EDM's own 0.5 where none is known.
        patch["noise_schedule"] = {
            "sigma_min": schedule.sigma_min or 0.002,
            "sigma_max": schedule.sigma_max or 80.0,
            "rho": schedule.rho or 7.0,
            "sigma_data": schedule.sigma_data or (round(2 * facts.std, 4) if facts.std else 0.5),
            "time_mean": -1.2 if schedule.time_mean is None else schedule.time_mean,
            "time_std": schedule.time_std or 1.2,
        }
    else:
        patch["noise_schedule"] = {
            "time_mean": schedule.time_mean or 0.0,
            "time_std": schedule.time_std or 1.0,
        }
    if loss.weighting is Weighting.MIN_SNR:
        patch["loss"]["min_snr_gamma"] = loss.min_snr_gamma or 5.0
    return patch


def _named(sampler: SamplerSpec, kind: SamplerKind) -> dict[str, Any]:
    """The whole sampler: a patch of its kind alone would replace its other fields."""
    return {**sampler.model_dump(mode="json"), "kind": sampler.kind or kind}


def _evaluation(spec: JobSpec, evaluation: EvaluationSpec, facts: DatasetFacts, steps: int) -> dict[str, Any]:
    patch = _interval(evaluation, steps, 10, _EVALUATIONS_APART[spec.family])
    if "every_steps" in patch:
        # With every so many checkpoints, which its scores then belong to.
        stored = every_steps(spec.checkpoints.model_copy(update=_checkpoints(spec, steps)), spec.batch_size)
        patch["every_steps"] = min(steps, -(-patch["every_steps"] // stored) * stored)
    extractor = evaluation.extractor
    if extractor is None and len(facts.classes) > 1 and evaluation.scores != ():
        extractor = ExtractorKind.CLASSIFIER
    scores = evaluation.scores
    if scores is None:
        scores = usual_scores(extractor, facts)
    patch |= {"extractor": extractor if scores else None, "scores": list(scores)}
    if scores and evaluation.best_by is None:
        patch["best_by"] = ScoreKind.FID if ScoreKind.FID in scores else scores[0]
    if isinstance(spec, DiffusionSpec) and scores:
        patch["sampler"] = _scored_by(spec, evaluation)
    return patch


def _scored_by(spec: DiffusionSpec, evaluation: EvaluationSpec) -> dict[str, Any]:
    own = spec.sampler
    kind = own.kind or usual_sampler(spec.noise_schedule.kind)
    if evaluation.sampler is not None:
        return _named(evaluation.sampler, kind)
    return _named(own.model_copy(update={"steps": min(own.steps, _SCORED_IN_STEPS)}), kind)


def usual_scores(extractor: ExtractorKind | None, facts: DatasetFacts) -> tuple[ScoreKind, ...]:
    """All that an extractor and the number of images allow."""
    if extractor is None:
        return ()
    left_out = () if extractor is ExtractorKind.CLASSIFIER else OF_CLASSES
    if facts.count // 2 < 2:
        left_out = (*left_out, *OF_PAIRS)
    return tuple(score for score in DEFAULT_SCORES if score not in left_out)


def _checkpoints(spec: JobSpec, steps: int) -> dict[str, Any]:
    evaluation, own = spec.evaluation, spec.checkpoints
    if evaluation is not None and own.every_images is None and own.every_steps is None:
        given = {"every_images": evaluation.every_images, "every_steps": evaluation.every_steps}
        if any(given.values()):
            return given
    return _interval(own, steps, 10, 1)


def _interval(interval: Interval, steps: int, times: int, least: int) -> dict[str, Any]:
    if interval.every_images is not None or interval.every_steps is not None:
        return {}
    # Rounded up, so that the last one falls on the last step.
    return {"every_steps": min(steps, max(least, -(-steps // times)))}


def _optimizer(optimizer: OptimizerSpec, steps: int) -> dict[str, Any]:
    schedule = optimizer.schedule
    constant = schedule.kind is ScheduleKind.CONSTANT
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = 0 if constant else min(500, steps // 20)
    patch: dict[str, Any] = {"schedule": {"warmup_steps": warmup}}
    decaying = max(1, steps - warmup)
    if schedule.kind is ScheduleKind.STEP:
        patch["schedule"] |= {
            "gamma": schedule.gamma or 0.1,
            "step_size": schedule.step_size or max(1, -(-decaying // 3)),
        }
    if schedule.kind is ScheduleKind.EXPONENTIAL:
        patch["schedule"]["gamma"] = schedule.gamma or 0.01 ** (1 / decaying)
    if optimizer.kind in (OptimizerKind.ADAM, OptimizerKind.ADAMW):
        patch["betas"] = list(optimizer.betas or (0.9, 0.999))
    else:
        patch["momentum"] = optimizer.momentum or 0.0
    if optimizer.kind is OptimizerKind.RMSPROP:
        patch["alpha"] = optimizer.alpha or 0.99
    return patch

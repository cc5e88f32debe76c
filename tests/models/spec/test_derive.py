"""What a spec leaves out follows from the dataset and the budget, and is written into it."""

import math
from typing import Any

import pytest

from models.presets import PRESETS
from models.spec import BUILTIN_DATASETS, JobSpec, SamplerSpec, every_steps, sampler_of
from tests.models.spec.planning import planned


def at(spec: JobSpec, path: str) -> Any:
    value: Any = spec.model_dump(mode="json")
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


GAN: dict[str, Any] = {"family": "gan", "discriminator": {"norm": "none"}}
DIFFUSION: dict[str, Any] = {"family": "diffusion"}
EDM: dict[str, Any] = {**DIFFUSION, "noise_schedule": {"kind": "edm"}}
FLOW: dict[str, Any] = {**DIFFUSION, "noise_schedule": {"kind": "flow"}}


def penalised(*every: int) -> dict[str, Any]:
    kinds = ["r1", "r2", "gradient_penalty"]
    return {**GAN, "penalties": [{"kind": kinds[i], "every": steps} for i, steps in enumerate(every)]}


def decaying(kind: str, **schedule: Any) -> dict[str, Any]:
    return {**GAN, "budget": {"steps": 1000}, "optimizer": {"schedule": {"kind": kind, **schedule}}}


@pytest.mark.parametrize(
    ("raw", "path", "expected"),
    [
        ({**GAN, "dataset": "ds_photos"}, "data.resolution", 64),
        ({**GAN, "dataset": "ds_photos"}, "data.channels", 3),
        ({**GAN, "dataset": "ds_photos"}, "generator.ngf", 64),
        ({**GAN, "dataset": "fashion-mnist"}, "discriminator.ndf", 32),
        ({**GAN, "evaluation": None}, "data.held_out", 0.0),
        # γ of R1: 2e-4 · resolution² / batch (Karras et al. 2020, StyleGAN2-ADA).
        ({**penalised(1), "batch_size": 32}, "penalties.0.weight", 2e-4 * 16**2 / 32),
        ({**penalised(1, 1), "data": {"resolution": 64}}, "penalties.1.weight", 2e-4 * 64**2 / 64),
        (penalised(1, 1, 1), "penalties.2.weight", 10.0),
        (penalised(1), "lazy_rescaling", 1.0),
        (penalised(16), "lazy_rescaling", 16 / 17),
        (penalised(16, 1), "lazy_rescaling", 16 / 17),
        (penalised(4, 4), "lazy_rescaling", 2 / 3),  # two updates of penalties in four of the loss
        ({**GAN, "ema": {}, "budget": {"images": 64_000}}, "ema.half_life_images", 3200),
        ({**GAN, "ema": {}, "budget": {"images": 10**7}}, "ema.half_life_images", 20_000),
        ({**DIFFUSION, "ema": {}, "budget": {"images": 10**9}}, "ema.half_life_images", 900_000),
        ({**GAN, "ema": {}, "budget": {"steps": 1}, "batch_size": 8}, "ema.half_life_images", 1),
        ({**GAN, "conditional": {}}, "conditional.classes", 10),
        ({**GAN, "conditional": {}}, "conditional.label_dropout", None),
        ({**DIFFUSION, "conditional": {}}, "conditional.label_dropout", 0.1),
        ({**DIFFUSION, "conditional": {"label_dropout": 0.0}}, "conditional.label_dropout", 0.0),
        (decaying("constant"), "optimizer.schedule.warmup_steps", 0),
        (decaying("cosine"), "optimizer.schedule.warmup_steps", 50),
        ({**decaying("linear"), "budget": {"steps": 10**6}}, "optimizer.schedule.warmup_steps", 500),
        (decaying("step", warmup_steps=100), "optimizer.schedule.gamma", 0.1),
        (decaying("step", warmup_steps=100), "optimizer.schedule.step_size", 300),
        (decaying("exponential", warmup_steps=100), "optimizer.schedule.gamma", 0.01 ** (1 / 900)),
        (GAN, "optimizer.betas", [0.9, 0.999]),
        ({**GAN, "optimizer": {"kind": "sgd"}}, "optimizer.momentum", 0.0),
        ({**GAN, "optimizer": {"kind": "rmsprop"}}, "optimizer.alpha", 0.99),
        ({**GAN, "discriminator_augmentation": {}}, "discriminator_augmentation.target", None),
        ({**GAN, "discriminator_augmentation": {"kind": "ada"}}, "discriminator_augmentation.target", 0.6),
        (
            {**GAN, "discriminator_augmentation": {"kind": "ada"}, "budget": {"images": 64_000}},
            "discriminator_augmentation.adjustment_images",
            6400,
        ),
        ({**GAN, "data": {"augmentations": [{"kind": "rotation"}]}}, "data.augmentations.0.magnitude", 10.0),
        (DIFFUSION, "loss.prediction", "epsilon"),
        (DIFFUSION, "noise_schedule.timesteps", 1000),
        (DIFFUSION, "sampler.kind", "ddim"),
        ({**DIFFUSION, "sampler": {"steps": 10}}, "sampler.steps", 10),
        ({**DIFFUSION, "loss": {"weighting": "min_snr"}}, "loss.min_snr_gamma", 5.0),
        (EDM, "sampler.kind", "heun"),
        (EDM, "loss.prediction", None),
        # Pixels in [-1, 1] spread twice as far as in [0, 1].
        ({**EDM, "dataset": "ds_photos"}, "noise_schedule.sigma_data", 0.5),
        ({**EDM, "dataset": "digits"}, "noise_schedule.sigma_data", 0.712),
        ({**EDM, "dataset": "ds_letters"}, "noise_schedule.sigma_data", 0.5),  # not known: EDM's own
        (EDM, "noise_schedule.sigma_min", 0.002),
        (EDM, "noise_schedule.sigma_max", 80.0),
        (EDM, "noise_schedule.rho", 7.0),
        (EDM, "noise_schedule.time_mean", -1.2),
        (EDM, "noise_schedule.time_std", 1.2),
        ({**EDM, "noise_schedule": {"kind": "edm", "time_mean": 0.0}}, "noise_schedule.time_mean", 0.0),
        (FLOW, "sampler.kind", "euler"),
        (FLOW, "noise_schedule.time_mean", 0.0),
        (FLOW, "noise_schedule.time_std", 1.0),
        ({**GAN, "evaluation": {}}, "evaluation.extractor", "classifier"),
        ({**GAN, "evaluation": {}}, "evaluation.best_by", "fid"),
        ({**GAN, "evaluation": {"scores": ["kid", "precision_recall"]}}, "evaluation.best_by", "kid"),
        ({**GAN, "evaluation": {}, "dataset": "ds_photos"}, "evaluation.scores", []),
        (
            {**GAN, "evaluation": {}, "dataset": "ds_three"},
            "evaluation.scores",
            ["inception_score", "class_histogram", "mode_coverage"],
        ),
        ({**GAN, "evaluation": {}, "dataset": "ds_three"}, "evaluation.best_by", "inception_score"),
        ({**GAN, "evaluation": {}, "dataset": "ds_photos"}, "evaluation.extractor", None),
        (
            {**GAN, "evaluation": {"extractor": "inception", "samples": 2048}},
            "evaluation.scores",
            ["fid", "kid", "inception_score", "precision_recall"],
        ),
        ({**DIFFUSION, "evaluation": {}}, "evaluation.sampler.steps", 10),
        ({**EDM, "evaluation": {}}, "evaluation.sampler.kind", "heun"),
        ({**DIFFUSION, "evaluation": {}, "sampler": {"steps": 5}}, "evaluation.sampler.steps", 5),
        (
            {**DIFFUSION, "evaluation": {}, "noise_schedule": {"timesteps": 15}, "sampler": {"steps": 15}},
            "evaluation.sampler.steps",
            10,
        ),
        ({**DIFFUSION, "evaluation": {"sampler": {"steps": 7}}}, "evaluation.sampler.kind", "ddim"),
    ],
)
def test_what_is_left_out_is_written(raw: dict[str, Any], path: str, expected: Any) -> None:
    value = at(planned(raw).spec, path)
    assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_an_exponential_decay_ends_at_a_hundredth() -> None:
    spec = planned(decaying("exponential", warmup_steps=0)).spec
    gamma = spec.optimizer.schedule.gamma
    assert gamma is not None
    assert math.isclose(gamma**1000, 0.01)


BUDGETS = [{"steps": 1}, {"steps": 99}, {"images": 10_000}, {"images": 300_000}, {"images": 10**7}]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", BUILTIN_DATASETS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_presets_hold_from_one_step_to_ten_million_images(
    preset: str, dataset: str, budget: dict[str, int]
) -> None:
    """A run is logged, shown, stored and measured often enough to be followed, and no more often."""
    plan = planned({"preset": preset, "dataset": dataset, "budget": budget})
    spec, steps = plan.spec, plan.steps
    assert plan.warnings == ()
    assert 1 <= steps / (spec.log_every_steps or 0) < 2000
    assert 1 <= -(-steps // every_steps(spec.samples, spec.batch_size)) <= 20
    stored = every_steps(spec.checkpoints, spec.batch_size)
    assert 1 <= -(-steps // stored) <= 10
    if spec.evaluation is not None:
        measured = every_steps(spec.evaluation, spec.batch_size)
        assert measured <= steps
        assert measured % stored == 0 or measured == steps
        if spec.family == "diffusion":
            assert measured >= min(steps, 1000)  # each costs as much as about a hundred steps
    if spec.ema is not None:
        assert 1 <= (spec.ema.half_life_images or 0) <= max(1, steps * spec.batch_size / 10)
    assert (spec.optimizer.schedule.warmup_steps or 0) < steps


@pytest.mark.parametrize(("raw", "kind"), [(DIFFUSION, "ddim"), (EDM, "heun"), (FLOW, "euler")])
def test_a_sampler_without_a_kind_is_of_the_models_own(raw: dict[str, Any], kind: str) -> None:
    spec = planned(raw).spec
    assert spec.family == "diffusion"
    assert sampler_of(spec, SamplerSpec(steps=10)) == SamplerSpec(kind=kind, steps=10)
    assert sampler_of(spec, None) == spec.sampler

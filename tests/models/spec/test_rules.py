"""Refusals of both families: what is to be changed, what the reason names, and that the remedy helps."""

from typing import Any

import pytest

from tests.models.spec.planning import check_refusal

GAN: dict[str, Any] = {"family": "gan"}
SCORED: dict[str, Any] = {**GAN, "evaluation": {}}

CASES = [
    (GAN, {"batch_size": 64, "accumulation": 3}, "accumulation", ["batch_size"], {"accumulation": 4}),
    (
        GAN,
        {"optimizer": {"momentum": 0.9}},
        "optimizer.momentum",
        ["kind adam"],
        {"optimizer": {"kind": "sgd"}},
    ),
    (GAN, {"optimizer": {"alpha": 0.9}}, "optimizer.alpha", ["rmsprop"], {"optimizer": {"kind": "rmsprop"}}),
    (
        GAN,
        {"optimizer": {"kind": "sgd", "betas": [0.5, 0.9]}},
        "optimizer.betas",
        ["kind sgd"],
        {"optimizer": {"kind": "adamw"}},
    ),
    (
        GAN,
        {"optimizers": {"generator": {"kind": "sgd", "alpha": 0.5}}},
        "optimizers.generator.alpha",
        ["kind sgd"],
        {"optimizers": {"generator": {"alpha": None}}},
    ),
    (
        GAN,
        {"optimizer": {"schedule": {"kind": "linear", "gamma": 0.5}}},
        "optimizer.schedule.gamma",
        ["kind linear", "exponential"],
        {"optimizer": {"schedule": {"kind": "step"}}},
    ),
    (
        GAN,
        {"optimizer": {"schedule": {"kind": "exponential", "step_size": 5}}},
        "optimizer.schedule.step_size",
        ["kind exponential"],
        {"optimizer": {"schedule": {"kind": "step"}}},
    ),
    (
        GAN,
        {"optimizer": {"clip_grad_norm": 1.0, "clip_grad_value": 1.0}},
        "optimizer.clip_grad_value",
        ["clip_grad_norm"],
        {"optimizer": {"clip_grad_norm": None}},
    ),
    (
        GAN,
        {"batch_size": 1, "budget": {"images": 10**9}},
        "budget.images",
        ["batch_size"],
        {"budget": {"images": 10**6}, "batch_size": 8},
    ),
    (
        GAN,
        {"data": {"augmentations": [{"kind": "crop"}, {"kind": "cutout"}]}},
        "data.augmentations.1.kind",
        ["discriminator_augmentation.policy"],
        {"data": {"augmentations": [{"kind": "crop"}]}, "discriminator_augmentation": {"policy": ["cutout"]}},
    ),
    (
        GAN,
        {"data": {"augmentations": [{"kind": "crop", "magnitude": 2.0}]}},
        "data.augmentations.0.magnitude",
        ["crop"],
        {"data": {"augmentations": [{"kind": "crop", "magnitude": 0.25}]}},
    ),
    (GAN, {"conditional": {}, "dataset": "ds_photos"}, "conditional", ["dataset"], {"dataset": "digits"}),
    (
        GAN,
        {"conditional": {"classes": 3}},
        "conditional.classes",
        ["10 classes"],
        {"conditional": {"classes": 10}},
    ),
    (
        SCORED,
        {"evaluation": {"scores": [], "best_by": "fid"}},
        "evaluation.best_by",
        ["scored"],
        {"evaluation": {"best_by": None}},
    ),
    (
        SCORED,
        {"dataset": "ds_photos", "evaluation": {"scores": ["fid"], "samples": 4096}},
        "evaluation.extractor",
        ["labels", "scores"],
        {"evaluation": {"extractor": "inception"}},
    ),
    (
        SCORED,
        {"dataset": "ds_single", "evaluation": {"extractor": "classifier"}},
        "evaluation.extractor",
        ["two classes"],
        {"evaluation": {"extractor": "inception", "samples": 2048}},
    ),
    (
        SCORED,
        {"evaluation": {"samples": 63}},
        "evaluation.samples",
        ["fid", "64", "scores"],
        {"evaluation": {"samples": 64}},
    ),
    (
        SCORED,
        {"evaluation": {"extractor": "inception"}},
        "evaluation.samples",
        ["2048"],
        {"evaluation": {"scores": ["kid"]}},
    ),
    (
        SCORED,
        {"evaluation": {"scores": ["kid"], "best_by": "fid"}},
        "evaluation.best_by",
        ["scores"],
        {"evaluation": {"best_by": "kid"}},
    ),
    (
        SCORED,
        {"evaluation": {"extractor": "inception", "samples": 2048, "scores": ["fid", "mode_coverage"]}},
        "evaluation.scores.1",
        ["extractor"],
        {"evaluation": {"extractor": "classifier"}},
    ),
    *(
        (
            {**SCORED, "dataset": "ds_three", "batch_size": 8},
            {"evaluation": {"scores": ["mode_coverage", score]}},
            "evaluation.scores.1",
            [f"{score} needs two real images", "half of 'ds_three'", "four images"],
            {"evaluation": {"scores": ["mode_coverage"]}},
        )
        for score in ("fid", "kid", "precision_recall")
    ),
]


@pytest.mark.parametrize(("base", "change", "path", "named", "remedy"), CASES)
def test_a_bad_combination_is_refused_with_its_reason_and_its_remedy_is_taken(
    base: dict[str, Any], change: dict[str, Any], path: str, named: list[str], remedy: dict[str, Any]
) -> None:
    check_refusal(base, change, path, named, remedy)

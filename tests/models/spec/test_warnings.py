"""What is allowed and probably not meant: a warning in the spec that names the fields and can be silenced."""

from typing import Any

import pytest

from models.presets import PRESETS
from models.spec.merge import merge
from tests.models.spec.planning import planned

GAN: dict[str, Any] = {"family": "gan", "optimizer": {"betas": [0.5, 0.999]}}
DIFFUSION: dict[str, Any] = {"family": "diffusion"}
FLIP = [{"kind": "horizontal_flip"}]

CASES = [
    (
        GAN,
        {"data": {"resolution": 64}},
        ["data.resolution 64", "16 px", "enlarged"],
        {"data": {"resolution": 16}},
    ),
    (
        GAN,
        {"dataset": "ds_photos", "data": {"channels": 1}},
        ["data.channels 1", "grey"],
        {"data": {"channels": 3}},
    ),
    (GAN, {"batch_size": 4096}, ["batch_size 4096", "1797"], {"batch_size": 64}),
    (
        GAN,
        {"dataset": "ds_photos", "data": {"drop_suspects": True}},
        ["data.drop_suspects", "labels"],
        {"data": {"drop_suspects": False}},
    ),
    *(
        (
            {**family, "dataset": dataset},
            {"data": {"augmentations": [{"kind": "crop"}, *FLIP]}},
            ["data.augmentations.1", "mirrors the characters"],
            {"dataset": "ds_photos"},
        )
        for family in (GAN, DIFFUSION)
        for dataset in ("digits", "ds_letters")
    ),
    (
        GAN,
        {"discriminator_augmentation": {"policy": ["colour", "horizontal_flip"]}},
        ["discriminator_augmentation.policy.1", "mirrors the characters"],
        {"discriminator_augmentation": {"policy": ["colour"]}},
    ),
    (
        {**GAN, "loss": {"kind": "relativistic"}},
        {"discriminator_augmentation": {"kind": "ada"}},
        ["discriminator_augmentation.kind ada", "loss.kind relativistic", "diffaugment"],
        {"discriminator_augmentation": {"kind": "diffaugment"}},
    ),
    *(
        (
            family,
            {"data": {"augmentations": [{"kind": kind}]}},
            ["data.augmentations.0", f"{kind} makes blends"],
            {"data": {"augmentations": []}},
        )
        for family in (GAN, DIFFUSION)
        for kind in ("mixup", "cutmix", "augmix")
    ),
    (GAN, {"optimizer": {"betas": [0.9, 0.999]}}, ["optimizer.betas", "β1 = 0.9"], GAN),
    (
        GAN,
        {"optimizers": {"discriminator": {"betas": [0.95, 0.999]}}},
        ["optimizers.discriminator.betas", "β1 = 0.95"],
        {"optimizers": {"discriminator": {"betas": [0.0, 0.9]}}},
    ),
    (
        DIFFUSION,
        {"budget": {"steps": 9}, "optimizer": {"schedule": {"warmup_steps": 9}}},
        ["optimizer.schedule.warmup_steps 9", "9 steps", "learning_rate"],
        {"budget": {"steps": 10}},
    ),
    (
        GAN,
        {"optimizers": {"generator": {"schedule": {"warmup_steps": 10_000}}}},
        ["optimizers.generator.schedule.warmup_steps 10000"],
        {"budget": {"steps": 20_000}},
    ),
    *(
        (
            merge(GAN, {name: {"spectral_norm": True}}),
            {"optimizer": {"weight_decay": 0.1}},
            ["optimizer.weight_decay 0.1", f"{name}.spectral_norm"],
            {"optimizers": {name: {"weight_decay": 0.0}}},
        )
        for name in ("generator", "discriminator")
    ),
    (
        GAN,
        {"discriminator": {"weight_clip": 0.01}, "optimizer": {"clip_grad_norm": 1.0}},
        ["optimizer.clip_grad_norm", "discriminator.weight_clip"],
        {"optimizer": {"clip_grad_norm": None}, "optimizers": {"generator": {"clip_grad_norm": 1.0}}},
    ),
    (
        merge(GAN, {"discriminator": {"weight_clip": 0.01}}),
        {"optimizers": {"discriminator": {"clip_grad_norm": 1.0}}},
        ["optimizers.discriminator.clip_grad_norm", "discriminator.weight_clip"],
        {"discriminator": {"weight_clip": None}},
    ),
    (
        GAN,
        {"budget": {"images": 64_000}, "ema": {"half_life_images": 6401}},
        ["ema.half_life_images 6401", "64000 images", "10 %"],
        {"ema": {"half_life_images": 6400}},
    ),
    (
        GAN,
        {"dataset": "ds_photos", "evaluation": {}},
        ["evaluation.scores", "classes", "inception"],
        {"evaluation": {"extractor": "inception", "scores": ["kid"]}},
    ),
    (
        GAN,
        {"evaluation": {}, "data": {"held_out": 0.0}},
        ["data.held_out 0.0", "1797 images"],
        {"data": {"held_out": 0.05}},
    ),
    (
        {**GAN, "dataset": "ds_few", "batch_size": 8},
        {"evaluation": {"scores": []}},
        ["data.held_out 0.05", "10 images"],
        {"data": {"held_out": 0.1}},
    ),
    (
        {**GAN, "dataset": "ds_few", "batch_size": 8, "data": {"held_out": 0.1}},
        {"evaluation": {"scores": ["fid", "kid"]}},
        ["evaluation.scores", "5 real images", "64 dimensions"],
        {"evaluation": {"scores": ["kid"]}},
    ),
    (
        GAN,
        {"evaluation": {"every_steps": 15}, "checkpoints": {"every_steps": 10}},
        ["evaluation", "15 steps", "checkpoints every 10"],
        {"checkpoints": {"every_steps": 5}},
    ),
]


@pytest.mark.parametrize(("base", "change", "words", "remedy"), CASES)
def test_a_spec_says_what_is_probably_not_meant(
    base: dict[str, Any], change: dict[str, Any], words: list[str], remedy: dict[str, Any]
) -> None:
    assert planned(base).warnings == ()
    raw = merge(base, change)
    plan = planned(raw)
    assert len(plan.warnings) == 1
    for word in words:
        assert word in plan.warnings[0]
    assert plan.spec.warnings == plan.warnings
    assert planned(merge(raw, remedy)).warnings == ()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_meant(preset: str) -> None:
    assert planned({"preset": preset}).warnings == ()


def test_an_optimizer_that_no_network_uses_is_not_warned_of() -> None:
    own = {"betas": [0.0, 0.9]}
    raw = {"family": "gan", "optimizers": {"generator": own, "discriminator": own}}
    assert planned(raw).warnings == ()  # the shared one has the usual β1 = 0.9


@pytest.mark.parametrize("posted", [["all is well"], [3], "x", None, {"a": "\x00"}])
def test_posted_warnings_are_ignored_and_written_anew(posted: Any) -> None:
    raw = {**GAN, "seed": 1, "data": {"resolution": 64}}
    expected = planned(raw).warnings
    assert len(expected) == 1
    assert planned({**raw, "warnings": posted}).warnings == expected
    assert planned({**planned(raw).spec.model_dump(mode="json"), "data": {}}).warnings == ()

"""Refusals of GANs: what is to be changed, what the reason names, and that the remedy helps."""

from typing import Any

import pytest

from tests.models.spec.planning import check_refusal, planned

GAN: dict[str, Any] = {"family": "gan"}
PLAIN: dict[str, Any] = {**GAN, "discriminator": {"norm": "none"}}
SCORED: dict[str, Any] = {**GAN, "evaluation": {}}
GP = [{"kind": "gradient_penalty"}]

CASES = [
    *(
        (
            {**GAN, "loss": {"kind": loss}, "discriminator": {"weight_clip": weight_clip}},
            {"discriminator": {"output": "sigmoid"}},
            "discriminator.output",
            [f"loss.kind {loss}"],
            {"discriminator": {"output": "logits"}},
        )
        for loss, weight_clip in [("wasserstein", 0.01), ("hinge", None), ("relativistic", None)]
    ),
    (
        GAN,
        {"loss": {"kind": "wasserstein"}},
        "loss.kind",
        ["discriminator.weight_clip", "gradient_penalty", "discriminator.spectral_norm", "none"],
        {"discriminator": {"spectral_norm": True}},
    ),
    (
        PLAIN,
        {"loss": {"kind": "wasserstein"}, "penalties": GP, "discriminator": {"weight_clip": 0.01}},
        "loss.kind",
        ["discriminator.weight_clip and penalties of kind gradient_penalty"],
        {"discriminator": {"weight_clip": None}},
    ),
    *(
        (
            GAN,
            {"penalties": [{"kind": kind}]},
            "discriminator.norm",
            ["BatchNorm", f"{kind} of penalties"],
            {"discriminator": {"norm": "instance"}},
        )
        for kind in ("gradient_penalty", "r1", "r2")
    ),
    (
        PLAIN,
        {"penalties": [{"kind": "r1"}, {"kind": "r2"}, {"kind": "r1"}]},
        "penalties.2.kind",
        ["r1", "twice"],
        {"penalties": [{"kind": "r1"}, {"kind": "r2"}]},
    ),
    (PLAIN, {"penalties": GP, "compile": True}, "compile", ["penalties"], {"compile": False}),
    (
        GAN,
        {"batch_size": 16, "accumulation": 4},
        "batch_size",
        ["accumulation", "generator.norm", "discriminator.norm", "BatchNorm"],
        {"accumulation": 2},
    ),
    (
        {**GAN, "generator": {"norm": "group"}},
        {"batch_size": 4},
        "batch_size",
        ["(discriminator.norm)"],
        {"discriminator": {"norm": "group"}},
    ),
    *(
        (
            GAN,
            {name: {"attention_resolutions": [8, 5]}},
            f"{name}.attention_resolutions.1",
            ["4, 8"],
            {name: {"attention_resolutions": [8]}},
        )
        for name in ("generator", "discriminator")
    ),
    (
        GAN,
        {"generator": {"norm": "group", "norm_groups": 24}},
        "generator.norm_groups",
        ["64"],
        {"generator": {"norm_groups": 16}},
    ),
    (
        GAN,
        {"discriminator": {"ndf": 6, "norm": "group", "norm_groups": 8}},
        "discriminator.norm_groups",
        ["12"],  # and not 6: the first map is not normalised
        {"discriminator": {"norm_groups": 12}},
    ),
    *(
        (
            GAN,
            {"discriminator_augmentation": {"policy": ["colour", kind]}},
            "discriminator_augmentation.policy.1",
            [kind, "gradient", "one side"],
            {"discriminator_augmentation": {"policy": ["colour"]}},
        )
        for kind in ("crop", "mixup", "cutmix", "augmix")
    ),
    (
        GAN,
        {"discriminator_augmentation": {"policy": ["colour", "colour"]}},
        "discriminator_augmentation.policy.1",
        ["twice"],
        {"discriminator_augmentation": {"policy": ["colour"]}},
    ),
    *(
        (
            GAN,
            {"discriminator_augmentation": {"kind": "diffaugment", name: value}},
            f"discriminator_augmentation.{name}",
            ["ada"],
            {"discriminator_augmentation": {"kind": "ada", name: value}},
        )
        for name, value in [("target", 0.5), ("adjustment_images", 5)]
    ),
    (
        {**GAN, "conditional": {}},
        {"conditional": {"label_dropout": 0.1}},
        "conditional.label_dropout",
        ["GAN"],
        {"conditional": {"label_dropout": None}},
    ),
    (
        SCORED,
        {"evaluation": {"sampler": {"steps": 5}}},
        "evaluation.sampler",
        ["GAN"],
        {"evaluation": {"sampler": None}},
    ),
]


@pytest.mark.parametrize(("base", "change", "path", "named", "remedy"), CASES)
def test_a_bad_combination_is_refused_with_its_reason_and_its_remedy_is_taken(
    base: dict[str, Any], change: dict[str, Any], path: str, named: list[str], remedy: dict[str, Any]
) -> None:
    check_refusal(base, change, path, named, remedy)


def test_fp16_goes_with_penalties() -> None:
    """Penalties run in fp32 whatever the networks run in."""
    planned({**PLAIN, "precision": "fp16", "penalties": GP})

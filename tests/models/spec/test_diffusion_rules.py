"""Refusals of diffusion models and their samplers: what is to be changed, and that the remedy helps."""

from typing import Any

import pytest

from tests.models.spec.planning import check_refusal, refusals

DIFFUSION: dict[str, Any] = {"family": "diffusion"}
LABELLED: dict[str, Any] = {**DIFFUSION, "conditional": {}}

CASES = [
    (
        DIFFUSION,
        {"network": {"multipliers": [1, 1, 1, 1]}},
        "network.multipliers",
        ["16 px", "2 px"],
        {"data": {"resolution": 32}},
    ),
    (
        DIFFUSION,
        {"network": {"channels": 20}},
        "network.norm_groups",
        ["20 × 1"],
        {"network": {"norm_groups": 10}},
    ),
    (
        DIFFUSION,
        {"network": {"attention_resolutions": [8, 64]}},
        "network.attention_resolutions.1",
        ["16, 8, 4"],
        {"network": {"attention_resolutions": [8]}},
    ),
    (
        DIFFUSION,
        {"network": {"kind": "dit", "width": 100, "heads": 8}},
        "network.width",
        ["heads (8)"],
        {"network": {"heads": 4}},
    ),
    (
        DIFFUSION,
        {"network": {"kind": "dit", "patch_size": 16}},
        "network.patch_size",
        ["16 px"],
        {"data": {"resolution": 32}},
    ),
    (
        DIFFUSION,
        {"network": {"kind": "dit", "patch_size": 2}, "data": {"resolution": 256}},
        "network.patch_size",
        ["16384 tokens"],
        {"network": {"patch_size": 4}},
    ),
    *(
        (
            DIFFUSION,
            {"noise_schedule": {"kind": "cosine", name: value}},
            f"noise_schedule.{name}",
            ["kind cosine", "edm"],
            {"noise_schedule": {"kind": "edm", name: value}},
        )
        for name, value in [
            ("sigma_min", 0.1),
            ("sigma_max", 10.0),
            ("rho", 5.0),
            ("sigma_data", 0.5),
            ("time_mean", 0.5),
            ("time_std", 0.5),
        ]
    ),
    *(
        (
            DIFFUSION,
            {"noise_schedule": {"kind": kind, "timesteps": 100}},
            "noise_schedule.timesteps",
            [f"kind {kind}"],
            {"noise_schedule": {"timesteps": None}},
        )
        for kind in ("edm", "flow")
    ),
    (
        DIFFUSION,
        {"noise_schedule": {"kind": "flow", "zero_terminal_snr": True}},
        "noise_schedule.zero_terminal_snr",
        ["flow"],
        {"noise_schedule": {"zero_terminal_snr": False}},
    ),
    (
        DIFFUSION,
        {"noise_schedule": {"zero_terminal_snr": True}},
        "loss.prediction",
        ["zero_terminal_snr", "v or x0"],
        {"loss": {"prediction": "v"}},
    ),
    (
        {**DIFFUSION, "noise_schedule": {"kind": "edm"}},
        {"loss": {"prediction": "v"}},
        "loss.prediction",
        ["noise_schedule.kind edm"],
        {"loss": {"prediction": None}},
    ),
    (
        {**DIFFUSION, "noise_schedule": {"kind": "flow"}},
        {"loss": {"weighting": "min_snr"}},
        "loss.weighting",
        ["noise_schedule.kind flow"],
        {"loss": {"weighting": "uniform"}},
    ),
    (
        DIFFUSION,
        {"loss": {"min_snr_gamma": 3.0}},
        "loss.min_snr_gamma",
        ["min_snr"],
        {"loss": {"weighting": "min_snr"}},
    ),
    (DIFFUSION, {"data": {"range": [0, 1]}}, "data.range", ["[-1, 1]"], {"data": {"range": [-1, 1]}}),
    (
        DIFFUSION,
        {"sampler": {"kind": "heun"}},
        "sampler.kind",
        ["noise_schedule.kind cosine", "ddim"],
        {"noise_schedule": {"kind": "flow"}},
    ),
    (
        {**DIFFUSION, "noise_schedule": {"kind": "edm"}, "evaluation": {}},
        {"evaluation": {"sampler": {"kind": "ddim"}}},
        "evaluation.sampler.kind",
        ["noise_schedule.kind edm", "heun"],
        {"evaluation": {"sampler": {"kind": "euler"}}},
    ),
    (
        DIFFUSION,
        {"sampler": {"steps": 2000}},
        "sampler.steps",
        ["noise_schedule.timesteps 1000"],
        {"noise_schedule": {"timesteps": 2000}},
    ),
    (
        DIFFUSION,
        {"sampler": {"kind": "unipc", "eta": 0.5}},
        "sampler.eta",
        ["kind unipc"],
        {"sampler": {"kind": "ddim", "eta": 0.5}},
    ),
    (
        DIFFUSION,
        {"sampler": {"guidance_scale": 2.0}},
        "sampler.guidance_scale",
        ["conditional"],
        {"conditional": {}},
    ),
    (
        LABELLED,
        {"conditional": {"label_dropout": 0.0}, "sampler": {"guidance_scale": 2.0}},
        "sampler.guidance_scale",
        ["conditional.label_dropout"],
        {"conditional": {"label_dropout": 0.1}},
    ),
]


@pytest.mark.parametrize(("base", "change", "path", "named", "remedy"), CASES)
def test_a_bad_combination_is_refused_with_its_reason_and_its_remedy_is_taken(
    base: dict[str, Any], change: dict[str, Any], path: str, named: list[str], remedy: dict[str, Any]
) -> None:
    check_refusal(base, change, path, named, remedy)


def test_a_sampler_that_an_evaluation_takes_over_is_refused_once() -> None:
    raw = {"preset": "ddpm", "noise_schedule": {"kind": "edm"}, "sampler": {"kind": "ddim"}, "evaluation": {}}
    assert list(refusals(raw)) == ["sampler.kind"]

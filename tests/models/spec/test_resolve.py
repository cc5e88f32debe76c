"""What a client posts becomes a complete spec, or errors that name every bad field."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.presets import PRESETS
from models.spec import SpecError, every_steps, load_spec
from models.spec.merge import merge
from tests.models.spec.planning import planned, refusals


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist", "ds_photos"])
def test_a_resolved_spec_resolves_to_itself(preset: str, dataset: str) -> None:
    """Posting a job's spec again must repeat the job, so resolving may not change a resolved spec."""
    once = planned({"preset": preset, "dataset": dataset})
    dumped = once.spec.model_dump(mode="json")
    assert planned(dumped) == once
    assert load_spec(dumped) == once.spec
    without_preset = planned({**dumped, "preset": None})
    assert without_preset.spec.model_copy(update={"preset": preset}) == once.spec


def test_overrides_reach_the_spec_and_the_rest_of_the_preset_stays() -> None:
    spec = planned({"preset": "dcgan", "optimizer": {"learning_rate": 1e-3}}).spec
    assert spec.optimizer.learning_rate == 1e-3
    assert spec.optimizer.betas == (0.5, 0.999)
    assert spec.optimizer.clip_grad_norm == 1.0


@pytest.mark.parametrize(
    ("preset", "steps", "every"),
    [("dcgan", 100, 5), ("dcgan", 7, 1), ("ddpm", 10_000, 500), ("ddpm", 1000, 250), ("ddpm", 20, 20)],
)
def test_sample_grids_cost_little_of_a_run(preset: str, steps: int, every: int) -> None:
    """Twenty grids of 50 sampler steps each would take longer than a run of 1,000 diffusion steps."""
    spec = planned({"preset": preset, "budget": {"steps": steps}}).spec
    assert every_steps(spec.samples, spec.batch_size) == every
    assert steps % every == 0 or preset == "dcgan"


def test_one_form_of_a_budget_replaces_the_other() -> None:
    result = planned({"preset": "dcgan", "budget": {"steps": 5}})
    assert (result.spec.budget.steps, result.spec.budget.images, result.steps) == (5, None, 5)
    assert planned({"preset": "dcgan", "budget": {"images": 65}}).steps == 2  # rounded up


def test_a_network_may_have_its_own_optimizer() -> None:
    raw = {"preset": "dcgan", "optimizers": {"discriminator": {"learning_rate": 4e-4}}}
    spec = planned(raw).spec
    assert spec.optimizers.generator is None
    assert spec.optimizers.discriminator.learning_rate == 4e-4
    assert spec.optimizers.discriminator.betas == spec.optimizer.betas
    assert spec.optimizers.discriminator.schedule == spec.optimizer.schedule


def test_another_kind_of_optimizer_takes_nothing_of_the_shared_one() -> None:
    raw = {"preset": "dcgan", "optimizers": {"discriminator": {"kind": "rmsprop", "learning_rate": 5e-5}}}
    own = planned(raw).spec.optimizers.discriminator
    assert (own.betas, own.alpha, own.clip_grad_norm, own.schedule.kind) == (None, 0.99, None, "constant")
    shared = {"learning_rate": 1e-3}  # adam, though it does not say so
    same = {"family": "gan", "optimizer": shared, "optimizers": {"generator": {"kind": "adam", "eps": 1e-6}}}
    assert planned(same).spec.optimizers.generator.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("dataset", "resolution", "width"), [("digits", 16, 32), ("fashion-mnist", 32, 32), ("ds_photos", 64, 64)]
)
def test_resolution_channels_and_widths_follow_the_dataset(dataset: str, resolution: int, width: int) -> None:
    spec = planned({"preset": "dcgan", "dataset": dataset}).spec
    assert spec.data.resolution == resolution
    assert spec.data.channels == (3 if dataset == "ds_photos" else 1)
    assert spec.generator.ngf == spec.discriminator.ndf == width


def test_a_seed_left_out_is_drawn_and_written() -> None:
    seeds = {planned({"preset": "dcgan"}).spec.seed for _ in range(5)}
    assert None not in seeds
    assert len(seeds) == 5


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            {"preset": "dcgan", "optimizer": {"learning_rate": -1, "speed": 2}},
            {"optimizer.learning_rate", "optimizer.speed"},
        ),
        ({"preset": "dcgan", "surprise": 1, "batch_size": "64"}, {"surprise", "batch_size"}),
        ({"preset": "dcgan", "batch_size": 64.5}, {"batch_size"}),
        ({"preset": "dcgan", "batch_size": True}, {"batch_size"}),
        ({"preset": "dcgan", "seed": -1}, {"seed"}),
        ({"preset": "dcgan", "seed": 2**53}, {"seed"}),
        ({"preset": "dcgan", "optimizer": {"learning_rate": float("nan")}}, {"optimizer.learning_rate"}),
        ({"preset": "dcgan", "budget": {"images": 5, "steps": 5}}, {"budget"}),
        ({"preset": "dcgan", "network": {"kind": "unet"}}, {"network"}),
        ({"preset": "dcgan", "name": "nul\x00"}, {"name"}),
        ({"preset": "dcgan", "metadata": {"k" * 65: "v"}}, {f"metadata.{'k' * 65}"}),
        ({"preset": "dcgan", "family": "diffusion"}, {"family"}),
        ({"preset": "nope"}, {"preset"}),
        ({"preset": ["dcgan"]}, {"preset"}),
        ({}, {"family"}),
        ({"family": "vae"}, {"family"}),
        ({"preset": "dcgan", "dataset": "nope"}, {"dataset"}),
        ({"preset": "dcgan", "data": {"resolution": 48}}, {"data.resolution"}),
        ({"preset": "dcgan", "optimizers": {"critic": {}}}, {"optimizers.critic"}),
        ({"preset": "dcgan", "optimizers": {"generator": 3}}, {"optimizers.generator"}),
        ({"preset": "ddpm", "optimizers": {}}, {"optimizers"}),
        ({"preset": "ddpm", "network": {"channels": 1, "width": 5}}, {"network.channels", "network.width"}),
        ({"preset": "ddpm", "network": {"kind": "vit"}}, {"network.kind"}),
        ({"preset": "ddpm", "network": {"kind": "dit", "heads": 0}}, {"network.heads"}),
        ({"preset": "ddpm", "network": 3}, {"network"}),
        ({"preset": "dcgan", "penalties": [{"weight": 1.0}]}, {"penalties.0.kind"}),
    ],
)
def test_every_bad_field_is_named(raw: dict[str, Any], expected: set[str]) -> None:
    assert set(refusals(raw)) == expected


def test_a_text_that_is_too_long_is_said_in_characters() -> None:
    for raw in ({"name": "x" * 101}, {"metadata": {"team": "x" * 513}}, {"metadata": {"x" * 65: "v"}}):
        with pytest.raises(SpecError, match=r"must have at most \d+ characters; it has \d+") as caught:
            planned({"preset": "dcgan", **raw})
        assert "item" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.sampled_from(
        ["optimizer", "budget", "data", "seed", "metadata", "ema", "generator", "optimizers", "name"]
    ),
)
def test_no_value_of_a_field_is_more_than_a_spec_error(value: Any, field: str) -> None:
    """Whatever JSON a client puts into a field, no exception but SpecError may reach the client."""
    with contextlib.suppress(SpecError):
        planned({"preset": "dcgan", field: value})


@pytest.mark.parametrize("steps", [1, 10, 50, 100, 200, 250, 500, 600, 1000])
def test_usual_numbers_of_sampler_steps_are_taken(steps: int) -> None:
    assert (
        planned({"preset": "ddpm", "sampler": {"kind": "ddim", "steps": steps}}).spec.sampler.steps == steps
    )


def test_specs_are_frozen() -> None:
    spec = planned({"preset": "dcgan"}).spec
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3


def test_merge_follows_rfc_7396() -> None:
    """The example table of RFC 7396, appendix A, where it holds objects."""
    cases = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for base, patch, merged in cases:
        assert merge(base, patch) == merged


def test_a_null_that_names_no_field_is_refused_and_one_that_names_one_is_not() -> None:
    """Merging drops a null, and with it a misspelt name: `evalution: null` would train with an evaluation."""
    with pytest.raises(SpecError) as caught:
        planned({"preset": "dcgan", "evalution": None, "optimizer": {"lr": None}})
    assert [error.path for error in caught.value.errors] == ["evalution", "optimizer.lr"]
    base = {"preset": "dcgan", "seed": 1, "evaluation": None}
    same = planned({**base, "batch_size": None, "network": None, "metadata": {"mine": None}})
    assert same.spec == planned(base).spec


def test_an_object_whose_kind_changes_is_replaced() -> None:
    base = {"optimizer": {"kind": "adam", "betas": [0.5, 0.9], "learning_rate": 1}}
    assert merge(base, {"optimizer": {"kind": "adamw"}}) == {"optimizer": {"kind": "adamw"}}
    assert merge(base, {"optimizer": {"kind": "adam", "learning_rate": 2}})["optimizer"]["betas"] == [
        0.5,
        0.9,
    ]

"""What holds of every spec: it resolves, once and for all, or says what is wrong with which of its fields."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from models.presets import PRESETS, expand
from models.spec import SpecError, every_steps, load_spec
from models.spec.job import FAMILIES
from tests.models.spec.drawing import DIFFUSIONS, GANS, some_of
from tests.models.spec.planning import planned

FIELDS = {"gan": GANS, "diffusion": DIFFUSIONS}
SPECS = st.one_of(
    *(
        st.builds(lambda fields, family=family: {"family": family, **fields}, some_of(drawn, 6))
        for family, drawn in FIELDS.items()
    )
)
OVERRIDES = st.sampled_from(sorted(PRESETS)).flatmap(
    lambda name: st.builds(
        lambda fields: {"preset": name, **fields}, some_of(FIELDS[PRESETS[name].family], 6)
    )
)


def there_is(path: str, raw: Any, models: list[Any]) -> bool:
    """Whether a path leads to something that was posted, or to a field of the schema."""
    for name in path.split("."):
        if isinstance(raw, list):
            raw = raw[int(name)] if int(name) < len(raw) else None
        else:
            raw = raw.get(name) if isinstance(raw, dict) else None
        models = _inside(models, name)
        if raw is None and not models:
            return False
    return True


def _inside(models: list[Any], name: str) -> list[Any]:
    """The types of a field, or of a list's item, in any of the types."""
    found: list[Any] = []
    for each in models:
        if name.isdigit():
            found.append(each)
        elif isinstance(each, type) and issubclass(each, BaseModel) and name in each.model_fields:
            found += _types(each.model_fields[name].annotation)
    return found


def _types(annotation: Any) -> list[Any]:
    """What an annotation is made of: of `tuple[A, ...] | None`, A and None and what A is made of."""
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(inner for argument in arguments for inner in _types(argument))]


@pytest.mark.parametrize("path", ["optimizer.betas", "network.unet", "penalties.0.kind", "nothing"])
def test_paths_are_told_from_what_are_none(path: str) -> None:
    expected = path in {"optimizer.betas", "penalties.0.kind"}
    assert there_is(path, {}, [FAMILIES["gan"]]) is expected


@given(SPECS | OVERRIDES)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_spec_is_resolved_or_refused_by_its_fields(raw: dict[str, Any]) -> None:
    """Whatever combination a client posts: no other exception, and no error at a place that is not there."""
    try:
        planned(raw)
    except SpecError as error:
        expanded = expand(raw)
        for problem in error.errors:
            assert there_is(problem.path, expanded, [FAMILIES[expanded["family"]]]), problem
            assert len(problem.message) > 10


@given(SPECS | OVERRIDES)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_resolving_twice_is_resolving_once(raw: dict[str, Any]) -> None:
    """A job's spec posted again repeats the job."""
    try:
        once = planned(raw)
    except SpecError:
        assume(False)  # refused: the test above
    dumped = once.spec.model_dump(mode="json")
    assert load_spec(dumped) == once.spec
    assert planned(dumped) == once
    assert (
        planned({**dumped, "preset": None}).spec.model_copy(update={"preset": once.spec.preset}) == once.spec
    )
    assert once.spec.warnings != ("posted",)
    for interval in (once.spec.samples, once.spec.checkpoints):
        assert every_steps(interval, once.spec.batch_size) >= 1


def test_specs_of_before_this_version_still_resolve() -> None:
    """What earlier versions wrote into jobs, apart from a flip, which is one of the augmentations now."""
    shared = {
        "name": None,
        "dataset": "digits",
        "seed": 5,
        "data": {"resolution": 16, "channels": 1, "held_out": 0.05},
        "budget": {"images": 300_000, "steps": None},
        "batch_size": 64,
        "accumulation": 1,
        "optimizer": {
            "kind": "adam",
            "learning_rate": 0.0004,
            "betas": [0.5, 0.999],
            "eps": 1e-08,
            "weight_decay": 0.0,
            "clip_grad_norm": 1.0,
            "schedule": {"kind": "cosine", "warmup_steps": 234},
        },
        "ema": {"half_life_images": 15001, "ramp": 0.05},
        "evaluation": {"every_images": None, "every_steps": 469, "samples": 1000},
        "checkpoints": {"every_images": None, "every_steps": 469},
        "samples": {"every_images": None, "every_steps": 235, "count": 64},
        "log_every_steps": 4,
        "precision": "auto",
        "memory_format": "auto",
        "threads": None,
        "metadata": {},
    }
    gan = {
        **shared,
        "preset": "dcgan",
        "family": "gan",
        "generator": {"kind": "dcgan", "nz": 100, "ngf": 32, "init": "normal"},
        "discriminator": {"kind": "dcgan", "ndf": 32, "output": "logits", "init": "normal"},
        "loss": {"kind": "non_saturating"},
        "optimizers": {"generator": None, "discriminator": None},
    }
    diffusion = {
        **shared,
        "preset": "ddpm",
        "family": "diffusion",
        "network": {
            "kind": "unet",
            "channels": 32,
            "multipliers": [1, 2, 2],
            "layers_per_block": 1,
            "attention_resolutions": [],
            "norm_groups": 8,
            "dropout": 0.0,
        },
        "loss": {"prediction": "epsilon"},
        "noise_schedule": {"kind": "cosine", "timesteps": 1000},
        "sampler": {"kind": "ddim", "steps": 50, "eta": 0.0},
    }
    for raw in (gan, diffusion):
        plan = planned(raw)
        assert plan.warnings == ()
        assert plan.spec.optimizer.betas == (0.5, 0.999)
        assert plan.spec.log_every_steps == 4

"""From a merged spec to one that is complete: every default and every derived value written out."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from models.spec.data import DatasetFacts
from models.spec.fields import FieldError, SpecError, field_error
from models.spec.gan import GanSpec
from models.spec.job import FAMILIES, JobSpec
from models.spec.merge import merge
from models.spec.rules import broken_rules, warnings
from models.spec.training import Interval


@dataclass(frozen=True)
class Plan:
    """A spec that can be run: resolved, with what should be known before it is."""

    spec: JobSpec
    warnings: tuple[str, ...]
    steps: int


_WORDS = {
    "extra_forbidden": "is no field of a job spec here; docs/spec.md lists the fields",
    "missing": "is missing",
}


_FEWEST_STEPS_BETWEEN = {"gan": 1, "diffusion": 250}
"""Of sample grids and evaluations, where nothing is said: one grid costs as much as tens of steps."""


def load_spec(raw: Mapping[str, Any]) -> JobSpec:
    """Parse a spec; no preset is applied and nothing is derived.

    Raises SpecError with the JSON path of every bad field.
    """
    family = raw.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise SpecError([FieldError("family", f"must be one of {', '.join(FAMILIES)}; or name a preset")])
    try:
        return FAMILIES[family].model_validate_json(_as_json(raw), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SpecError([field_error(detail, words=_WORDS) for detail in details]) from None


def total_steps(spec: JobSpec) -> int:
    """Updates of the trained network that the budget pays for, rounded up."""
    if spec.budget.steps is not None:
        return spec.budget.steps
    assert spec.budget.images is not None  # noqa: S101  Budget holds exactly one of the two
    return -(-spec.budget.images // spec.batch_size)


def every_steps(interval: Interval, batch_size: int) -> int:
    """A resolved interval in steps, at least one."""
    if interval.every_steps is not None:
        return interval.every_steps
    if interval.every_images is None:
        raise ValueError("the interval is not resolved")
    return max(1, round(interval.every_images / batch_size))


def resolve(raw: Mapping[str, Any], find_dataset: Callable[[str], DatasetFacts | None]) -> Plan:
    """Check a merged spec and write out everything it leaves open.

    `find_dataset` answers None for a name that does not exist. Resolving a resolved spec changes nothing.
    Raises SpecError naming every bad field.
    """
    spec = load_spec(_with_own_optimizers(raw))
    facts = find_dataset(spec.dataset)
    if facts is None:
        raise SpecError(
            [FieldError("dataset", f"no dataset {spec.dataset!r}; list them with GET /v1/datasets")]
        )
    spec = load_spec(merge(spec.model_dump(mode="json"), _derived(spec, facts)))
    if errors := broken_rules(spec):
        raise SpecError(errors)
    return Plan(spec, tuple(warnings(spec, facts, total_steps(spec))), total_steps(spec))


def _as_json(raw: Mapping[str, Any]) -> bytes:
    try:
        return to_json(raw, inf_nan_mode="constants")
    except (ValueError, TypeError) as error:
        raise SpecError([FieldError("", f"is not JSON: {error}")]) from None


def _with_own_optimizers(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Complete each network's own optimizer with what `optimizer` says."""
    shared, own = raw.get("optimizer", {}), raw.get("optimizers")
    if not isinstance(shared, Mapping) or not isinstance(own, Mapping):
        return dict(raw)
    full = {
        name: merge(shared, patch) if isinstance(patch, Mapping) else patch for name, patch in own.items()
    }
    return {**raw, "optimizers": full}


def _derived(spec: JobSpec, facts: DatasetFacts) -> dict[str, Any]:
    """The values that the spec leaves out, as a patch."""
    steps = total_steps(spec)
    resolution = spec.data.resolution or facts.resolution
    least = _FEWEST_STEPS_BETWEEN[spec.family]
    patch: dict[str, Any] = {
        "data": {"resolution": resolution, "channels": spec.data.channels or facts.channels},
        "checkpoints": _interval(spec.checkpoints, steps, 10, 1),
        "samples": _interval(spec.samples, steps, 20, least),
        "log_every_steps": spec.log_every_steps or max(1, steps // 1000),
        "optimizer": _warmup(spec.optimizer.schedule.model_dump(mode="json"), steps),
    }
    if spec.seed is None:
        patch["seed"] = secrets.randbelow(2**31)
    if spec.evaluation is None:
        patch["data"]["held_out"] = 0.0
    else:
        patch["evaluation"] = _interval(spec.evaluation, steps, 10, least)
    if spec.ema is not None and spec.ema.half_life_images is None:
        most = 20_000 if spec.family == "gan" else 900_000
        patch["ema"] = {"half_life_images": max(1, min(steps * spec.batch_size // 20, most))}
    if isinstance(spec, GanSpec):
        width = 64 if resolution >= 64 else 32
        patch["generator"] = {"ngf": spec.generator.ngf or width}
        patch["discriminator"] = {"ndf": spec.discriminator.ndf or width}
        own = {"generator": spec.optimizers.generator, "discriminator": spec.optimizers.discriminator}
        patch["optimizers"] = {
            name: _warmup(optimizer.schedule.model_dump(mode="json"), steps)
            for name, optimizer in own.items()
            if optimizer is not None
        }
    return patch


def _interval(interval: Interval, steps: int, times: int, least: int) -> dict[str, Any]:
    if interval.every_images is not None or interval.every_steps is not None:
        return {}
    # Rounded up, so that the last one falls on the last step.
    return {"every_steps": min(steps, max(least, -(-steps // times)))}


def _warmup(schedule: Mapping[str, Any], steps: int) -> dict[str, Any]:
    if schedule["warmup_steps"] is not None:
        return {}
    return {"schedule": {"warmup_steps": 0 if schedule["kind"] == "constant" else min(500, steps // 20)}}

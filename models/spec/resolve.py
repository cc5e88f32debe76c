"""From a merged spec to one that is complete: every default and every derived value written out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from models.spec.budget import total_steps
from models.spec.data import DatasetFacts
from models.spec.derive import derived
from models.spec.fields import MAX_STEPS, UNKNOWN_FIELD, FieldError, SpecError, details, field_error
from models.spec.job import FAMILIES, JobSpec
from models.spec.merge import merge
from models.spec.rules import broken_rules
from models.spec.warnings import warnings


@dataclass(frozen=True)
class Plan:
    """A spec that can be run: resolved, with what should be known before it is."""

    spec: JobSpec
    steps: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant; it stands in the spec, too."""
        return self.spec.warnings


_WORDS = {
    "extra_forbidden": UNKNOWN_FIELD,
    "missing": "is missing",
}


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
        raise SpecError([_problem(detail) for detail in details(error)]) from None


def resolve(raw: Mapping[str, Any], find_dataset: Callable[[str], DatasetFacts | None]) -> Plan:
    """Check a merged spec and write out everything it leaves open.

    `find_dataset` answers None for a name that does not exist. Resolving a resolved spec changes nothing; its
    warnings are written anew. Raises SpecError naming every bad field.
    """
    spec = load_spec(_completed(raw))
    facts = find_dataset(spec.dataset)
    if facts is None:
        raise SpecError(
            [FieldError("dataset", f"no dataset {spec.dataset!r}; list them with GET /v1/datasets")]
        )
    steps = total_steps(spec)
    if steps > MAX_STEPS:
        message = f"is {steps:,} steps of batch_size {spec.batch_size}; at most {MAX_STEPS:,} are made"
        raise SpecError([FieldError("budget.images", message)])
    spec = load_spec(merge(spec.model_dump(mode="json"), derived(spec, facts)))
    if errors := broken_rules(spec, facts):
        raise SpecError(errors)
    return Plan(spec.model_copy(update={"warnings": tuple(warnings(spec, facts))}), steps)


def _problem(detail: Mapping[str, Any]) -> FieldError:
    """An error of pydantic's, which names the kind of network as if it were a field."""
    place = detail["loc"]
    if detail["type"] == "union_tag_invalid":
        return FieldError(f"{'.'.join(place)}.kind", f"must be one of {detail['ctx']['expected_tags']}")
    if place[0] == "network":
        place = ("network", *place[2:])
    return field_error({**detail, "loc": place}, words=_WORDS)


def _as_json(raw: Mapping[str, Any]) -> bytes:
    try:
        return to_json(raw, inf_nan_mode="constants")
    except (ValueError, TypeError) as error:
        raise SpecError([FieldError("", f"is not JSON: {error}")]) from None


def _completed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the warnings, name the architecture, and complete each network's own optimizer by `optimizer`."""
    raw = {name: value for name, value in raw.items() if name != "warnings"}
    network = raw.get("network")
    if isinstance(network, Mapping):
        raw = {**raw, "network": {"kind": "unet", **network}}
    shared, own = raw.get("optimizer", {}), raw.get("optimizers")
    if not isinstance(shared, Mapping) or not isinstance(own, Mapping):
        return raw
    # As members of an object, so that another kind replaces the optimizer and not only its `kind`.
    base = {"kind": "adam", **shared}
    full = {
        name: merge({name: base}, {name: patch})[name] if isinstance(patch, Mapping) else patch
        for name, patch in own.items()
    }
    return {**raw, "optimizers": full}

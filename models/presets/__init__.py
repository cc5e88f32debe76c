"""Named, complete specs to start from, each with its source."""

from collections.abc import Callable, Mapping
from typing import Any

from models.presets.diffusion import DIFFUSION_PRESETS
from models.presets.gan import GAN_PRESETS
from models.presets.preset import Preset
from models.spec import DatasetFacts, FieldError, Plan, SpecError, resolve
from models.spec.fields import UNKNOWN_FIELD
from models.spec.job import FAMILIES
from models.spec.merge import merge, unknown_nulls

__all__ = ["PRESETS", "Preset", "expand", "plan"]

PRESETS = {preset.name: preset for preset in (*GAN_PRESETS, *DIFFUSION_PRESETS)}


def expand(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the preset that it names, if any, laid under it.

    Raises SpecError for what is no object, an unknown preset, or a family that is not the preset's.
    """
    if not isinstance(raw, Mapping):
        raise SpecError([FieldError("", "must be a JSON object")])
    name = raw.get("preset")
    if name is None:
        return merge({}, raw)
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        raise SpecError([FieldError("preset", f"must be one of {', '.join(PRESETS)}")])
    if raw.get("family") not in (None, preset.family):
        raise SpecError([FieldError("family", f"is {preset.family!r} in preset {name!r}; leave it out")])
    return merge(preset.spec, raw)


def plan(raw: Mapping[str, Any], find_dataset: Callable[[str], DatasetFacts | None]) -> Plan:
    """What a client posted, as a complete spec with warnings.

    `find_dataset` gives a dataset's facts, or None where there is none of that name.
    Raises SpecError naming every bad field with its JSON path.
    """
    planned = resolve(expand(raw), find_dataset)
    own = {name: value for name, value in raw.items() if name != "metadata"}  # whose keys are the client's
    # Of any family: whoever changes the preset of a spec may null what only the other one has.
    fields = {name: None for family in FAMILIES.values() for name in family.model_fields}
    if unknown := list(unknown_nulls(own, fields | planned.spec.model_dump(mode="json"))):
        raise SpecError([FieldError(path, UNKNOWN_FIELD) for path in unknown])
    return planned

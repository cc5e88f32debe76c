"""Overrides merged into a preset: RFC 7396, except where two forms of one choice exclude each other."""

from collections.abc import Mapping
from typing import Any

_EXCLUSIVE = ({"images", "steps"}, {"every_images", "every_steps"})


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `patch` laid over it; neither is changed.

    As in RFC 7396 a null removes a member. Beyond it, an object whose `kind` changes is replaced whole,
    and one form of a choice (`steps`) removes the other (`images`).
    """
    merged = dict(base)
    for pair in _EXCLUSIVE:
        if any(patch.get(key) is not None for key in pair):
            for key in pair:
                merged.pop(key, None)
    for key, value in patch.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            keep = isinstance(old, Mapping) and value.get("kind", old.get("kind")) == old.get("kind")
            merged[key] = merge(old if keep and isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged

"""Overrides merged into a preset: RFC 7396, except where two forms of one choice exclude each other."""

from collections.abc import Iterator, Mapping
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


def unknown_nulls(patch: Mapping[str, Any], complete: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """The paths of nulls in `patch` that name no member of `complete`; merging drops any null."""
    for key, value in patch.items():
        if value is None and key not in complete:
            yield f"{place}{key}"
        elif isinstance(value, Mapping) and isinstance(complete.get(key), Mapping):
            yield from unknown_nulls(value, complete[key], f"{place}{key}.")

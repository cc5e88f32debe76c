"""Planning against datasets of every sort: labelled, unlabelled, of one class, in colour."""

from typing import Any

import pytest

from models.presets import plan
from models.spec import BUILTIN_DATASETS, DatasetFacts, Plan, SpecError
from models.spec.merge import merge

PHOTOS = DatasetFacts("ds_photos", 500, 64, 3, (), std=0.25)
DATASETS = {
    **BUILTIN_DATASETS,
    "ds_photos": PHOTOS,
    "ds_single": DatasetFacts("ds_single", 500, 32, 3, ("cat",)),
    "ds_letters": DatasetFacts("ds_letters", 500, 32, 1, ("a", "b")),
    "ds_few": DatasetFacts("ds_few", 10, 32, 1, ("cat", "dog")),
    "ds_three": DatasetFacts("ds_three", 3, 32, 1, ("cat", "dog")),
}


def planned(raw: dict[str, Any]) -> Plan:
    return plan(raw, DATASETS.get)


def refusals(raw: dict[str, Any]) -> dict[str, str]:
    """Messages by path."""
    with pytest.raises(SpecError) as caught:
        planned(raw)
    return {error.path: error.message for error in caught.value.errors}


def check_refusal(
    base: dict[str, Any], change: dict[str, Any], path: str, named: list[str], remedy: dict[str, Any]
) -> None:
    """`base` is taken; with `change` it is refused at `path` by a reason with `named`; `remedy` helps."""
    planned(base)
    raw = merge(base, change)
    refused = refusals(raw)
    assert list(refused) == [path]
    for words in named:
        assert words in refused[path]
    planned(merge(raw, remedy))

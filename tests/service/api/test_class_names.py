"""Which class a prompt means."""

import pytest

from service.api.generations import class_named


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("cat", 1),
        ("Cat", 0),
        ("CAT", None),
        (" cat ", None),
        ("l\u00f6we", 2),
        ("dog", 3),
        ("DOG ", 3),
        ("", None),
        ("bird", None),
    ],
)
def test_a_class_is_known_by_its_very_name_or_by_one_that_only_it_has(prompt: str, label: int | None) -> None:
    """Breaks when one of two classes that differ in case alone is made in the other's place."""
    assert class_named(prompt, ["Cat", "cat", " Lo\u0308we", "dog"]) == label

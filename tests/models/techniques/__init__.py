"""What each training technique does, as checks that fail when it does nothing."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Technique:
    """One technique: how to make it do nothing, and a check that then fails.

    `row` is the enum member whose row in a table it is, or None for a field that is no choice among rows.
    """

    name: str
    disable: Callable[[pytest.MonkeyPatch], None]
    check: Callable[[], None]
    row: Any = None


def row(table: MutableMapping[Any, Any], key: Any, no_op: Any, check: Callable[[], None]) -> Technique:
    """The technique that is `table[key]`, with `no_op` in its place when it is disabled."""
    member = key[0] if isinstance(key, tuple) else key
    return Technique(
        f"{type(member).__name__}.{member}",
        lambda monkeypatch: monkeypatch.setitem(table, key, no_op),
        check,
        member,
    )

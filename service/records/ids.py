"""Prefixed, sortable ids (TypeIDs): a later one is greater, also within the same millisecond of a process."""

import re

from typeid import TypeID

# Wider than a TypeID: the built-in datasets are called by their names.
_PLAUSIBLE = re.compile(r"[a-z0-9_-]{1,64}")


def new_id(prefix: str) -> str:
    return str(TypeID(prefix))


def plausible(text: str) -> bool:
    """Whether `text` could be an id at all; anything else is never sent to the database."""
    return _PLAUSIBLE.fullmatch(text) is not None

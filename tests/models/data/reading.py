"""What reading an archive gives, as the tests of archives ask for it."""

from pathlib import Path

import pytest

from models.data import DatasetError
from models.data.archives import read_archive
from models.data.entries import Dropped
from models.data.limits import Limits


def outcome(path: Path, limits: Limits | None = None) -> dict[str, str]:
    """The reason for each dropped entry, and "" for each one found."""
    entries = read_archive(path, limits or Limits())
    return {entry.name: entry.reason if isinstance(entry, Dropped) else "" for entry in entries}


def error(path: Path, limits: Limits | None = None) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        outcome(path, limits)
    assert caught.value.message
    assert caught.value.hint
    return caught.value

"""What a preset is."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A spec with a name; `spec` leaves out only what is derived from the dataset and the budget."""

    name: str
    family: str
    summary: str
    source: str
    spec: dict[str, Any]

"""What trainers have timed on this worker's device, so that none of the next ones has to time it again."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHOICES = ("threads", "precision", "memory_format")
# A step's pace in one choice, against that in another, does not depend on these fields.
_OF_NO_MATTER = frozenset(
    {
        *("preset", "name", "metadata", "warnings", "seed", "dataset", "init_from", "budget"),
        *("optimizer", "optimizers", "ema", "sampler"),
        *("evaluation", "checkpoints", "samples", "log_every_steps"),
    }
)


class Settled:
    """Choices by network, batch and what else they depend on; kept for as long as the worker runs."""

    def __init__(self) -> None:
        self._choices: dict[str, dict[str, Any]] = {}

    def learn(self, asked: Mapping[str, Any], settled: Mapping[str, Any]) -> None:
        """A spec, and the one that a trainer has made of it."""
        self._choices[_key(asked)] = {name: settled[name] for name in CHOICES}

    def complete(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The spec with what was found out about its like; as it is where that is nothing."""
        return {**asked, **self._choices.get(_key(asked), {})}


def _key(spec: Mapping[str, Any]) -> str:
    matters = {name: value for name, value in spec.items() if name not in _OF_NO_MATTER}
    return hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()

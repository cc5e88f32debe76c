"""Running means of scalars, kept on the device so that a step never waits for a number."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Means:
    """Sums and weights by name since the last `read`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._latest: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Take in 0-dimensional tensors; nothing is copied to the CPU."""
        for name, value in values.items():
            scaled = value.detach().float() * weight
            self._sums[name] = self._sums[name] + scaled if name in self._sums else scaled
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def set(self, name: str, value: float) -> None:
        """Report `value` itself, not a mean."""
        self._latest[name] = value

    def read(self) -> dict[str, float]:
        """The means, in one transfer from the device; and begin anew."""
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names]).tolist() if names else []
        means = {name: total / self._weights[name] for name, total in zip(names, sums, strict=True)}
        means |= self._latest
        self._sums, self._weights, self._latest = {}, {}, {}
        return means

    def state(self) -> tuple[dict[str, Tensor], dict[str, float], dict[str, float]]:
        """What has been taken in since the last `read`: sums, their weights, and values that are no means."""
        return dict(self._sums), dict(self._weights), dict(self._latest)

    def load_state(
        self, sums: dict[str, Tensor], weights: dict[str, float], latest: dict[str, float]
    ) -> None:
        """Go on from what `state` gave."""
        self._sums, self._weights, self._latest = dict(sums), dict(weights), dict(latest)

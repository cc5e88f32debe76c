"""Times two ways of doing the same thing in turns, so that a noisy machine is as noisy for both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of both, and the ratio of the second to the first over all rounds."""

    first: float
    second: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.first * 1e3:.1f} ms and {self.second * 1e3:.1f} ms; "
            f"ratio {self.ratio:.3f} (quartiles {self.low:.3f} to {self.high:.3f})"
        )


def side_by_side(first: Callable[[], None], second: Callable[[], None], rounds: int) -> Comparison:
    """Call both by turns, `rounds` times after a first round that is not counted; medians of all."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for times, work in zip(seconds, (first, second), strict=True):
            began = time.perf_counter()
            work()
            if number:
                times.append(time.perf_counter() - began)
    low, ratio, high = statistics.quantiles([b / a for a, b in zip(*seconds, strict=True)], n=4)
    return Comparison(statistics.median(seconds[0]), statistics.median(seconds[1]), ratio, low, high)

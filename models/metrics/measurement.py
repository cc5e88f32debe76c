"""What scoring tells."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Scores by metric key (`score/fid`), and what has to be known to compare them.

    `details` are JSON: `samples` (N), `reference` (its images and their content hash), `extractor`, its
    `extractor_sha256`, `ema`, `seed`, `sampler`, and the `class_histogram` where classes are known.
    """

    scores: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)

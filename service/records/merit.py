"""Which of a job's checkpoints is better: from their scores to one number, more of which is better."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from models.spec.evaluation import ScoreKind

# What an evaluation may set; two are comparable where all of it is the same.
SETTINGS = ("samples", "extractor", "sampler", "seed")


def merit(scores: Mapping[str, Any], best_by: str | None) -> float | None:
    """By the score that the job's spec names; None where it was not measured or is no number."""
    rank = _MERITS.get(best_by or "")
    try:
        number = None if rank is None else rank(scores)
    except (KeyError, TypeError):  # it was not measured, or was not finite and is stored as null
        return None
    return number if number is not None and math.isfinite(number) else None


def best_by(spec: Mapping[str, Any]) -> str | None:
    """The score by which a job's spec ranks its checkpoints."""
    named = (spec.get("evaluation") or {}).get("best_by")
    return None if named is None else str(named)


def is_own(spec: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether an evaluation was asked for with the settings that the job itself measures with."""
    own = spec.get("evaluation") or {}
    return best_by(spec) is not None and all(request.get(name) == own.get(name) for name in SETTINGS)


def _harmonic_mean(scores: Mapping[str, float]) -> float:
    """Of precision and recall: images that are real ones and no variety, or the reverse, are both bad."""
    precision, recall = scores["precision"], scores["recall"]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


_MERITS: dict[str, Callable[[Mapping[str, float]], float]] = {
    ScoreKind.FID: lambda scores: -scores["fid"],
    ScoreKind.KID: lambda scores: -scores["kid"],
    ScoreKind.INCEPTION_SCORE: lambda scores: scores["inception_score"],
    ScoreKind.PRECISION_RECALL: _harmonic_mean,
    ScoreKind.CLASS_HISTOGRAM: lambda scores: -scores["class_kl"],
    ScoreKind.MODE_COVERAGE: lambda scores: scores["modes"],
}

"""What each score tells: of images whose score is known."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.metrics.extractors import Features
from models.metrics.scores import SCORES, Reference, Score
from models.spec.evaluation import ScoreKind
from tests.models.techniques import Technique, row


def _points(count: int, *, at: float = 0) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(0)) + at


def _score(
    kind: ScoreKind, made: Tensor, real: Tensor, classes: Sequence[int] = (0,), counts: Sequence[int] = (2, 2)
) -> dict[str, float]:
    logits = 100 * F.one_hot(torch.tensor(classes).repeat(len(made) // len(classes)), len(counts)).float()
    reference = Reference(Features(real, torch.zeros(len(real), len(counts))), torch.tensor(counts))
    return SCORES[kind](Features(made, logits), reference)


def _fid_is_the_squared_shift() -> None:
    value = _score(ScoreKind.FID, _points(100, at=3), _points(100))["score/fid"]
    assert value == pytest.approx(4 * 3**2, rel=1e-4)


def _kid_is_large_where_images_are_far() -> None:
    assert _score(ScoreKind.KID, _points(100, at=3), _points(100))["score/kid"] > 10


def _inception_score_is_the_number_of_sure_classes() -> None:
    value = _score(ScoreKind.INCEPTION_SCORE, _points(100), _points(100), classes=(0, 1))
    assert value["score/inception_score"] == pytest.approx(2)


def _precision_and_recall_tell_half_from_all() -> None:
    both = torch.cat([_points(50), _points(50, at=1000)])
    found = _score(ScoreKind.PRECISION_RECALL, _points(50), both)
    assert found == {"score/precision": 1, "score/recall": 0.5}


def _class_divergence_is_the_closed_form() -> None:
    found = _score(ScoreKind.CLASS_HISTOGRAM, _points(4), _points(4))
    assert found["score/class_kl"] == pytest.approx(math.log(2))


def _modes_are_the_classes_that_are_made() -> None:
    found = _score(ScoreKind.MODE_COVERAGE, _points(4), _points(4), classes=(0, 2), counts=(2, 2, 2))
    assert found["score/modes"] == 2


def _nothing(*keys: str) -> Score:
    return lambda _made, _real: dict.fromkeys((f"score/{key}" for key in keys), 0.0)


TECHNIQUES: list[Technique] = [
    row(SCORES, ScoreKind.FID, _nothing("fid"), _fid_is_the_squared_shift),
    row(SCORES, ScoreKind.KID, _nothing("kid"), _kid_is_large_where_images_are_far),
    row(
        SCORES,
        ScoreKind.INCEPTION_SCORE,
        _nothing("inception_score"),
        _inception_score_is_the_number_of_sure_classes,
    ),
    row(
        SCORES,
        ScoreKind.PRECISION_RECALL,
        _nothing("precision", "recall"),
        _precision_and_recall_tell_half_from_all,
    ),
    row(SCORES, ScoreKind.CLASS_HISTOGRAM, _nothing("class_kl"), _class_divergence_is_the_closed_form),
    row(SCORES, ScoreKind.MODE_COVERAGE, _nothing("modes"), _modes_are_the_classes_that_are_made),
]

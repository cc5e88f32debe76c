"""Scores whose values mathematics gives: equal sets, shifted and scaled Gaussians, counted classes."""

import math
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.metrics import scores
from models.metrics.extractors import Features
from models.metrics.scores import SCORES, Reference, class_shares, scored
from models.spec.evaluation import ScoreKind


def gaussian(count: int, dimensions: int = 8, *, seed: int = 0) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def features(points_ND: Tensor, classes: Sequence[int] | None = None, *, of: int = 10) -> Features:
    """Features that are these points, with logits that are sure of these classes."""
    labels = torch.tensor(classes if classes is not None else [0] * len(points_ND), dtype=torch.long)
    return Features(points_ND, F.one_hot(labels, of).float() * 100)


def reference(points_ND: Tensor, counts: Sequence[int] = (1,) * 10) -> Reference:
    return Reference(features(points_ND), torch.tensor(counts))


def of_classes(classes: Sequence[int], counts: Sequence[int], kind: ScoreKind) -> float:
    made = features(torch.zeros(len(classes), 2), classes, of=len(counts))
    (value,) = SCORES[kind](made, reference(torch.zeros(2, 2), counts)).values()
    return value


def test_fid_of_the_same_images_is_zero() -> None:
    points = gaussian(500)
    assert abs(SCORES[ScoreKind.FID](features(points), reference(points))["score/fid"]) < 1e-6


def test_fid_of_shifted_images_is_the_squared_shift() -> None:
    points, shift = gaussian(500), torch.arange(8) / 4
    value = SCORES[ScoreKind.FID](features(points + shift), reference(points))["score/fid"]
    assert value == pytest.approx(float(shift.square().sum()), rel=1e-5)


def test_fid_of_scaled_images_is_known() -> None:
    """√(Σ·a²Σ) = aΣ, so tr(Σ + a²Σ - 2aΣ) = (1 - a)² tr Σ."""
    points = gaussian(500)
    value = SCORES[ScoreKind.FID](features(points * 3), reference(points))["score/fid"]
    assert value == pytest.approx(float(4 * (points.mean(0).square() + points.var(0)).sum()), rel=1e-5)


@pytest.mark.parametrize(("made", "real"), [(300, 300), (200, 300)])
def test_kid_of_few_images_is_the_unbiased_estimate(made: int, real: int) -> None:
    """Of equal numbers that of all images; of others that of all of the smaller set, and so many others."""
    x, y = gaussian(made, seed=1) + 1, gaussian(real, seed=2)
    value = SCORES[ScoreKind.KID](features(x), reference(y))["score/kid"]
    kernels = [((a.double() @ b.double().T) / 8 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    own = [(kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1)) for kernel in kernels[:2]]
    exact = float(own[0] + own[1] - 2 * kernels[2].mean())
    assert value == pytest.approx(exact, rel=1e-5 if made == real else 0.2)


def test_kid_tells_what_is_far_from_what_is_near() -> None:
    real = reference(gaussian(400))
    near = SCORES[ScoreKind.KID](features(gaussian(400, seed=1)), real)["score/kid"]
    far = SCORES[ScoreKind.KID](features(gaussian(400, seed=1) + 1), real)["score/kid"]
    assert abs(near) < 0.1 < 1 < far


@pytest.mark.parametrize("count", [50, 2000])
def test_inception_score_counts_classes_that_are_sure_and_even(count: int) -> None:
    """exp(KL(one hot | uniform)) = K; the parts of 2,000 images are even up to chance."""
    made = features(torch.zeros(count, 2), [number % 10 for number in range(count)])
    value = SCORES[ScoreKind.INCEPTION_SCORE](made, reference(torch.zeros(2, 2)))["score/inception_score"]
    assert value == pytest.approx(10, rel=1e-6 if count == 50 else 0.05)


def test_inception_score_of_one_class_is_one() -> None:
    made = features(torch.zeros(40, 2), [3] * 40)
    value = SCORES[ScoreKind.INCEPTION_SCORE](made, reference(torch.zeros(2, 2)))["score/inception_score"]
    assert value == pytest.approx(1, abs=1e-6)


def precision_recall(made: Tensor, real: Tensor) -> tuple[float, float]:
    found = SCORES[ScoreKind.PRECISION_RECALL](features(made), reference(real))
    return found["score/precision"], found["score/recall"]


def test_precision_and_recall_of_the_same_images_are_one() -> None:
    points = gaussian(400)
    assert precision_recall(points, points) == (1, 1)


def test_precision_and_recall_of_disjoint_images_are_zero() -> None:
    assert precision_recall(gaussian(400) + 1000, gaussian(400)) == (0, 0)


def test_images_of_half_the_classes_are_precise_and_recall_half() -> None:
    one, other = gaussian(200), gaussian(200, seed=1) + 1000
    assert precision_recall(one, torch.cat([one, other])) == (1, 0.5)


def test_images_half_of_which_are_nothing_real_are_half_precise_and_recall_all() -> None:
    one, other = gaussian(200), gaussian(200, seed=1) + 1000
    assert precision_recall(torch.cat([one, other]), one) == (0.5, 1)


def test_class_divergence_is_the_closed_form() -> None:
    """Shares (3/4, 1/4, 0) against (1/2, 1/4, 1/4)."""
    value = of_classes([0, 0, 0, 1], [20, 10, 10], ScoreKind.CLASS_HISTOGRAM)
    assert value == pytest.approx(0.75 * math.log(1.5))


def test_class_divergence_of_the_real_shares_is_zero() -> None:
    assert of_classes([0, 0, 1, 2], [20, 10, 10], ScoreKind.CLASS_HISTOGRAM) == pytest.approx(0)


def test_class_divergence_is_finite_where_a_class_has_no_real_image() -> None:
    value = of_classes([1], [10, 0], ScoreKind.CLASS_HISTOGRAM)
    assert value == pytest.approx(math.log(20))


@pytest.mark.parametrize(
    ("classes", "covered"),
    [([0] * 20, 1), ([0] * 19 + [1], 2), ([0] * 39 + [1], 1), ([0, 1, 2], 2), ([3, 3], 0)],
)
def test_a_class_is_covered_from_a_tenth_of_its_real_share_on(classes: list[int], covered: int) -> None:
    """Two classes of one half each (a tenth is 1 of 20), and two that the real images lack."""
    assert of_classes(classes, [50, 50, 0, 0], ScoreKind.MODE_COVERAGE) == covered


def test_class_shares_add_up() -> None:
    shares = class_shares(features(torch.zeros(4, 2), [0, 0, 2, 9]))
    assert shares.tolist() == [0.5, 0, 0.25, 0, 0, 0, 0, 0, 0, 0.25]


@pytest.mark.parametrize("made", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("real", [0, 1, 2, 3, 5])
def test_too_few_images_give_no_value_rather_than_nan(made: int, real: int) -> None:
    found = scored(ScoreKind, features(gaussian(made)), reference(gaussian(real)))
    assert all(math.isfinite(value) for value in found.values())
    assert ("score/fid" in found) == (min(made, real) >= 2)
    assert ("score/class_kl" in found) == (made >= 1)


def test_scores_say_nothing_and_give_the_same_numbers_again(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random subsets of KID and the order of Inception Score are drawn alike each time."""
    monkeypatch.setattr(scores, "SUBSET", 50)
    monkeypatch.setattr(scores, "SPLIT_FROM", 50)
    made, real = features(gaussian(120, seed=3)), reference(gaussian(110, seed=4))
    torch.manual_seed(0)
    first = scored(ScoreKind, made, real)
    torch.manual_seed(1)
    assert scored(ScoreKind, made, real) == first
    assert capfd.readouterr() == ("", "")


MEMORY = """
import resource, torch, torch_fidelity
from models.metrics.extractors import Features
from models.metrics.scores import Reference, scored
from models.spec.evaluation import ScoreKind
images = [Features(torch.rand(10_000, 64), torch.rand(10_000, 10)) for _ in range(2)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scored(ScoreKind, images[0], Reference(images[1], torch.ones(10)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_scores_of_ten_thousand_images_take_less_than_a_gigabyte() -> None:
    ran = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(ran.stdout) * 1024 < 1e9

"""The scores of made images against real ones: torch-fidelity's own functions, on features.

Torch-fidelity is imported when a score is first asked for: it brings torchvision, which takes seconds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from models.metrics.extractors import Features
from models.spec.evaluation import ScoreKind

SUBSET, SUBSETS = 1000, 100
"""KID is the mean over 100 random subsets of 1,000 images; up to 1,000, one subset: of as many of each."""

SPLITS, SPLIT_FROM = 10, 1000
"""Inception Score is the mean over 10 parts of 1,000 images or more; it is of fewer all at once."""

NEIGHBOURS = 3
"""The radius of an image's ball, for precision and recall, is the distance to its third neighbour."""

COVERED = 0.1
"""A class is covered when its share among the made images is at least this part of its real share."""

_SEED = 2020  # of the subsets and of the order: what torch-fidelity takes by default
_DISTANCES = 10_000_000  # held at once, 40 MB


@dataclass(frozen=True)
class Reference:
    """Features of real images, and how many images each class of their dataset has."""

    features: Features
    class_counts_K: Tensor  # noqa: N815

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Mean and covariance of the features."""
        return _statistics(self.features)


Score = Callable[[Features, Reference], dict[str, float]]
"""From the features of made and of real images to values by metric key; none of too few images."""


def fid(made: Features, real: Reference) -> dict[str, float]:
    """Frechet distance of two Gaussians, |μ - μ'|² + tr(Σ + Σ' - 2 √(ΣΣ')) (Heusel et al. 2017, eq. 6).

    Needs two images of each; fewer than there are dimensions give a covariance without full rank.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    if min(len(made), len(real.features)) < 2:
        return {}
    value = fid_statistics_to_metric(_statistics(made), real.statistics, verbose=False)[KEY_METRIC_FID]
    return {"score/fid": value}


def kid(made: Features, real: Reference) -> dict[str, float]:
    """Squared maximum mean discrepancy with the kernel (x·y/D + 1)³, unbiased (Binkowski et al. 2018, eq. 4).

    Slightly below 0 where the two can hardly be told apart. Needs two images of each.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    counts = len(made), len(real.features)
    size = min(SUBSET, *counts)
    if size < 2:
        return {}
    found = kid_features_to_metric(
        made.features_ND,
        real.features.features_ND,
        kid_subsets=SUBSETS if max(counts) > SUBSET else 1,
        kid_subset_size=size,
        rng_seed=_SEED,
        verbose=False,
    )
    return {"score/kid": found[KEY_METRIC_KID_MEAN]}


def inception_score(made: Features, _real: Reference) -> dict[str, float]:
    """exp of the mean KL divergence of p(class | image) from p(class) (Salimans et al. 2016): 1 to K."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    if len(made) < 1:
        return {}
    splits = SPLITS if len(made) >= SPLIT_FROM else 1
    found = isc_features_to_metric(made.logits_NK, splits=splits, shuffle=True, rng_seed=_SEED)
    return {"score/inception_score": found[KEY_METRIC_ISC_MEAN]}


def precision_recall(made: Features, real: Reference) -> dict[str, float]:
    """The share of made images within the manifold of real ones, and the reverse (Kynkaanniemi et al. 2019).

    A manifold is the union of balls to each image's third neighbour, or its furthest where there are fewer.
    Needs two images of each.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    neighbours = min(NEIGHBOURS, len(made) - 1, len(real.features) - 1)
    if neighbours < 1:
        return {}
    found = prc_features_to_metric(
        made.features_ND,
        real.features.features_ND,
        prc_neighborhood=neighbours,
        prc_batch_size=max(1, _DISTANCES // max(len(made), len(real.features))),
        save_cpu_ram=True,
        verbose=False,
    )
    return {"score/precision": found[KEY_METRIC_PRECISION], "score/recall": found[KEY_METRIC_RECALL]}


def class_kl(made: Features, real: Reference) -> dict[str, float]:
    """KL divergence of the classes' shares among the made images from their real shares, in nats.

    A class without a real image counts as half an image, which keeps the divergence finite.
    """
    if len(made) < 1:
        return {}
    shares_K, counts_K = class_shares(made), real.class_counts_K.double()
    real_K = counts_K.clamp(min=0.5) / counts_K.sum().clamp(min=1)
    return {"score/class_kl": float(torch.special.xlogy(shares_K, shares_K / real_K).sum())}


def modes(made: Features, real: Reference) -> dict[str, float]:
    """How many of the real classes have at least a tenth of their real share among the made images."""
    if len(made) < 1:
        return {}
    counts_K = real.class_counts_K.double()
    covered_K = class_shares(made) >= COVERED * counts_K / counts_K.sum().clamp(min=1)
    return {"score/modes": float((covered_K & (counts_K > 0)).sum())}


def class_shares(made: Features) -> Tensor:
    """The share of each class among the images, by the largest logit: float64 K."""
    classes = made.logits_NK.shape[1]
    return torch.bincount(made.logits_NK.argmax(dim=1), minlength=classes).double() / max(1, len(made))


SCORES: dict[ScoreKind, Score] = {
    ScoreKind.FID: fid,
    ScoreKind.KID: kid,
    ScoreKind.INCEPTION_SCORE: inception_score,
    ScoreKind.PRECISION_RECALL: precision_recall,
    ScoreKind.CLASS_HISTOGRAM: class_kl,
    ScoreKind.MODE_COVERAGE: modes,
}


def scored(kinds: Iterable[ScoreKind], made: Features, real: Reference) -> dict[str, float]:
    """The values of these scores by metric key."""
    return {key: value for kind in kinds for key, value in SCORES[kind](made, real).items()}


def _statistics(features: Features) -> dict[str, Any]:
    from torch_fidelity.metric_fid import fid_features_to_statistics

    statistics: dict[str, Any] = fid_features_to_statistics(features.features_ND)
    return statistics

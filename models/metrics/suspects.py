"""Images whose label is probably wrong: those that a classifier, trained on the others, surely calls otherwise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.data import PackedDataset, split
from models.metrics.classifier import Classifier, _fit, pixels

FOLDS = 4
FEWEST = 2 * FOLDS
"""Images of a class below which a classifier cannot know it, so that none of them is suspected."""

SUREST = 0.9
_SEED = 0
_BATCH = 256


@dataclass(frozen=True)
class Suspect:
    """One image by its number in the set, the class it was given, and the class it looks like.

    `confidence` is the probability of the likely class to a classifier that was not trained on the image.
    """

    index: int
    given: str
    likely: str
    confidence: float


def suspects(dataset: PackedDataset) -> list[Suspect]:
    """Found by 4-fold cross-validation, surest first; none in a set of fewer than two classes.

    The rule is that of confident learning (Northcutt et al. 2021, section 3.1): the likely class is at least as
    probable as it is, on average, to the images that carry it; and here at least 0.9, since a small
    classifier is also wrong. On the CPU and seeded; torch's global generator is left as it is.
    """
    labels_N = torch.from_numpy(dataset.labels).long()
    indices = _known(dataset, labels_N)
    if len(labels_N[indices].unique()) < 2:
        return []
    probabilities_NK = _cross_validated(dataset, indices, labels_N)
    given_N = labels_N[indices]
    own_N = probabilities_NK.gather(1, given_N[:, None])[:, 0]
    usual_K = torch.zeros(len(dataset.classes)).scatter_reduce(0, given_N, own_N, "mean", include_self=False)
    confidence_N, likely_N = probabilities_NK.max(1)
    suspected = (likely_N != given_N) & (confidence_N >= usual_K[likely_N].clamp(min=SUREST))
    found = [
        Suspect(int(indices[row]), dataset.classes[given_N[row]], dataset.classes[likely_N[row]], float(c))
        for row, c in enumerate(confidence_N)
        if suspected[row]
    ]
    return sorted(found, key=lambda suspect: (-suspect.confidence, suspect.index))


def _known(dataset: PackedDataset, labels_N: Tensor) -> Tensor:
    """The numbers of the images of classes that have enough, class by class, shuffled within each."""
    order, _ = split(dataset, 0.0)
    order = order[labels_N[order] >= 0]
    counts_K = torch.bincount(labels_N[order], minlength=len(dataset.classes))
    order = order[counts_K[labels_N[order]] >= FEWEST]
    return order[labels_N[order].argsort(stable=True)]


def _cross_validated(dataset: PackedDataset, indices: Tensor, labels_N: Tensor) -> Tensor:
    """Each image's class probabilities (N,K) by the classifier that was trained without its fold."""
    probabilities_NK = torch.zeros(len(indices), len(dataset.classes))
    fold_N = torch.arange(len(indices)) % FOLDS  # every class is spread over all folds
    for fold in range(FOLDS):
        network = _classifier(dataset, indices[fold_N != fold])
        for rows in torch.split((fold_N == fold).nonzero()[:, 0], _BATCH):
            with torch.no_grad():
                _, logits = network(pixels(dataset, indices[rows]))
            probabilities_NK[rows] = logits.softmax(1)
    return probabilities_NK


def _classifier(dataset: PackedDataset, indices: Tensor) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        network = Classifier(dataset.channels, len(dataset.classes))
    _fit(network, dataset, indices)
    return network

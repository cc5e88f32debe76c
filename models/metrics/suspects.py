"""Images whose label is probably wrong: a classifier that was trained on others is sure of another class."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.data import PackedDataset, split
from models.metrics.classifier import Classifier, one_thread, pixels

SUSPECTS = "suspects.json"
"""The file in a packed set's folder that keeps them."""

FOLDS = 4
FEWEST = 2 * FOLDS
"""Images of a class below which a classifier cannot know it, so that none of them is suspected."""

SELF_CONFIDENCE = 0.02
"""Probability of the given class below which a label is suspected."""

EPOCHS = 8
LEAST_SHOWN, MOST_SHOWN = 3_000, 100_000
"""Images that each of the classifiers is shown while it trains, whatever the epochs."""

_SEED = 0
_BATCH = 64
_LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class Suspect:
    """One image by its number in the set, the class it was given, and the class it looks like.

    `confidence` is the probability of the likely class to a classifier that was not trained on the image.
    """

    index: int
    given: str
    likely: str
    confidence: float


Seen = Callable[[], None]
"""Called for every batch, tens of times a second; what it raises ends the search."""


def unwatched() -> None:
    """A search that nobody may end."""


def suspects(dataset: PackedDataset, seen: Seen = unwatched) -> list[Suspect]:
    """Found by 4-fold cross-validation, surest first; none in a set of fewer than two classes.

    An image is suspected where its given class has less than 2 % of the probability (the self-confidence of
    Northcutt et al. 2021, Confident Learning), and another class more than half: a small classifier is often
    wrong, and seldom so sure of it.
    On one thread of the CPU and seeded; torch's global generator is left as it is.
    """
    labels_N = torch.from_numpy(dataset.labels).long()
    indices = _known(dataset, labels_N)
    if len(labels_N[indices].bincount().nonzero()) < 2:
        return []
    with one_thread():
        probabilities_NK = _cross_validated(dataset, indices, labels_N, seen)
    given_N = labels_N[indices]
    own_N = probabilities_NK.gather(1, given_N[:, None])[:, 0]
    confidence_N, likely_N = probabilities_NK.max(1)
    suspected = (own_N < SELF_CONFIDENCE) & (confidence_N > 0.5)
    found = [
        Suspect(int(indices[row]), dataset.classes[given_N[row]], dataset.classes[likely_N[row]], float(c))
        for row, c in enumerate(confidence_N)
        if suspected[row]
    ]
    return sorted(found, key=lambda suspect: (-suspect.confidence, suspect.index))


def kept_suspects(dataset: PackedDataset, seen: Seen = unwatched) -> list[Suspect]:
    """Those of `suspects`: found once, and kept in the set's folder."""
    path = dataset.folder / SUSPECTS
    if path.is_file():
        return [Suspect(**row) for row in json.loads(path.read_text("utf-8"))]
    found = suspects(dataset, seen)
    part = path.with_name(f".{SUSPECTS}-{os.getpid()}")
    part.write_text(json.dumps([asdict(suspect) for suspect in found]), "utf-8")
    part.replace(path)
    return found


def _known(dataset: PackedDataset, labels_N: Tensor) -> Tensor:
    """The numbers of the images of classes that have enough, class by class, shuffled within each."""
    order, _ = split(dataset, 0.0)
    order = order[labels_N[order] >= 0]
    counts_K = torch.bincount(labels_N[order], minlength=len(dataset.classes))
    order = order[counts_K[labels_N[order]] >= FEWEST]
    return order[labels_N[order].argsort(stable=True)]


def _cross_validated(dataset: PackedDataset, indices: Tensor, labels_N: Tensor, seen: Seen) -> Tensor:
    """Each image's class probabilities (N,K) by the classifier that was trained without its fold."""
    probabilities_NK = torch.zeros(len(indices), len(dataset.classes))
    fold_N = torch.arange(len(indices)) % FOLDS  # every class is spread over all folds
    for fold in range(FOLDS):
        network = _trained(dataset, indices[fold_N != fold], labels_N, seen)
        for rows in torch.split((fold_N == fold).nonzero()[:, 0], _BATCH):
            seen()
            with torch.no_grad():
                _, logits = network(pixels(dataset, indices[rows]))
            probabilities_NK[rows] = logits.softmax(1)
    return probabilities_NK


def _trained(dataset: PackedDataset, indices: Tensor, labels_N: Tensor, seen: Seen) -> Classifier:
    """Adam with a cosine to zero; few epochs, so that the wrong labels are not learnt by heart."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        network = Classifier(dataset.channels, len(dataset.classes))
    generator = torch.Generator().manual_seed(_SEED)
    shown = max(LEAST_SHOWN, min(EPOCHS * len(indices), MOST_SHOWN))
    epochs = -(-shown // len(indices))
    order = torch.cat([torch.randperm(len(indices), generator=generator) for _ in range(epochs)])
    batches = torch.split(indices[order[:shown]], _BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for batch in batches:
        seen()
        _, logits = network(pixels(dataset, batch))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels_N[batch]))
        optimizer.step()
        schedule.step()
    return network.eval()

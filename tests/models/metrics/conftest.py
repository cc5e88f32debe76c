"""Real digits, a classifier of them, and sets small enough to train on within a test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.data import PackedDataset, open_dataset
from models.data.packed import write_packed
from models.metrics.classifier import ClassifierFacts, classifier_key, train_classifier

MakeSet = Callable[..., PackedDataset]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return open_dataset("digits", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def trained(digits: PackedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClassifierFacts]:
    """The file of the digits' classifier, and what its training told."""
    path = tmp_path_factory.mktemp("classifier") / classifier_key(digits)
    return path, train_classifier(digits, path)


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Makes sets of random images: the labels decide how many, and class 1 is brighter than class 0."""

    def make(
        labels: Sequence[int], *, classes: int = 2, resolution: int = 16, channels: int = 1, seed: int = 0
    ) -> PackedDataset:
        shape = (len(labels), channels, resolution, resolution)
        images = np.random.default_rng(seed).integers(0, 128, shape, np.uint8)
        images += (np.array(labels, np.int64).clip(0) * 100).astype(np.uint8)[:, None, None, None]
        names = [f"class {number}" for number in range(classes)]
        folder = tmp_path / f"set-{len(list(tmp_path.iterdir()))}"
        return write_packed(folder, "made", images, shape, np.array(labels, np.int32), names)

    return make

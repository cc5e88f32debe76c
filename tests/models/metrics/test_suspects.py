"""Wrong labels are found by a classifier that never saw them, and right ones are left in peace."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.data import PackedDataset, build_builtin
from models.data.packed import write_packed
from models.metrics.suspects import FEWEST, suspects

CLASSES = ("dark", "bright", "rare")


def shades(folder: Path, labels: NDArray[np.int32]) -> PackedDataset:
    """100 noisy images of 8 px, dark where the number is even, with these labels."""
    noise = np.random.default_rng(0).integers(0, 60, (100, 1, 8, 8))
    images = (noise + 150 * (np.arange(100) % 2)[:, None, None, None]).astype(np.uint8)
    return write_packed(folder, "shades", images, images.shape, labels, CLASSES)


def mislabelled(folder: Path) -> PackedDataset:
    """Numbers 10 and 77 are labelled wrongly, 80 to 89 not at all, and the last ones are of a rare class."""
    labels = (np.arange(100) % 2).astype(np.int32)
    labels[[10, 77]] = 1, 0
    labels[80:90] = -1
    labels[-(FEWEST - 1) :] = 2
    return shades(folder, labels)


def test_wrong_labels_alone_are_named_with_what_the_images_look_like(tmp_path: Path) -> None:
    """Not the right ones, nor images without a label or of a class too rare for a classifier to know."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = suspects(mislabelled(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert {(suspect.index, suspect.given, suspect.likely) for suspect in found} == {
        (10, "bright", "dark"),
        (77, "dark", "bright"),
    }
    assert all(0.5 < suspect.confidence <= 1 for suspect in found)
    assert found == sorted(found, key=lambda suspect: -suspect.confidence)


def test_they_are_the_same_each_time(tmp_path: Path) -> None:
    dataset = mislabelled(tmp_path)
    torch.manual_seed(0)
    first = suspects(dataset)
    torch.manual_seed(1)
    assert suspects(dataset) == first


def test_without_labels_there_are_no_suspects(tmp_path: Path) -> None:
    assert suspects(shades(tmp_path, np.full(100, -1, np.int32))) == []


def test_one_class_has_no_suspects(tmp_path: Path) -> None:
    assert suspects(shades(tmp_path, np.zeros(100, np.int32))) == []


@pytest.mark.slow
def test_flipped_digits_are_found(tmp_path: Path) -> None:
    """2 % of wrong labels: at least 80 % of them are found, and at least half of what is found is wrong."""
    digits = build_builtin("digits", tmp_path / "digits")
    generator = np.random.default_rng(0)
    flipped = generator.choice(digits.count, digits.count // 50, replace=False)
    labels = digits.labels.copy()
    labels[flipped] = (labels[flipped] + generator.integers(1, 10, len(flipped))) % 10
    dataset = write_packed(
        tmp_path / "flipped", "digits", digits.images, digits.images.shape, labels, digits.classes
    )
    found = suspects(dataset)
    right = [suspect for suspect in found if suspect.index in flipped]
    assert len(right) >= 0.8 * len(flipped)
    assert len(right) >= 0.5 * len(found)
    named = sum(suspect.likely == digits.classes[digits.labels[suspect.index]] for suspect in right)
    assert named >= 0.9 * len(right)

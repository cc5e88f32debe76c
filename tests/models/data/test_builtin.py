"""The built-in sets hold what their names promise, and say where to get what is missing."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.data import DatasetError, build_builtin
from models.data import builtin as module
from models.spec.data import BUILTIN_DATASETS


def test_digits(tmp_path: Path) -> None:
    digits = build_builtin("digits", tmp_path)
    assert digits.images.shape == (1797, 1, 16, 16)
    assert digits.class_counts() == dict(
        zip("0123456789", [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], strict=True)
    )
    assert digits.images.min() == 0
    assert digits.images.max() == 255
    np.testing.assert_allclose(digits.mean, [4.884 / 16], atol=0.01)


def test_digits_are_the_same_every_time(tmp_path: Path) -> None:
    first = build_builtin("digits", tmp_path / "1")
    assert build_builtin("digits", tmp_path / "2").content_hash == first.content_hash


@pytest.mark.skipif(
    not module.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_fashion_mnist(tmp_path: Path) -> None:
    fashion = build_builtin("fashion-mnist", tmp_path)
    assert fashion.images.shape == (60_000, 1, 32, 32)
    assert set(fashion.class_counts().values()) == {6000}
    assert fashion.classes[fashion.labels[0]] == "Ankle boot"
    np.testing.assert_allclose(fashion.mean, [0.286], atol=0.005)  # of the original at 28 px


@pytest.mark.parametrize("name", ["digits"])
def test_what_the_spec_believes_is_true(tmp_path: Path, name: str) -> None:
    """A job on a built-in set is resolved before the set is ever packed."""
    assert build_builtin(name, tmp_path).facts == BUILTIN_DATASETS[name]


def test_the_spec_and_the_loaders_know_the_same_sets() -> None:
    assert set(module.LOADERS) == set(BUILTIN_DATASETS)


def test_missing_files_name_both_ways_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DatasetError, match="dataset-fashion-mnist") as caught:
        build_builtin("fashion-mnist", tmp_path)
    assert caught.value.code == "dataset_unavailable"
    assert "downloaded" in caught.value.message
    assert "internet" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"not gzip", b"\x1f\x8b\x08\x00", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20]
)
def test_damaged_files_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path)
    (tmp_path / module.FASHION_IMAGES).write_bytes(data)
    with pytest.raises(DatasetError, match="not the Fashion-MNIST that was expected"):
        build_builtin("fashion-mnist", tmp_path / "out")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="digits, fashion-mnist"):
        build_builtin("mnist", tmp_path)

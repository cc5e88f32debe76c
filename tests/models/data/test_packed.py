"""The packed folder: exact statistics, a hash of everything that matters, copies at other sizes."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.data import DatasetError, PackedDataset
from models.data import packed as module
from models.data.packed import write_packed


def make(
    folder: Path, seed: int = 0, channels: int = 3, classes: tuple[str, ...] = ("a", "b")
) -> PackedDataset:
    rows = np.random.default_rng(seed).integers(0, 256, (6, channels, 16, 16), np.uint8)
    labels = np.array([0, 1, 0, 1, 1, 1], np.int32)
    return write_packed(folder, "six", rows, rows.shape, labels, classes, [{"name": "x", "reason": "y"}])


def test_what_is_written_can_be_opened(tmp_path: Path) -> None:
    written = make(tmp_path / "set")
    opened = PackedDataset.open(tmp_path / "set")
    assert opened == written
    np.testing.assert_array_equal(opened.labels, [0, 1, 0, 1, 1, 1])
    assert opened.images.shape == (6, 3, 16, 16)
    assert opened.class_counts() == {"a": 2, "b": 4}
    assert opened.facts.classes == ("a", "b")


def test_mean_and_std_are_those_of_pixels_in_0_to_1(tmp_path: Path) -> None:
    opened = make(tmp_path)
    scaled = opened.images / 255
    np.testing.assert_allclose(opened.mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(opened.std, scaled.std((0, 2, 3)), rtol=1e-12)


def test_the_hash_covers_pixels_shape_and_class_names(tmp_path: Path) -> None:
    first = make(tmp_path / "1").content_hash
    assert make(tmp_path / "2").content_hash == first
    assert make(tmp_path / "3", seed=1).content_hash != first
    assert make(tmp_path / "4", classes=("a", "c")).content_hash != first


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_a_bit_that_flips_is_found(tmp_path: Path, file: str) -> None:
    """Breaks when a run goes on with other images than it began with, and nobody is told."""
    packed = make(tmp_path / "ds_1" / "packed")
    packed.check_content()
    content = bytearray((packed.folder / file).read_bytes())
    content[-2] ^= 1
    (packed.folder / file).write_bytes(content)
    with pytest.raises(DatasetError, match=file) as raised:
        PackedDataset.open(packed.folder).check_content()
    assert raised.value.code == "damaged_dataset"
    assert "ds_1/packed" in raised.value.message
    assert str(tmp_path.parent) not in raised.value.message, (
        "where a server keeps its files is its own business"
    )


def test_a_damaged_copy_at_another_size_is_made_again(tmp_path: Path) -> None:
    packed = make(tmp_path / "packed")
    whole = packed.at(32, 1)
    content = bytearray((whole.folder / "images.npy").read_bytes())
    content[-2] ^= 1
    (whole.folder / "images.npy").write_bytes(content)
    again = packed.at(32, 1)
    again.check_content()
    assert again.content_hash == whole.content_hash


def test_the_hash_covers_labels(tmp_path: Path) -> None:
    rows = np.zeros((2, 1, 16, 16), np.uint8)
    hashes = {
        write_packed(
            tmp_path / str(label), "x", rows, rows.shape, np.array([0, label], np.int32), ("a", "b")
        ).content_hash
        for label in (0, 1)
    }
    assert len(hashes) == 2


def test_large_sets_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    assert not isinstance(PackedDataset.open(tmp_path).images, np.memmap)
    monkeypatch.setattr(module, "MAPPED_FROM", 100)
    images = PackedDataset.open(tmp_path).images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


def test_other_sizes_and_channels_are_made_once(tmp_path: Path) -> None:
    original = make(tmp_path / "set")
    small = original.at(32, 1, tmp_path / "cache")
    assert small.images.shape == (6, 1, 32, 32)
    assert (small.channels, small.resolution, small.classes) == (1, 32, ("a", "b"))
    np.testing.assert_array_equal(small.labels, original.labels)
    before = (small.folder / "images.npy").stat().st_mtime_ns
    again = original.at(32, 1, tmp_path / "cache")
    assert again == small
    assert (again.folder / "images.npy").stat().st_mtime_ns == before
    assert original.at(16, 3) is original


def test_without_a_cache_the_copy_lies_beside(tmp_path: Path) -> None:
    assert make(tmp_path / "set").at(16, 1).folder.parent == tmp_path


def test_grey_to_colour_repeats_the_channel(tmp_path: Path) -> None:
    grey = make(tmp_path / "set", channels=1)
    colour = grey.at(16, 3)
    for channel in range(3):
        np.testing.assert_array_equal(colour.images[:, channel], grey.images[:, 0])


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    """A machine that lost power while a copy was written must not fail every later job."""
    original = make(tmp_path / "set")
    copy = original.at(32, 3)
    (copy.folder / "images.npy").write_bytes(b"")
    assert original.at(32, 3).images.shape == (6, 3, 32, 32)


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "dataset.json"])
def test_a_damaged_set_says_so(tmp_path: Path, file: str) -> None:
    make(tmp_path)
    (tmp_path / file).write_bytes(b"[]")
    with pytest.raises(DatasetError, match=file) as caught:
        PackedDataset.open(tmp_path)
    assert caught.value.code == "damaged_dataset"


def test_facts_that_do_not_fit_the_arrays_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    facts = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(facts | {"count": 7}))
    with pytest.raises(DatasetError, match="holds uint8"):
        PackedDataset.open(tmp_path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    make(tmp_path)
    np.save(tmp_path / "labels.npy", np.array([object()] * 6), allow_pickle=True)
    with pytest.raises(DatasetError):
        PackedDataset.open(tmp_path)


def test_a_wrong_number_of_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 images were written where 3"):
        write_packed(
            tmp_path, "x", np.zeros((2, 1, 16, 16), np.uint8), (3, 1, 16, 16), np.zeros(3, np.int32), ()
        )

"""Folders become classes as a person would expect, and what repeats or contradicts goes."""

import pytest

from models.data.errors import DatasetError
from models.data.labelling import Row, label
from models.data.limits import Limits


def rows(*paths: str, digests: str | None = None) -> list[Row]:
    """One row for each path; equal letters in `digests` mean equal pictures."""
    letters = digests or "".join(chr(0x100 + number) for number in range(len(paths)))
    return [
        Row(path, path.rpartition("/")[0], letter.encode(), 0, grey=False)
        for path, letter in zip(paths, letters, strict=True)
    ]


def outcome(*paths: str, digests: str | None = None) -> dict[str, str | None]:
    """The class of each image that stayed; None for no class."""
    result = label(rows(*paths, digests=digests), Limits())
    names = (*result.classes, None)
    return {row.name: names[number] for row, number in zip(result.rows, result.labels, strict=True)}


def test_folders_are_classes() -> None:
    assert outcome("cat/1.png", "dog/1.png") == {"cat/1.png": "cat", "dog/1.png": "dog"}


def test_a_folder_around_the_classes_is_no_class() -> None:
    assert outcome("mydata/cat/1.png", "mydata/dog/2.png") == {
        "mydata/cat/1.png": "cat",
        "mydata/dog/2.png": "dog",
    }


@pytest.mark.parametrize("folder", ["", "mydata/", "a/b/c/"])
def test_images_in_one_place_have_no_class(folder: str) -> None:
    assert set(outcome(f"{folder}1.png", f"{folder}2.png").values()) == {None}


def test_the_class_is_the_folder_directly_around_the_image() -> None:
    assert outcome("train/cat/1.png", "test/cat/2.png", "train/dog/3.png") == {
        "train/cat/1.png": "cat",
        "test/cat/2.png": "cat",
        "train/dog/3.png": "dog",
    }


def test_classes_are_sorted_by_name() -> None:
    assert label(rows("b/1.png", "a/1.png", "10/1.png", "9/1.png"), Limits()).classes == ("10", "9", "a", "b")


def test_folders_that_share_the_beginning_of_their_names_are_not_nested() -> None:
    assert outcome("cat/1.png", "cats/1.png") == {"cat/1.png": "cat", "cats/1.png": "cats"}


def test_a_few_flat_images_beside_classes_are_strays() -> None:
    result = label(rows("logo.png", "cat/1.png", "dog/1.png"), Limits())
    assert [row.name for row in result.rows] == ["cat/1.png", "dog/1.png"]
    assert [(entry.name, entry.reason) for entry in result.dropped] == [
        ("logo.png", "it lies outside the class folders")
    ]


def test_a_small_subfolder_beside_flat_images_is_stray() -> None:
    """A forgotten folder must not cost ten thousand flat images."""
    result = label(rows("d/1.png", "d/2.png", "d/3.png", "d/old/4.png"), Limits())
    assert result.classes == ()
    assert result.labels == [-1, -1, -1]
    assert [entry.name for entry in result.dropped] == ["d/old/4.png"]


def test_duplicates_leave_the_first_by_name() -> None:
    result = label(rows("b.png", "a.png", "c.png", digests="xxy"), Limits())
    assert [row.name for row in result.rows] == ["a.png", "c.png"]
    assert [(entry.name, entry.reason) for entry in result.dropped] == [
        ("b.png", "it is a duplicate of a.png")
    ]


def test_one_picture_under_two_classes_is_dropped_under_both() -> None:
    result = label(rows("cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png", digests="xyxz"), Limits())
    assert [row.name for row in result.rows] == ["cat/2.png", "dog/3.png"]
    assert [entry.name for entry in result.dropped] == ["cat/1.png", "dog/1.png"]
    assert all("cat, dog" in entry.reason for entry in result.dropped)


def test_a_class_that_lost_every_image_is_no_class() -> None:
    result = label(rows("cat/1.png", "cat/2.png", "dog/1.png", digests="xyx"), Limits())
    assert result.classes == ("cat",)


def test_the_order_of_the_archive_does_not_matter() -> None:
    paths = ("cat/1.png", "dog/2.png", "cat/3.png")
    assert label(rows(*paths, digests="xyz"), Limits()) == label(rows(*paths[::-1], digests="zyx"), Limits())


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(DatasetError, match="at most 2") as caught:
        label(rows("a/1.png", "b/1.png", "c/1.png"), Limits(classes=2))
    assert caught.value.code == "too_many_classes"

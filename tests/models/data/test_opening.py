"""One name or path on the command line opens any kind of data set, and packs it once."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.data import DatasetError, default_cache, open_dataset


def test_a_builtin_is_built_once(tmp_path: Path) -> None:
    first = open_dataset("digits", tmp_path)
    assert first.count == 1797
    built = (first.folder / "images.npy").stat().st_mtime_ns
    again = open_dataset("digits", tmp_path)
    assert again == first
    assert (again.folder / "images.npy").stat().st_mtime_ns == built


def test_archive_folder_and_packed_folder_are_the_same_set(
    picture: Callable[..., bytes], make_zip: Callable[[Mapping[str, bytes]], Path], tmp_path: Path
) -> None:
    files = {f"{name}/{i}.png": picture(i + 10 * (name == "b")) for name in ("a", "b") for i in range(3)}
    for name, data in files.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    cache = tmp_path / "cache"
    archive = open_dataset(str(make_zip(files)), cache)
    folder = open_dataset(str(tmp_path / "images"), cache)
    packed = open_dataset(str(archive.folder), cache)
    assert archive.classes == ("a", "b")
    assert archive.content_hash == folder.content_hash == packed.content_hash


def test_a_changed_folder_is_packed_again(picture: Callable[..., bytes], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes(picture(1))
    assert open_dataset(str(images), tmp_path / "cache").count == 1
    (images / "2.png").write_bytes(picture(2))
    assert open_dataset(str(images), tmp_path / "cache").count == 2


def test_links_out_of_a_folder_are_not_followed(picture: Callable[..., bytes], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes(picture(1))
    (tmp_path / "secret.png").write_bytes(picture(2))
    (images / "2.png").symlink_to(tmp_path / "secret.png")
    opened = open_dataset(str(images), tmp_path / "cache")
    assert opened.count == 1
    assert opened.dropped == ({"name": "2.png", "reason": "it is a link or a special file"},)


def test_failed_packing_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "not an archive").write_bytes(b"hello")
    with pytest.raises(DatasetError):
        open_dataset(str(tmp_path / "not an archive"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wrong_name_says_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="digits or fashion-mnist"):
        open_dataset("no such thing", tmp_path)


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATELIER_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("ATELIER_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "atelier"

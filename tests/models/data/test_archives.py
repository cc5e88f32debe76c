"""Hostile and damaged archives: bounded, never extracted, and explained."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.data import DatasetError, pack_archive
from models.data.archives import read_archive
from models.data.entries import Found
from models.data.limits import Limits
from tests.models.data.reading import error, outcome

Picture = Callable[..., bytes]
MakeZip = Callable[[Mapping[str, bytes]], Path]
MakeTar = Callable[..., Path]


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tars_are_told_by_content(picture: Picture, make_tar: MakeTar, compression: str) -> None:
    path = make_tar({"a/1.png": picture(1), "a/2.png": picture(2)}, compression=compression)
    found = list(read_archive(path, Limits()))
    assert found == [
        Found("a/1.png", ("a", "1.png"), picture(1)),
        Found("a/2.png", ("a", "2.png"), picture(2)),
    ]


def test_zips_are_told_by_content(picture: Picture, make_zip: MakeZip) -> None:
    assert list(read_archive(make_zip({"1": picture(1)}), Limits())) == [Found("1", ("1",), picture(1))]


NAMES = {
    "/etc/1.png": "absolute",
    "../1.png": "..",
    "a/../../1.png": "..",
    "C:\\1.png": "absolute",
    "a/.hidden/1.png": "hidden",
    "__MACOSX/a/._1.png": "operating system",
    "ok/1.png": "",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_dropped_and_named(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, kind: str
) -> None:
    make = make_zip if kind == "zip" else make_tar
    reasons = outcome(make({name: picture(1) for name in NAMES}))
    assert set(reasons) == set(NAMES)
    for name, words in NAMES.items():
        assert words in reasons[name]
        assert bool(words) == bool(reasons[name])


def test_nothing_is_written_where_a_name_says(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    path = make_zip({"../evil.png": picture(1), "a/1.png": picture(2), "b/2.png": picture(3)})
    pack_archive(path, tmp_path / "deep" / "packed")
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    packed = {f"deep/packed/{file}" for file in ("images.npy", "labels.npy", "names.json", "dataset.json")}
    assert files == {"upload"} | packed


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "special file"),
    ],
)
def test_special_members_of_a_tar_are_dropped(
    picture: Picture, make_tar: MakeTar, kind: bytes, words: str
) -> None:
    member = tarfile.TarInfo("evil.png")
    member.type = kind
    member.linkname = "/etc/passwd"
    reasons = outcome(make_tar({"1.png": picture(1)}, member))
    assert words in reasons["evil.png"]
    assert reasons["1.png"] == ""


@pytest.mark.parametrize(("mode", "words"), [(0o120777, "symbolic link"), (0o020666, "device")])
def test_special_entries_of_a_zip_are_dropped(
    tmp_path: Path, picture: Picture, mode: int, words: str
) -> None:
    info = zipfile.ZipInfo("evil.png")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr("1.png", picture(1))
    assert words in outcome(tmp_path / "upload")["evil.png"]


FOREIGN = {
    "nested.zip": (b"PK\x03\x04" + bytes(50), "archive inside"),
    "nested.tar.gz": (gzip.compress(b"x", mtime=0), "archive inside"),
    "nested.tar": (bytes(257) + b"ustar" + bytes(300), "archive inside"),
    "eps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
    "svg.png": (b'\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "psd.png": (b"8BPS" + bytes(50), "Photoshop"),
    "gif.png": (b"GIF89a" + bytes(50), "GIF"),
    "notes.txt": (b"hello", "not an image"),
    "empty.png": (b"", "empty"),
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_files_in_disguise_are_named_for_what_they_are(
    make_zip: MakeZip, make_tar: MakeTar, kind: str
) -> None:
    make = make_zip if kind == "zip" else make_tar
    reasons = outcome(make({name: data for name, (data, _) in FOREIGN.items()}))
    for name, (_, words) in FOREIGN.items():
        assert words in reasons[name]


def test_xz_streams_one_after_another_are_one(picture: Picture, make_tar: MakeTar) -> None:
    """Parallel compressors write them."""
    path = make_tar({"1.png": picture(1), "2.png": picture(2)})
    data = path.read_bytes()
    path.write_bytes(lzma.compress(data[:1000]) + bytes(4) + lzma.compress(data[1000:]))
    assert outcome(path) == {"1.png": "", "2.png": ""}


def test_encrypted_entries_are_dropped(picture: Picture, make_zip: MakeZip) -> None:
    path = make_zip({"1.png": picture(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "password" in outcome(path)["1.png"]


def test_a_flipped_bit_costs_one_entry_of_a_zip(picture: Picture, make_zip: MakeZip) -> None:
    path = make_zip({"1.png": picture(1), "2.png": picture(2)})
    data = bytearray(path.read_bytes())
    data[len(picture(1)) // 2] ^= 0xFF
    path.write_bytes(data)
    reasons = outcome(path)
    assert "damaged inside" in reasons["1.png"]
    assert reasons["2.png"] == ""


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2", "xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_archives_are_unreadable(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, kind: str, share: float
) -> None:
    """Half of an upload must never pass for a whole data set."""
    files = {f"{number}.png": picture(number) for number in range(8)}
    path = make_zip(files) if kind == "zip" else make_tar(files, compression=kind.replace("tar", ""))
    data = path.read_bytes()
    path.write_bytes(data[: int(sum(map(len, files.values())) * share)])
    assert error(path).code == "unreadable_archive"


def test_a_damaged_header_is_not_the_end_of_a_tar(picture: Picture, make_tar: MakeTar) -> None:
    """tarfile would silently leave out everything behind it."""
    path = make_tar({f"{number}.png": picture(number) for number in range(4)})
    data = bytearray(path.read_bytes())
    data[data.index(b"2.png")] ^= 0xFF
    path.write_bytes(data)
    assert error(path).code == "unreadable_archive"


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04 nothing more",
        gzip.compress(b"hello", mtime=0),
        bz2.compress(b"hello"),
    ],
)
def test_what_is_no_archive_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "upload").write_bytes(data)
    assert error(tmp_path / "upload").code == "unreadable_archive"


@pytest.mark.parametrize("kind", ["empty file", "empty zip", "empty tar", "no image"])
def test_an_archive_without_images_fails_with_a_reason(
    make_zip: MakeZip, make_tar: MakeTar, tmp_path: Path, kind: str
) -> None:
    if kind == "empty file":
        path = tmp_path / "upload"
        path.write_bytes(b"")
    elif kind == "empty tar":
        path = make_tar({})
    else:
        path = make_zip({} if kind == "empty zip" else {"notes.txt": b"hello"})
    with pytest.raises(DatasetError) as caught:
        pack_archive(path, tmp_path / "packed")
    assert caught.value.code == ("unreadable_archive" if kind == "empty file" else "no_images")
    if kind == "no image":
        assert "notes.txt: it is not an image" in caught.value.message

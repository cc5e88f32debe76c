"""Archives made to exhaust memory, disk or time: each is stopped by a count kept while it is read."""

import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.data.archives import read_archive
from models.data.entries import Dropped
from models.data.limits import MIB, Limits
from models.data.names import LONGEST
from tests.models.data.reading import error, outcome

Picture = Callable[..., bytes]
MakeZip = Callable[[Mapping[str, bytes]], Path]
MakeTar = Callable[..., Path]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_entries_end_the_reading(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, kind: str
) -> None:
    make = make_zip if kind == "zip" else make_tar
    files = {f"{number}.png": b"" for number in range(21)}
    assert len(outcome(make(files), Limits(entries=21))) == 21
    assert error(make(files), Limits(entries=20)).code == "archive_too_large"


def test_a_million_entries_are_counted_before_they_become_objects(tmp_path: Path) -> None:
    """zipfile makes an object of every record of the directory: a gigabyte for a million, from 50 MB."""
    record = (
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    )
    count = 1_000_000
    directory = record * count
    local = b"PK\x03\x04" + bytes(27)
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), len(local)
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(local) + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = tmp_path / "upload"
    path.write_bytes(local + directory + end64 + locator + end)
    del directory
    tracemalloc.start()
    try:
        assert error(path).code == "archive_too_large"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * MIB


def test_names_of_megabytes_are_not_kept(picture: Picture, make_tar: MakeTar) -> None:
    """A tar header holds a name of 4 MiB in 4 KiB: the report of 64 MB would fill 64 GB of memory."""
    long = "a" * MIB
    path = make_tar({f"{long}.png": picture(), f"{long}.txt": b""}, compression="gz")
    dropped = list(read_archive(path, Limits()))
    assert [len(entry.name) for entry in dropped] == [LONGEST, LONGEST]
    assert {entry.reason for entry in dropped if isinstance(entry, Dropped)} == {
        "its name is longer than 1,000 characters"
    }


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_a_bomb_is_stopped_by_what_it_unpacks_to(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, kind: str
) -> None:
    """64 MiB of zeros behind the first bytes of a PNG, from some 64 KiB."""
    files = {f"{number}.png": picture(1, 8)[:100] + bytes(8 * MIB) for number in range(8)}
    path = make_zip(files) if kind == "zip" else make_tar(files, compression=kind)
    assert error(path, Limits(ratio_from=16 * MIB)).code == "archive_too_large"
    assert error(path, Limits(total_bytes=16 * MIB)).code == "archive_too_large"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_file_that_is_too_large_is_dropped(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, kind: str
) -> None:
    make = make_zip if kind == "zip" else make_tar
    path = make({"large.png": picture(1) + bytes(3 * MIB), "small.png": picture(2)})
    reasons = outcome(path, Limits(entry_bytes=2 * MIB))
    assert "larger than 2 MiB" in reasons["large.png"]
    assert reasons["small.png"] == ""


def declare(path: Path, size: int) -> None:
    """Write another uncompressed size into the records of a zip with one entry."""
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack("<L", size)
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<L", size)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [10, 1000, 0xFFFFFF00])
def test_a_declared_size_is_not_believed(picture: Picture, make_zip: MakeZip, size: int) -> None:
    """Neither a bomb that calls itself small nor a small file that calls itself huge gets its memory."""
    path = make_zip({"1.png": picture(1, 8)[:100] + bytes(8 * MIB)})
    declare(path, size)
    tracemalloc.start()
    try:
        (reason,) = outcome(path, Limits(entry_bytes=4 * MIB)).values()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reason
    assert peak < 16 * MIB


def test_zip_methods_that_unpack_without_bound_are_not_used(tmp_path: Path, picture: Picture) -> None:
    """With bzip2 zipfile expands 4 KiB to gigabytes at once; with LZMA a header claims gigabytes."""
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        archive.writestr("1.png", picture(1), zipfile.ZIP_BZIP2)
        archive.writestr("2.png", picture(2), zipfile.ZIP_LZMA)
        archive.writestr("3.png", picture(3), zipfile.ZIP_STORED)
    reasons = outcome(tmp_path / "upload")
    assert "compression method" in reasons["1.png"]
    assert "compression method" in reasons["2.png"]
    assert reasons["3.png"] == ""


def test_an_xz_dictionary_of_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * MIB}]
    (tmp_path / "upload").write_bytes(lzma.compress(bytes(2048), filters=filters))
    assert error(tmp_path / "upload").code == "unreadable_archive"


def test_a_tar_header_of_gigabytes_is_refused(tmp_path: Path) -> None:
    """tarfile reads extended headers whole, at whatever size they declare."""
    member = tarfile.TarInfo("x")
    member.type = tarfile.XHDTYPE
    member.size = 64 * MIB
    (tmp_path / "upload").write_bytes(gzip.compress(member.tobuf() + bytes(64 * MIB)))
    tracemalloc.start()
    try:
        assert error(tmp_path / "upload", Limits(ratio=10**6)).code == "unsafe_archive"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_endless_chains_of_tar_headers_are_refused(tmp_path: Path) -> None:
    """tarfile calls itself for each header that follows a header."""
    member = tarfile.TarInfo("x")
    member.type = tarfile.XGLTYPE
    record = b"11 a=bcdef\n"
    member.size = len(record)
    (tmp_path / "upload").write_bytes((member.tobuf() + record.ljust(512, b"\0")) * 3000)
    assert error(tmp_path / "upload").code == "unreadable_archive"


@pytest.mark.parametrize("mode", ["same", "nested"])
def test_overlapping_zip_entries_are_refused(
    tmp_path: Path, picture: Picture, make_zip: MakeZip, mode: str
) -> None:
    """Thousands of records that share one block of data make a zip bomb without any compression ratio."""
    path = make_zip({"1.png": picture(1), "2.png": picture(2)})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    offset = 0 if mode == "same" else 100
    data[second + 42 : second + 46] = struct.pack("<L", offset)
    path.write_bytes(data)
    assert error(path).code == "unsafe_archive"


def test_memory_does_not_grow_with_the_members_of_a_tar(tmp_path: Path) -> None:
    """tarfile keeps an object for each member, some kilobytes with their headers."""

    def peak(members: int) -> int:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for number in range(members):
                archive.addfile(tarfile.TarInfo(f"{number}-" + "é" * 200))
        (tmp_path / "upload").write_bytes(buffer.getvalue())
        tracemalloc.start()
        try:
            for entry in read_archive(tmp_path / "upload", Limits()):
                assert isinstance(entry, Dropped)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(3000) < peak(100) + MIB

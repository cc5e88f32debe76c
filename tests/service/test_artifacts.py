"""Artifacts are whole or not there, are found by their key alone, and never leave their folder."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.artifacts import Artifacts
from service.errors import Invalid, NotFound, Unavailable


@pytest.fixture(params=["folder", "file:", "memory:"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    url = {
        "folder": str(tmp_path / "store"),
        "file:": f"file://{tmp_path / 'store'}",
        "memory:": f"memory://{secrets.token_hex(4)}",
    }[request.param]
    return Artifacts(url, cache=tmp_path / "cache")


def file_of(folder: Path, content: bytes) -> Path:
    file = folder / "made.bin"
    file.write_bytes(content)
    return file


def test_what_is_stored_comes_back(store: Artifacts, tmp_path: Path) -> None:
    store.put_bytes(b"one", "jobs/job_1/a.bin")
    made = file_of(tmp_path, b"three")
    store.put_file(made, "jobs/job_1/deep/b.bin")
    assert not made.exists()
    assert store.read("jobs/job_1/a.bin") == b"one"
    assert store.size("jobs/job_1/deep/b.bin") == 5
    with store.open("jobs/job_1/deep/b.bin") as file:
        file.seek(1)
        assert file.read(2) == b"hr"
    assert store.local("jobs/job_1/a.bin").read_bytes() == b"one"
    assert (store.local_folder("jobs/job_1") / "deep" / "b.bin").read_bytes() == b"three"
    assert store.exists("jobs/job_1/a.bin")
    assert not store.exists("jobs/job_1")


def test_what_is_stored_again_replaces_the_old_also_where_it_was_downloaded(store: Artifacts) -> None:
    for content in (b"old", b"newer"):
        store.put_bytes(content, "jobs/a.bin")
        assert store.local("jobs/a.bin").read_bytes() == content
        assert (store.local_folder("jobs") / "a.bin").read_bytes() == content


def test_a_missing_artifact_is_not_found(store: Artifacts) -> None:
    reading: list[Callable[[str], object]] = [
        store.read,
        store.open,
        store.size,
        store.local,
        store.local_folder,
    ]
    for read in reading:
        with pytest.raises(NotFound, match="jobs/none"):
            read("jobs/none")
    assert not store.exists("jobs/none")
    store.delete("jobs/none")


def test_deleting_takes_a_file_or_a_folder_and_no_neighbour_of_a_similar_name(store: Artifacts) -> None:
    for key in ("ds/1/a", "ds/1/b", "ds/10/a"):
        store.put_bytes(b"x", key)
    store.delete("ds/1/a")
    assert [store.exists(key) for key in ("ds/1/a", "ds/1/b", "ds/10/a")] == [False, True, True]
    store.delete("ds/1")
    assert [store.exists(key) for key in ("ds/1/b", "ds/10/a")] == [False, True]


BAD_KEYS = [
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    ".",
    "..",
    "a/.hidden",
    "a\x00b",
    "a\\b",
    "~",
    "a b",
    "é",
]


@pytest.mark.parametrize("key", [*BAD_KEYS, "x" * 600, "a/%2e%2e/b", "file:///etc/passwd", "a\n"])
def test_a_key_that_could_lead_elsewhere_is_refused_everywhere(
    store: Artifacts, tmp_path: Path, key: str
) -> None:
    made = file_of(tmp_path, b"x")
    for use in (
        store.read,
        store.open,
        store.size,
        store.exists,
        store.local,
        store.local_folder,
        store.delete,
    ):
        with pytest.raises(Invalid):
            use(key)
    with pytest.raises(Invalid):
        store.put_bytes(b"x", key)
    with pytest.raises(Invalid):
        store.put_file(made, key)
    assert made.exists()


@given(st.text(max_size=40))
def test_any_key_is_refused_or_stays_inside(key: str) -> None:
    root = Path("/store")
    try:
        path = Path(Artifacts(str(root))._path(key))
    except Invalid:
        return
    assert path != root
    assert Path(os.path.normpath(path)).is_relative_to(root)


def test_a_file_that_is_being_written_cannot_be_seen(tmp_path: Path) -> None:
    """A process that dies while it stores leaves the old file, or none, and never half of one."""
    store = Artifacts(str(tmp_path))
    store.put_bytes(b"a" * 2_000_000, "a.bin")
    code = (
        "import sys; from service.artifacts import Artifacts; store = Artifacts(sys.argv[1])\n"
        "for i in range(10**6):\n"
        "    store.put_bytes(bytes([98 + i % 20]) * 2_000_000, 'a.bin')\n"
        "    print(i, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            found = store.read("a.bin")
            assert len(found) == 2_000_000
            assert len(set(found)) == 1
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert len(set(store.read("a.bin"))) == 1


def test_a_file_that_cannot_be_stored_is_not_lost(tmp_path: Path) -> None:
    store, made = Artifacts(str(tmp_path / "store")), file_of(tmp_path, b"x")
    store.put_bytes(b"in the way", "jobs")
    with pytest.raises(OSError, match="jobs"):
        store.put_file(made, "jobs/a.bin")
    assert made.read_bytes() == b"x"
    assert store.read("jobs") == b"in the way"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second filesystem")
def test_a_file_of_another_filesystem_is_taken_over_too(tmp_path: Path) -> None:
    folder = Path("/dev/shm") / f"atelier-{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        made = file_of(folder, b"x" * 100)
        store = Artifacts(str(tmp_path / "store"))
        store.put_file(made, "jobs/a.bin")
        assert store.read("jobs/a.bin") == b"x" * 100
        assert list(folder.iterdir()) == []
        assert [file.name for file in (tmp_path / "store" / "jobs").iterdir()] == ["a.bin"]
    finally:
        folder.rmdir()


def test_a_store_is_checked_by_using_it(store: Artifacts) -> None:
    store.check()


def test_a_store_that_cannot_be_written_says_what_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unavailable, match="ATELIER_ARTIFACTS_URL"):
        Artifacts(str(tmp_path / "file" / "store")).check()

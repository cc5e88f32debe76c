"""What every store of artifacts keeps to: a folder, memory, and S3 by a real server."""

import hashlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import checkpoint_folders
from models.durable import SavedFile
from service.artifacts import CHUNK_BYTES, Artifacts
from service.errors import Invalid, NotFound, Unavailable


@pytest.fixture(params=["folder", "file:", "memory:", "s3:"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3:":
        return str(request.getfixturevalue("bucket"))
    return {
        "folder": str(tmp_path / "store"),
        "file:": f"file://{tmp_path / 'store'}",
        "memory:": f"memory://{secrets.token_hex(4)}",
    }[request.param]


@pytest.fixture
def store(url: str, tmp_path: Path) -> Artifacts:
    return Artifacts(url, cache=tmp_path / "cache")


SHARED = pytest.mark.parametrize("url", ["folder", "s3:"], indirect=True)
"""The stores that other processes see."""


def in_another_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Runs code that has `store`, of the address in the first argument, and `sys.argv`."""
    opened = "import sys; from service.artifacts import Artifacts; store = Artifacts(sys.argv[1])\n"
    command = [sys.executable, "-c", opened + code, *arguments]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


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


def test_a_part_is_read_from_anywhere_to_anywhere(store: Artifacts) -> None:
    content = os.urandom(CHUNK_BYTES + 1000)
    store.put_bytes(content, "a.bin")
    for start, stop in ((0, len(content)), (7, 8), (CHUNK_BYTES - 5, CHUNK_BYTES + 5), (3, 3)):
        assert b"".join(store.chunks("a.bin", start, stop)) == content[start:stop]
    with pytest.raises(Unavailable):
        list(store.chunks("a.bin", 0, len(content) + 1))


def test_a_file_of_many_parts_is_stored_and_fetched_as_it_was(store: Artifacts, tmp_path: Path) -> None:
    """Breaks when parts are lost, doubled, or in another order; S3 takes 8 MiB at a time."""
    content = os.urandom(20 << 20)
    store.put_file(file_of(tmp_path, content), "one")
    store.put_bytes(content, "two")
    for key in ("one", "two"):
        assert store.read(key) == content
        assert store.local(key).read_bytes() == content


def test_a_version_has_a_mark_of_its_own(store: Artifacts) -> None:
    """Breaks when a download goes on in another version than the one that it began with."""
    store.put_bytes(b"one", "a.bin")
    first = store.describe("a.bin")
    assert first == store.describe("a.bin")
    assert first.size == 3
    store.put_bytes(b"two", "a.bin")
    assert store.describe("a.bin").version != first.version


@SHARED
def test_what_another_process_does_is_seen_at_once(store: Artifacts, url: str) -> None:
    """Breaks when a listing is remembered: a checkpoint that is gone would be resumed from."""
    store.put_bytes(b"old", "jobs/1/a.bin")
    assert [file.name for file in store.local_folder("jobs/1").iterdir()] == ["a.bin"]
    assert not store.exists("jobs/1/b.bin")
    store.describe("jobs/1/a.bin")
    code = "store.put_bytes(b'newer', 'jobs/1/a.bin'); store.put_bytes(b'b', 'jobs/1/b.bin')"
    assert in_another_process(code, url).wait(120) == 0
    assert sorted(file.name for file in store.local_folder("jobs/1").iterdir()) == ["a.bin", "b.bin"]
    assert (store.size("jobs/1/a.bin"), store.exists("jobs/1/b.bin")) == (5, True)
    assert store.local("jobs/1/a.bin").read_bytes() == b"newer"
    assert in_another_process("store.delete('jobs/1')", url).wait(120) == 0
    assert not store.exists("jobs/1/a.bin")
    with pytest.raises(NotFound):
        store.local_folder("jobs/1")


def test_a_checkpoint_is_intact_once_its_manifest_is_stored_and_not_before(
    store: Artifacts, tmp_path: Path
) -> None:
    """Breaks when a worker that is killed while it stores leaves half a checkpoint that looks whole."""
    folder = tmp_path / "made"
    folder.mkdir()
    names = ("checkpoint.safetensors", "state.safetensors")
    for name in names:
        (folder / name).write_bytes(name.encode() * 1000)
    checkpoint_folders.commit(folder, saved(folder, names))
    for file in checkpoint_folders.files(folder):
        assert not stored_intact(store, "jobs/1/checkpoints/1-00000001"), file.name
        store.put_file(file, f"jobs/1/checkpoints/1-00000001/{file.name}")
    assert stored_intact(store, "jobs/1/checkpoints/1-00000001")
    store.delete("jobs/1/checkpoints/1-00000001/state.safetensors")
    assert not stored_intact(store, "jobs/1/checkpoints/1-00000001")


def saved(folder: Path, names: Iterable[str]) -> list[SavedFile]:
    contents = {name: (folder / name).read_bytes() for name in names}
    return [
        SavedFile(folder / name, hashlib.sha256(content).hexdigest(), len(content))
        for name, content in contents.items()
    ]


def stored_intact(store: Artifacts, prefix: str) -> bool:
    try:
        return checkpoint_folders.is_intact(store.local_folder(prefix))
    except NotFound:
        return False


def test_deleting_takes_a_file_or_a_folder_and_no_neighbour_of_a_similar_name(store: Artifacts) -> None:
    for key in ("ds/1/a", "ds/1/b", "ds/10/a"):
        store.put_bytes(b"x", key)
    store.delete("ds/1/a")
    assert [store.exists(key) for key in ("ds/1/a", "ds/1/b", "ds/10/a")] == [False, True, True]
    store.delete("ds/1")
    assert [store.exists(key) for key in ("ds/1/b", "ds/10/a")] == [False, True]


def test_what_lies_right_below_a_prefix_is_named(store: Artifacts) -> None:
    """Breaks when a store lists what lies deeper, a neighbour of a similar name, or what it once saw."""
    assert store.names("jobs/1") == set()
    for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10/d"):
        store.put_bytes(b"x", key)
    assert store.names("jobs/1") == {"a", "b"}
    store.delete("jobs/1/b")
    assert store.names("jobs/1") == {"a"}


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


@SHARED
def test_a_file_that_is_being_written_cannot_be_seen(store: Artifacts, url: str) -> None:
    """A process that dies while it stores leaves the old file, or none, and never half of one."""
    store.put_bytes(b"a" * 2_000_000, "a.bin")
    code = (
        "for i in range(10**6):\n"
        "    store.put_bytes(bytes([98 + i % 20]) * 2_000_000, 'a.bin')\n"
        "    print(i, flush=True)\n"
    )
    writer = in_another_process(code, url)
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


@pytest.mark.parametrize(("address", "said"), [("s3://", "names no bucket"), ("nothing://x", "nothing")])
def test_an_address_that_cannot_be_used_is_a_wrong_setting(address: str, said: str) -> None:
    """Breaks when the process starts and every request fails."""
    with pytest.raises(Invalid, match=said):
        Artifacts(address)


def test_a_folder_needs_nothing_of_s3(tmp_path: Path) -> None:
    """Breaks when every process of every deployment pays for a client of S3: 100 ms, and 40 MB of memory."""
    code = "store.check(); print(*({'s3fs', 'botocore', 'aiohttp'} & set(sys.modules)))"
    ran = in_another_process(code, str(tmp_path))
    assert ran.communicate(timeout=120)[0].split() == []
    assert ran.returncode == 0

"""A store that fails: what passes is waited for; what lasts is `Unavailable`, with a hint, in time."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service import filesystems
from service.artifacts import Artifacts
from service.errors import Unavailable
from tests.faulty_proxy import Fault, FaultyProxy
from tests.s3_server import impatience
from tests.small_disk import mounted

METHODS: dict[str, Callable[[Artifacts, Path], object]] = {
    "put_file": lambda store, file: store.put_file(file, "jobs/b.bin"),
    "put_bytes": lambda store, _: store.put_bytes(b"b", "jobs/b.bin"),
    "open": lambda store, _: store.open("jobs/a.bin").close(),
    "read": lambda store, _: store.read("jobs/a.bin"),
    "chunks": lambda store, _: list(store.chunks("jobs/a.bin", 0, 1)),
    "exists": lambda store, _: store.exists("jobs/a.bin"),
    "describe": lambda store, _: store.describe("jobs/a.bin"),
    "size": lambda store, _: store.size("jobs/a.bin"),
    "delete": lambda store, _: store.delete("jobs/a.bin"),
    "local": lambda store, _: store.local("jobs/a.bin"),
    "local_folder": lambda store, _: store.local_folder("jobs"),
    "check": lambda store, _: store.check(),
}


@pytest.fixture
def store(s3_proxy: FaultyProxy, bucket: str, tmp_path: Path) -> Artifacts:
    """A store in S3, used before, with the file jobs/a.bin."""
    opened = Artifacts(bucket, cache=tmp_path / "cache")
    opened.put_bytes(b"a", "jobs/a.bin")
    return opened


@pytest.fixture
def made(tmp_path: Path) -> Path:
    file = tmp_path / "made.bin"
    file.write_bytes(b"made")
    return file


@pytest.mark.parametrize("name", ["put_file", "put_bytes", "chunks", "local_folder"])
def test_a_few_503s_are_waited_for(store: Artifacts, s3_proxy: FaultyProxy, made: Path, name: str) -> None:
    """Breaks when S3's usual request to slow down fails a training."""
    s3_proxy.fault = Fault("503", times=2)
    METHODS[name](store, made)
    assert s3_proxy.fault.times == 0


def test_a_silence_is_waited_for(
    bucket: str, store: Artifacts, s3_proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a connection that a firewall forgot takes a training with it."""
    monkeypatch.setattr(filesystems, "SILENCE_SECONDS", 3.0)
    s3_proxy.fault = Fault("silence", times=1)
    began = time.monotonic()
    assert Artifacts(bucket).read("jobs/a.bin") == b"a"
    assert time.monotonic() - began >= 3.0


def test_a_download_that_breaks_off_is_fetched_again(
    store: Artifacts, s3_proxy: FaultyProxy, made: Path
) -> None:
    made.write_bytes(b"x" * 1_000_000)
    store.put_file(made, "jobs/b.bin")
    s3_proxy.fault = Fault("cut", times=1, matching="GET")
    assert store.local("jobs/b.bin").read_bytes() == b"x" * 1_000_000
    assert s3_proxy.fault.times == 0


@pytest.mark.parametrize("kind", ["503", "silence"])
@pytest.mark.parametrize("name", METHODS)
def test_a_lasting_fault_is_told_as_unavailable(
    store: Artifacts, bucket: str, s3_proxy: FaultyProxy, made: Path, name: str, kind: str
) -> None:
    """Breaks when a caller has to know botocore's errors, or takes an outage for a file that is gone."""
    s3_proxy.fault = Fault(kind)
    with impatience(), pytest.raises(Unavailable) as raised:
        METHODS[name](Artifacts(bucket), made)
    assert raised.value.code == "artifacts_unavailable"
    assert "ATELIER_ARTIFACTS_URL" in str(raised.value.hint)
    assert made.read_bytes() == b"made"
    s3_proxy.fault = None
    assert not store.exists("jobs/b.bin")
    METHODS[name](store, made)


def test_an_upload_that_nobody_reads_ends(bucket: str, s3_proxy: FaultyProxy, made: Path) -> None:
    """Breaks when a worker hangs for ever: no timeout of the client's is about what it sends."""
    made.write_bytes(b"x" * 7_000_000)  # more than sockets take on their own
    s3_proxy.fault = Fault("silence")
    with impatience(), pytest.raises(Unavailable):
        Artifacts(bucket).put_file(made, "jobs/b.bin")
    assert made.stat().st_size == 7_000_000


@pytest.mark.parametrize("name", METHODS)
def test_a_server_that_is_gone_is_told_as_unavailable(
    bucket: str, made: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with impatience(), pytest.raises(Unavailable):
        METHODS[name](Artifacts(bucket), made)
    assert made.exists()


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_bucket_is_no_missing_file(bucket: str, made: Path, name: str) -> None:
    """Breaks when a worker with a typing error in its address takes a job's checkpoints for lost."""
    with pytest.raises(Unavailable):
        METHODS[name](Artifacts(bucket.replace("atelier", "nobody")), made)


def test_a_killed_upload_leaves_what_was_there(bucket: str, store: Artifacts, s3_proxy: FaultyProxy) -> None:
    """Breaks when a file of several parts can be seen before its last one is there."""
    s3_proxy.fault = Fault("silence", matching="partNumber=2")
    code = (
        "import sys; from service.artifacts import Artifacts; store = Artifacts(sys.argv[1])\n"
        "store.put_bytes(b'b' * (20 << 20), sys.argv[2])"
    )
    for key in ("jobs/a.bin", "jobs/new.bin"):
        seen = len(s3_proxy.seen)
        writer = subprocess.Popen([sys.executable, "-c", code, bucket, key], cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 120
        while not any("partNumber=2" in line for line in s3_proxy.seen[seen:]):
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        writer.kill()
        writer.wait()
    assert store.read("jobs/a.bin") == b"a"
    assert not store.exists("jobs/new.bin")
    assert [file.name for file in store.local_folder("jobs").iterdir()] == ["a.bin"]


def test_a_folder_with_something_in_the_way_is_told_as_unavailable(tmp_path: Path, made: Path) -> None:
    store = Artifacts(str(tmp_path / "store"))
    store.put_bytes(b"in the way", "jobs")
    for name in ("put_file", "put_bytes"):
        with pytest.raises(Unavailable, match="ATELIER_ARTIFACTS_URL"):
            METHODS[name](store, made)
    assert made.read_bytes() == b"made"
    assert store.read("jobs") == b"in the way"
    with pytest.raises(Unavailable, match="ATELIER_ARTIFACTS_URL"):
        Artifacts(str(tmp_path / "store" / "jobs" / "deeper")).check()


SMALL_DISK = """
import sys
from pathlib import Path
from service.artifacts import Artifacts
from service.errors import Unavailable

store, made = Artifacts(sys.argv[1]), Path(sys.argv[2])
store.put_bytes(b"a", "jobs/a.bin")
for put, what in ((store.put_file, made), (store.put_bytes, b"x" * 2_000_000)):
    try:
        put(what, "jobs/b.bin")
    except Unavailable as error:
        print(error.code)
print(made.stat().st_size, store.exists("jobs/b.bin"), *(path.name for path in Path(sys.argv[1]).rglob("*")))
"""


def test_a_full_disk_says_so_and_keeps_nothing_of_the_file(tmp_path: Path, made: Path) -> None:
    """Breaks when half a file stays, when the only copy is lost, or when nobody is told what to do."""
    made.write_bytes(b"x" * 2_000_000)
    folder = tmp_path / "small"
    ran = mounted("size=1m", folder, sys.executable, "-c", SMALL_DISK, str(folder), str(made))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["artifacts_full"] * 2 + ["2000000", "False", "jobs", "a.bin"]


def test_a_read_only_disk_is_told_as_unavailable(tmp_path: Path, made: Path) -> None:
    folder = tmp_path / "read-only"
    code = SMALL_DISK.replace('store.put_bytes(b"a", "jobs/a.bin")\n', "")
    ran = mounted("ro", folder, sys.executable, "-c", code, str(folder), str(made))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["artifacts_unavailable"] * 2 + ["4", "False"]


def test_what_is_told_names_no_address(bucket: str, s3_proxy: FaultyProxy) -> None:
    """Breaks when clients learn the operator's bucket and server."""
    s3_proxy.fault = Fault("503")
    with impatience(), pytest.raises(Unavailable) as raised:
        Artifacts(bucket).read("jobs/a.bin")
    assert "127.0.0.1" not in str(raised.value)
    assert "atelier-" not in str(raised.value)

"""The cache of downloads: private, bounded, whole, shared by processes, and never emptied under a user."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.artifacts import Artifacts
from service.downloads import GRACE, HELD, Downloads
from service.errors import Unavailable

SIZE = 1000


def fill(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * SIZE)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def use(downloads: Downloads, *wanted: str) -> None:
    for name in wanted:
        assert (downloads.folder(name, SIZE, fill) / "file").read_bytes() == b"x" * SIZE


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    """Breaks when the disk fills up, or the dataset of every job goes for a picture."""
    others = [Downloads(tmp_path / "cache", limit=3 * SIZE) for _ in range(4)]
    for age, (downloads, name) in enumerate(zip(others, ("a", "b", "c", "a"), strict=True)):
        use(downloads, name)
        os.utime(tmp_path / "cache" / name, (age + 1, age + 1))
    del downloads, others  # and with them their locks
    use(Downloads(tmp_path / "cache", limit=3 * SIZE), "d")
    assert names(tmp_path / "cache") == {"c", "a", "d"}


def test_what_a_process_uses_stays_however_full_it_is(tmp_path: Path) -> None:
    """Breaks when a training's dataset is removed under it."""
    downloads = Downloads(tmp_path / "cache", limit=SIZE)
    wanted = [str(number) for number in range(HELD)]
    use(downloads, *wanted)
    assert names(tmp_path / "cache") == set(wanted)
    use(downloads, *["again"] * 3)
    assert names(tmp_path / "cache") == {*wanted, "again"}
    use(downloads, "last")
    assert names(tmp_path / "cache") == {*wanted[1:], "again", "last"}


HOLD = """
import sys, time
from pathlib import Path
from service.downloads import Downloads

def fill(folder):
    (folder / "file").write_bytes(b"x" * 1000)
    print("filling", flush=True)
    if sys.argv[2] == "half":
        time.sleep(600)

downloads = Downloads(Path(sys.argv[1]))
downloads.folder("theirs", 1000, fill)
print("held", flush=True)
time.sleep(600)
"""


def holder(folder: Path, how: str, until: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != until:
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("how", "until"), [("whole", "held"), ("half", "filling")])
def test_another_process_keeps_what_it_uses_until_it_is_killed(tmp_path: Path, how: str, until: str) -> None:
    folder = tmp_path / "cache"
    process = holder(folder, how, until)
    (theirs,) = names(folder)
    try:
        os.utime(folder / theirs, (1, 1))
        use(Downloads(folder, limit=SIZE), "a")
        assert names(folder) == {theirs, "a"}
        process.kill()
        process.wait()
        use(Downloads(folder, limit=SIZE), "b")
        assert names(folder) == {"b"}
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_killed_downloads_left_goes_and_what_is_just_being_made_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    use(Downloads(folder), "a")
    for name, age in ((".old", 2 * GRACE), (".new", 0.0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    use(Downloads(folder), "b")
    assert names(folder) == {"a", "b", ".new"}


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path / "cache")

    def broken(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise OSError("the connection broke")

    with pytest.raises(OSError, match="broke"):
        downloads.folder("a", SIZE, broken)
    assert names(tmp_path / "cache") == set()
    use(downloads, "a")


def test_many_at_once_find_whole_folders(tmp_path: Path) -> None:
    """Breaks when two that download the same thing disturb each other, or one that makes room does."""
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                use(Downloads(tmp_path / "cache", limit=3 * SIZE), str((number + turn) % 5))
        except BaseException as error:  # noqa: BLE001  told by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert not [name for name in names(tmp_path / "cache") if name.startswith(".")]


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    use(Downloads(folder), "a")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "a").stat().st_mode & 0o077 == 0


def elsewhere(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir()
    folder.symlink_to(folder.with_name("elsewhere"))


def somebody_elses(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize(
    "prepare",
    [
        elsewhere,
        pytest.param(
            somebody_elses, marks=pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
        ),
    ],
)
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    """Breaks when whoever may write to the folder for temporary files decides what weights a worker loads."""
    prepare(tmp_path / "cache")
    with pytest.raises(Unavailable, match="somebody else"):
        use(Downloads(tmp_path / "cache"), "a")


def test_a_store_elsewhere_downloads_once(bucket: str, tmp_path: Path) -> None:
    store = Artifacts(bucket, cache=tmp_path / "cache")
    store.put_bytes(b"a", "jobs/1/a.bin")
    first, folder = store.local("jobs/1/a.bin"), store.local_folder("jobs/1")
    assert (first, folder) == (store.local("jobs/1/a.bin"), store.local_folder("jobs/1"))
    assert (first, folder) == (
        Artifacts(bucket, cache=tmp_path / "cache").local("jobs/1/a.bin"),
        Artifacts(bucket, cache=tmp_path / "cache").local_folder("jobs/1"),
    )
    assert len(names(tmp_path / "cache")) == 2

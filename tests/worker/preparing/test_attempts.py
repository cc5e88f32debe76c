"""Outages, deletions, repeated messages, rival workers: a dataset is recorded once, by whoever holds it."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.errors import Unavailable
from service.records import datasets
from service.records.status import DatasetStatus
from service.records.tables import Dataset
from worker import preparing
from worker.preparing import ProgressWriter, Task, prepare
from worker.resources import Resources


def leftovers(resources: Resources) -> list[Path]:
    return list((resources.settings.data / "preparing").iterdir())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_leaves_the_dataset_to_be_tried_again(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database that is away for a minute must not cost an upload."""

    def away(*_: object) -> bool:
        raise Unavailable("database_unavailable", "The database did not answer.")

    dataset_id = upload()
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_record", away)
        prepare(dataset_id, resources)
    assert record(dataset_id).status == DatasetStatus.PENDING
    prepare(dataset_id, resources)
    assert record(dataset_id).status == DatasetStatus.PENDING  # the lease has not run out
    expire_lease(resources, dataset_id)
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert (row.status, row.attempt) == (DatasetStatus.READY, 2)


def expire_lease(resources: Resources, dataset_id: str) -> None:
    with resources.database.transaction() as session:
        session.execute(
            update(Dataset).where(Dataset.id == dataset_id).values(lease_expires_at=Dataset.created_at)
        )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_repeated_messages_do_the_work_once(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload()
    for _ in range(3):
        prepare(dataset_id, resources)
    assert record(dataset_id).attempt == 1
    prepare("ds_01h455vb4pex5vsknk084sn02q", resources)  # unknown: deleted before its message came


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_dataset_deleted_meanwhile_leaves_no_files(
    resources: Resources, upload: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = upload()
    store = preparing._store

    def store_after_deletion(*args: Any) -> None:
        with resources.database.transaction() as session:
            datasets.delete(session, dataset_id)
        resources.artifacts.delete(f"datasets/{dataset_id}")
        store(*args)

    monkeypatch.setattr(preparing, "_store", store_after_deletion)
    prepare(dataset_id, resources)
    assert not resources.artifacts.exists(f"datasets/{dataset_id}/preview.png")
    assert not resources.artifacts.exists(f"datasets/{dataset_id}/packed/images.npy")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_overtaken_attempt_stops_early_and_records_nothing(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that was suspended for minutes wakes up while another has its dataset."""
    monkeypatch.setattr(preparing, "WRITE_EVERY", 0.01)
    dataset_id = upload()
    reached = []

    def suspended(archive: Path, folder: Path, *, progress: Callable[[int, int], None], **_: Any) -> None:
        expire_lease(resources, dataset_id)
        with resources.database.transaction() as session:
            assert datasets.claim(session, dataset_id, "another") is not None
        for done in range(1000):
            time.sleep(0.01)
            progress(done, 1000)
        reached.append("the end")

    monkeypatch.setattr(preparing, "pack_archive", suspended)
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert (row.status, row.attempt, row.worker) == (DatasetStatus.PENDING, 2, "another")
    assert reached == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_progress_is_written_at_most_twice_a_second_and_renews_the_lease(
    resources: Resources, upload: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = upload()
    with resources.database.transaction() as session:
        claimed = datasets.claim(session, dataset_id, "me")
        assert claimed is not None
        task = Task(dataset_id, claimed.attempt, "pets", builtin=False, resolution=None)
    written: list[tuple[float, int]] = []
    original = datasets.progress

    def watched(session: Any, dataset_id: str, attempt: int, done: int, total: int) -> bool:
        written.append((time.monotonic(), done))
        return original(session, dataset_id, attempt, done, total)

    monkeypatch.setattr(datasets, "progress", watched)
    monkeypatch.setattr(preparing, "RENEW_EVERY", 1.0)
    expire_lease(resources, dataset_id)
    started = time.monotonic()
    with ProgressWriter(resources.database, task) as progress:
        for done in range(1500):
            progress.seen(done, 1500)
            time.sleep(0.001)
        busy, busy_seconds = len(written), time.monotonic() - started
        time.sleep(1.8)
        idle = len(written) - busy
        progress.seen(1500, 1500)
    assert 2 <= busy < busy_seconds / 0.5 + 1
    assert idle >= 1
    assert all(later[0] - earlier[0] > 0.45 for earlier, later in itertools.pairwise(written[:-1]))
    assert written[-1][1] == 1500
    with resources.database.transaction() as session:
        assert datasets.claim(session, dataset_id, "another") is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_a_killed_attempt_left_is_removed(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload()
    killed = resources.settings.data / "preparing" / dataset_id / "7"
    killed.mkdir(parents=True)
    (killed / "scratch.bin").write_bytes(b"x")
    prepare(dataset_id, resources)
    assert record(dataset_id).status == DatasetStatus.READY
    assert leftovers(resources) == []

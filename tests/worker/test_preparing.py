"""A pending dataset becomes ready or failed, once, with everything that its reply shows."""

import io
import itertools
import json
import logging
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from models.data import PackedDataset
from service.errors import Unavailable
from service.records import datasets
from service.records.status import DatasetStatus
from service.records.tables import Dataset
from service.settings import Settings
from worker import preparing
from worker.preparing import ProgressWriter, Task, prepare
from worker.resources import Resources, open_resources


@pytest.fixture
def resources(settings: Settings) -> Iterator[Resources]:
    """Opened resources of an empty service."""
    opened = open_resources(settings)
    yield opened
    opened.publisher.close()
    opened.database.close()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def picture(number: int, side: int = 32) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


PETS = {f"pets/{name}/{i}.png": picture(i + 10 * len(name)) for name in ("cat", "doggy") for i in range(3)}


@pytest.fixture
def upload(resources: Resources) -> Callable[..., str]:
    """Stores an archive as the API does; the id of its pending dataset."""

    def store(data: bytes, resolution: int | None = None) -> str:
        with resources.database.transaction() as session:
            dataset_id = datasets.create(session, "pets", resolution=resolution).id
        resources.artifacts.put_bytes(data, f"datasets/{dataset_id}/upload")
        return dataset_id

    return store


@pytest.fixture
def record(resources: Resources) -> Callable[[str], Dataset]:
    def read(dataset_id: str) -> Dataset:
        with resources.database.read() as session:
            return datasets.get(session, dataset_id)

    return read


def leftovers(resources: Resources) -> list[Path]:
    return list((resources.settings.data / "preparing").iterdir())


def test_an_upload_becomes_ready(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload(zipped({**PETS, "pets/cat/notes.txt": b"hello"}))
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.READY
    assert row.error is None
    assert (row.count, row.channels, row.resolution) == (6, 3, 32)
    assert row.classes == {"cat": 3, "doggy": 3}
    assert [file["name"] for file in row.dropped] == ["pets/cat/notes.txt"]
    assert (row.progress_done, row.progress_total) == (7, 7)

    packed = PackedDataset.open(resources.artifacts.local_folder(f"datasets/{dataset_id}/packed"))
    assert packed.name == "pets"
    assert packed.content_hash == row.content_hash
    np.testing.assert_allclose(row.mean, (packed.images / 255).mean((0, 2, 3)))
    np.testing.assert_allclose(row.std, (packed.images / 255).std((0, 2, 3)))
    with Image.open(resources.artifacts.local(f"datasets/{dataset_id}/preview.png")) as preview:
        assert preview.format == "PNG"
        assert preview.size == (2 + 3 * 34, 2 + 2 * 34)
    assert not resources.artifacts.exists(f"datasets/{dataset_id}/upload")
    assert leftovers(resources) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_resolution_asked_for_is_used(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload(zipped(PETS), resolution=64)
    prepare(dataset_id, resources)
    assert record(dataset_id).resolution == 64


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_builtin_becomes_ready(resources: Resources, record: Callable[[str], Dataset]) -> None:
    with resources.database.transaction() as session:
        datasets.ensure_builtins(session)
    prepare("digits", resources)
    row = record("digits")
    assert (row.status, row.count, row.resolution, row.channels) == (DatasetStatus.READY, 1797, 16, 1)
    assert row.classes is not None
    assert list(row.classes) == list("0123456789")
    assert resources.artifacts.exists("datasets/digits/preview.png")
    assert leftovers(resources) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("data", "code"), [(b"hello", "unreadable_archive"), (zipped({"x.txt": b"hello"}), "no_images")]
)
def test_a_useless_archive_fails_with_the_reason(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset], data: bytes, code: str
) -> None:
    dataset_id = upload(data)
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.FAILED
    assert row.error is not None
    assert row.error["code"] == code
    assert row.error["message"]
    assert row.error["hint"]
    assert [file["name"] for file in row.dropped] == (["x.txt"] if code == "no_images" else [])
    assert leftovers(resources) == []
    assert not resources.artifacts.exists(f"datasets/{dataset_id}/preview.png")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_upload_that_is_gone_fails(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload(b"")
    resources.artifacts.delete(f"datasets/{dataset_id}/upload")
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.FAILED
    assert row.error is not None
    assert row.error["code"] == "artifact_missing"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_unexpected_error_fails_the_dataset_and_is_logged(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here a file lies where the worker's folder should be; a dataset must not stay pending for ever."""
    (resources.settings.data).mkdir(parents=True)
    (resources.settings.data / "preparing").write_text("in the way")
    dataset_id = upload(zipped(PETS))
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.FAILED
    assert row.error is not None
    assert row.error["code"] == "preparation_failed"
    assert "Traceback" in caplog.text


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

    dataset_id = upload(zipped(PETS))
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
    dataset_id = upload(zipped(PETS))
    for _ in range(3):
        prepare(dataset_id, resources)
    assert record(dataset_id).attempt == 1
    prepare("ds_01h455vb4pex5vsknk084sn02q", resources)  # unknown: deleted before its message came


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_dataset_deleted_meanwhile_leaves_no_files(
    resources: Resources, upload: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = upload(zipped(PETS))
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
    dataset_id = upload(zipped(PETS))
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
    dataset_id = upload(zipped(PETS))
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
    dataset_id = upload(zipped(PETS))
    killed = resources.settings.data / "preparing" / dataset_id / "7"
    killed.mkdir(parents=True)
    (killed / "scratch.bin").write_bytes(b"x")
    prepare(dataset_id, resources)
    assert record(dataset_id).status == DatasetStatus.READY
    assert leftovers(resources) == []


def test_any_name_in_an_archive_can_be_recorded_and_shown(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    """Control characters, bytes that are no UTF-8: PostgreSQL and JSON refuse some of them."""
    files = {"ca\x07t\u202e/1.png": picture(1), "dog/2.png": picture(2), os.fsdecode(b"dog/\xff.txt"): b"x"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    dataset_id = upload(buffer.getvalue())
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.READY
    assert row.classes is not None
    assert len(row.classes) == 2
    assert all(name.isprintable() for name in (*row.classes, row.dropped[0]["name"]))
    json.dumps([row.dropped, row.classes], ensure_ascii=False).encode()


def test_the_log_of_a_useless_archive_is_no_traceback(
    resources: Resources, upload: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    """What a client did wrong is no error of the service."""
    with caplog.at_level(logging.INFO):
        prepare(upload(b"hello"), resources)
    assert "cannot be used" in caplog.text
    assert "Traceback" not in caplog.text

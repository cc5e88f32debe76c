"""A pending dataset becomes ready or failed, once, with everything that its reply shows."""

import io
import json
import logging
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data import PackedDataset
from service.records import datasets
from service.records.status import DatasetStatus
from service.records.tables import Dataset
from worker.preparing import prepare
from worker.resources import Resources


def leftovers(resources: Resources) -> list[Path]:
    return list((resources.settings.data / "preparing").iterdir())


def test_an_upload_becomes_ready(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    pets: dict[str, bytes],
) -> None:
    dataset_id = upload({**pets, "pets/cat/notes.txt": b"hello"})
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
    dataset_id = upload(resolution=64)
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
    ("data", "code"), [(b"hello", "unreadable_archive"), ({"x.txt": b"hello"}, "no_images")]
)
def test_a_useless_archive_fails_with_the_reason(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    data: bytes | dict[str, bytes],
    code: str,
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
    dataset_id = upload()
    prepare(dataset_id, resources)
    row = record(dataset_id)
    assert row.status == DatasetStatus.FAILED
    assert row.error is not None
    assert row.error["code"] == "preparation_failed"
    assert "Traceback" in caplog.text


def test_any_name_in_an_archive_can_be_recorded_and_shown(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    picture: Callable[[int], bytes],
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

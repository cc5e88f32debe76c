"""Datasets over HTTP: uploaded as they arrive, bounded, shown and deleted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api import uploads
from service.api.app import create_app
from service.artifacts import Artifacts
from service.records import datasets
from service.records.database import Database
from service.settings import Settings
from tests.service.api.conftest import PNG

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ARCHIVE = bytes(range(256)) * 20_000  # 5 MB, with every byte in it


class Full:
    """A file on a disk without room."""

    def open(self, mode: str) -> BinaryIO:
        return cast("BinaryIO", Path("/dev/full").open(mode))

    def unlink(self, *, missing_ok: bool) -> None:
        assert missing_ok


def _upload(client: TestClient | httpx.Client, file: bytes = ARCHIVE, **fields: Any) -> Any:
    return client.post(
        "/v1/datasets", data={"name": "shapes", **fields}, files={"file": ("shapes.zip", file)}
    )


def test_an_upload_is_stored_and_announced(
    client: TestClient, artifacts: Artifacts, settings: Settings
) -> None:
    posted = _upload(client, resolution=32)
    assert posted.status_code == 202
    dataset = posted.json()
    assert dataset.items() >= {"name": "shapes", "status": "pending", "count": None, "resolution": 32}.items()
    assert client.get(posted.headers["location"]).json() == dataset
    assert artifacts.read(f"datasets/{dataset['id']}/upload") == ARCHIVE
    assert list((settings.data / "uploads").iterdir()) == []


@SQLITE
def test_the_parts_may_come_in_any_order_and_cut_anywhere(client: TestClient, artifacts: Artifacts) -> None:
    body = b"".join(
        [
            b'--cut\r\nContent-Disposition: form-data; name="file"; filename="../../x.zip"\r\n\r\n',
            ARCHIVE[:70_000],
            b'\r\n--cut\r\ncontent-disposition: form-data; name="name"\r\n\r\n\xc3\xbcber\r\n--cut--\r\n',
        ]
    )
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    whole = iter([body[start : start + 7] for start in range(0, len(body), 7)])
    posted = client.post("/v1/datasets", content=whole, headers=headers)
    assert posted.status_code == 202, posted.text
    assert posted.json()["name"] == "über"
    assert artifacts.read(f"datasets/{posted.json()['id']}/upload") == ARCHIVE[:70_000]


@SQLITE
@pytest.mark.parametrize(
    ("fields", "file", "path"),
    [
        ({"name": ""}, b"x", "name"),
        ({"name": "x" * 101}, b"x", "name"),
        ({"name": "x" * 5000}, b"x", "name"),
        ({"name": "a\0b"}, b"x", "name"),
        ({"resolution": "65"}, b"x", "resolution"),
        ({"resolution": "x"}, b"x", "resolution"),
        ({"status": "ready"}, b"x", "status"),
        ({}, b"", "file"),
    ],
    ids=str,
)
def test_a_bad_form_is_refused(
    client: TestClient, settings: Settings, fields: dict[str, Any], file: bytes, path: str
) -> None:
    refused = _upload(client, file, **fields)
    assert (refused.status_code, [error["path"] for error in refused.json()["errors"]]) == (422, [path])
    assert list((settings.data / "uploads").iterdir()) == []
    assert {one["builtin"] for one in client.get("/v1/datasets").json()["data"]} == {True}


@SQLITE
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "", 415),
        (b"x", "multipart/form-data", 400),
        (b"no boundary here", "multipart/form-data; boundary=cut", 400),
        (
            b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            "multipart/form-data; boundary=cut",
            400,
        ),
        (b"--cut--\r\n", "multipart/form-data; boundary=cut", 422),
        (
            b'--cut\r\nContent-Disposition: form-data; name="n"\r\n\r\n\xff\r\n' * 20 + b"--cut--",
            "multipart/form-data; boundary=cut",
            422,
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: TestClient, content: bytes, kind: str, status: int
) -> None:
    refused = client.post("/v1/datasets", content=content, headers={"Content-Type": kind})
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"


@SQLITE
def test_an_upload_above_the_limit_ends_early(
    quick_settings: Settings, key: str, serve: Callable[[FastAPI], str]
) -> None:
    """A body without a length must be counted as it comes, and leave nothing behind."""
    url = serve(create_app(quick_settings.model_copy(update={"max_upload_bytes": 1_000_000})))
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        while True:
            assert sent < 500_000_000, "the body is read without end"
            sent += 65_536
            yield b"x" * 65_536

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        assert client.post("/v1/datasets", content=endless(), headers=headers).status_code == 413
        assert _upload(client, ARCHIVE).status_code == 413
        assert client.post("/v1/jobs", content=endless(), headers=headers).status_code == 415
        assert client.post("/v1/jobs/x/cancel", content=endless()).status_code == 404
        client.headers["Authorization"] = "Bearer wrong"
        assert client.post("/v1/datasets", content=endless(), headers=headers).status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        assert list((quick_settings.data / "uploads").iterdir()) == []
        assert _upload(client, ARCHIVE[:1_000_000]).status_code == 202


def test_a_ready_dataset_shows_its_facts_and_is_deleted(
    client: TestClient, database: Database, artifacts: Artifacts
) -> None:
    dataset = _upload(client).json()["id"]
    assert client.get(f"/v1/datasets/{dataset}/preview.png").status_code == 409
    with database.transaction() as session:
        datasets.claim(session, dataset, "test")
        datasets.ready(
            session,
            dataset,
            1,
            count=3,
            classes={"b": 1, "a": 2},
            channels=1,
            resolution=64,
            mean=[0.5],
            std=[0.25],
            content_hash="00",
            dropped=[{"name": "x.gif", "reason": "animated"}],
        )
    artifacts.put_bytes(PNG, f"datasets/{dataset}/preview.png")
    shown = client.get(f"/v1/datasets/{dataset}").json()
    assert (
        shown.items() >= {"status": "ready", "count": 3, "classes": {"a": 2, "b": 1}, "mean": [0.5]}.items()
    )
    assert shown["class_names"] == ["b", "a"]  # label 0 is b, whatever the database makes of the object
    assert shown["dropped"] == [{"name": "x.gif", "reason": "animated"}]
    assert client.get(shown["urls"]["preview"]).content == PNG
    assert [one["id"] for one in client.get("/v1/datasets?status=ready").json()["data"]] == [dataset]
    job = client.post("/v1/jobs", json={"preset": "dcgan", "dataset": dataset}).json()["id"]
    assert client.delete(f"/v1/datasets/{dataset}").json()["error"]["code"] == "dataset_in_use"
    client.post(f"/v1/jobs/{job}/cancel")
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert client.get(f"/v1/datasets/{dataset}").status_code == 404
    assert not artifacts.exists(f"datasets/{dataset}/upload")


@SQLITE
def test_a_failed_dataset_is_never_said_to_become_ready(client: TestClient, database: Database) -> None:
    dataset = _upload(client).json()["id"]
    with database.transaction() as session:
        datasets.claim(session, dataset, "test")
        datasets.failed(session, dataset, 1, {"code": "no_images", "message": "No images.", "hint": None})
    refused = client.get(f"/v1/datasets/{dataset}/preview.png")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "dataset_failed")
    assert "until" not in refused.json()["hint"]


@SQLITE
def test_a_built_in_dataset_stays(client: TestClient) -> None:
    assert client.get("/v1/datasets/digits").json()["builtin"]
    assert client.delete("/v1/datasets/digits").status_code == 409


@SQLITE
@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_full_disk_is_said_to_be_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """What is small fails only when the file is closed."""
    monkeypatch.setattr(uploads, "_temporary", lambda _: Full())
    refused = _upload(client, b"x" * size)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upload_not_stored")


@SQLITE
def test_a_folder_that_takes_no_uploads_is_named_as_the_reason(
    client: TestClient, settings: Settings
) -> None:
    settings.data.mkdir(exist_ok=True)
    (settings.data / "uploads").write_text("not a folder")
    refused = _upload(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upload_not_stored")


@SQLITE
def test_a_failed_commit_leaves_no_upload(
    client: TestClient, settings: Settings, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive without a row would never be found again."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(datasets, "create", broken)
    with pytest.raises(RuntimeError):
        _upload(client)
    assert not list(Path(settings.artifacts_url).glob("datasets/**/upload"))

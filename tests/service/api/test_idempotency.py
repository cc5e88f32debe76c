"""Idempotency-Key over HTTP, on every operation that makes something."""

import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select

from service.records import images
from service.records.database import Database
from service.records.tables import Dataset, ImageBatch
from service.settings import Settings
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
KEY = {"Idempotency-Key": "1f0c3c9e"}


def archive() -> bytes:
    image, packed = io.BytesIO(), io.BytesIO()
    Image.new("L", (16, 16), 7).save(image, "png")
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a/0.png", image.getvalue())
    return packed.getvalue()


ARCHIVE = archive()


def ask(
    client: TestClient, what: str, trained: Trained, *, other: bool = False, **headers: str
) -> httpx.Response:
    """One of the requests that make something; `other` is another body for the same operation."""
    place = {
        "job": "/v1/jobs",
        "dataset": "/v1/datasets",
        "images": f"/v1/checkpoints/{trained.checkpoint}/images",
        "evaluation": f"/v1/checkpoints/{trained.checkpoint}/evaluations",
    }[what]
    if what == "dataset":
        form = {"name": "other" if other else "shapes"}
        return client.post(place, data=form, files={"file": ("a.zip", ARCHIVE)}, headers=headers)
    body: dict[str, Any] = {
        "job": {"preset": "dcgan", "name": "other" if other else "one"},
        "images": {"n": 2 if other else 1},
        "evaluation": {"seed": 2 if other else 1},
    }[what]
    return client.post(place, json=body, headers={"Prefer": "respond-async", **headers})


@pytest.mark.parametrize("what", ["job", "dataset", "images", "evaluation"])
def test_a_repeated_request_is_answered_with_what_the_first_made(
    client: TestClient, trained: Trained, what: str
) -> None:
    """Drawn seeds are those of the first, too: a client that lost the answer gets the very images."""
    first = ask(client, what, trained, **KEY)
    again = ask(client, what, trained, **KEY)
    assert (first.status_code, again.status_code) == (202, 202), first.text
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    without = ask(client, what, trained)
    assert without.json()["id"] != first.json()["id"]
    other = ask(client, what, trained, other=True, **KEY)
    assert other.status_code == 409, other.text
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert other.json()["error"]["param"] == "Idempotency-Key"


@SQLITE
def test_a_refused_request_uses_no_key_up(client: TestClient, trained: Trained) -> None:
    """Breaks when the corrected request is told that the key was another's."""
    bad = client.post("/v1/jobs", json={"preset": "nope"}, headers=KEY)
    assert bad.status_code == 422
    assert ask(client, "job", trained, **KEY).status_code == 202


@SQLITE
def test_a_dry_run_uses_no_key_up(client: TestClient, trained: Trained) -> None:
    body = {"preset": "dcgan", "name": "other"}
    assert client.post("/v1/jobs?dry_run=true", json=body, headers=KEY).status_code == 200
    assert ask(client, "job", trained, **KEY).status_code == 202


@SQLITE
@pytest.mark.parametrize("named", ["", "k" * 256])
def test_a_key_of_no_use_is_refused(client: TestClient, trained: Trained, named: str) -> None:
    refused = ask(client, "job", trained, **{"Idempotency-Key": named})
    assert refused.status_code == 422, refused.text
    assert "Idempotency-Key" in refused.text
    assert client.get("/v1/jobs").json()["data"][0]["id"] == trained.job


@pytest.mark.parametrize("what", ["images", "dataset"])
def test_a_repeat_of_what_is_gone_is_refused_and_makes_nothing(
    client: TestClient, database: Database, settings: Settings, trained: Trained, what: str
) -> None:
    """Breaks when a client that repeats is told 404 of a path it never asked for, or gets a second one."""
    made = ask(client, what, trained, **KEY).json()
    if what == "dataset":
        assert client.delete(f"/v1/datasets/{made['id']}").status_code == 204
    else:
        assert client.post(f"/v1/images/{made['id']}/cancel").status_code == 200
        with database.transaction() as session:
            assert images.expire(session, 1.0, now=datetime.now(UTC) + timedelta(hours=1)) == 1
    again = ask(client, what, trained, **KEY)
    error = again.json()["error"]
    assert (again.status_code, error["code"], error["param"]) == (
        409,
        "idempotency_key_spent",
        "Idempotency-Key",
    )
    assert made["id"] in error["message"]
    assert "new key" in again.json()["hint"]
    with database.read() as session:
        assert session.scalars(select(ImageBatch)).all() == []
        assert session.scalars(select(Dataset).where(Dataset.builtin.is_(False))).all() == []
    assert list(Path(settings.artifacts_url).rglob("upload")) == [], "the second copy's bytes stay for ever"
    new = ask(client, what, trained, **{"Idempotency-Key": "another"})
    assert new.status_code == 202
    assert new.json()["id"] != made["id"]

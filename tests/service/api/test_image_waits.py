"""How long images are waited for: until they are made, the client goes, or its patience ends."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api import waiting
from service.api.app import create_app
from service.queue import images_channel
from service.records import images
from service.records.database import Database
from service.settings import Settings
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@SQLITE
def test_a_lost_announcement_costs_a_second(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    """Without the look into SQL once a second this would wait its 30 s out."""
    begun = time.monotonic()
    with drawing(announce=False):
        made = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={})
    assert made.status_code == 200
    assert time.monotonic() - begun < 25


@SQLITE
def test_images_are_made_while_redis_is_away(
    quick_settings: Settings, key: str, trained: Trained, drawing: Callable[..., Any]
) -> None:
    app = create_app(quick_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
    with drawing():
        assert client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={}).status_code == 200
        assert client.post("/v1/jobs?dry_run=true", json={"preset": "dcgan"}).status_code == 200


@SQLITE
@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("wait=0", "wait=0"),
        ("wait=1, handling=lenient", "wait=1"),
        ("respond-async, wait=1", "respond-async, wait=1"),
    ],
)
def test_a_client_that_does_not_want_to_wait_is_answered_202(
    client: TestClient, trained: Trained, prefer: str, applied: str
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    queued = client.post(url, json={"n": 2}, headers={"Prefer": prefer})
    assert (queued.status_code, queued.headers["preference-applied"]) == (202, applied)
    batch = queued.json()
    assert (batch["status"], batch["data"], batch["grid_url"]) == ("queued", [], None)
    assert client.get(queued.headers["location"]).json() == batch
    early = client.get(f"/v1/images/{batch['id']}/0.png")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "images_not_ready")


@SQLITE
@pytest.mark.parametrize(
    ("prefer", "made", "durable"),
    [("respond-async", False, [True]), ("wait=1", False, [False, True]), ("wait=60", True, [False])],
    ids=["asynchronous", "waited for in vain", "waited for"],
)
def test_an_order_is_on_the_disk_once_its_client_is_told_to_come_back(
    client: TestClient,
    app: FastAPI,
    trained: Trained,
    drawing: Callable[..., Any],
    prefer: str,
    made: bool,
    durable: list[bool],
) -> None:
    """Breaks when a power cut takes what was answered 202, or when a picture waits for the disk."""
    database: Database = app.state.parts.database
    transaction, waited = database.transaction, []

    def noting(*, durable: bool = True) -> Any:
        waited.append(durable)
        return transaction(durable=durable)

    with drawing() if made else contextlib.nullcontext(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "transaction", noting)
        url = f"/v1/checkpoints/{trained.checkpoint}/images"
        asked = client.post(url, json={}, headers={"Prefer": prefer})
    assert (asked.status_code, waited) == (200 if made else 202, durable)


@SQLITE
@pytest.mark.parametrize("prefer", ["respond-async", "wait=0"])
def test_an_answer_that_is_not_waited_for_is_202_however_quick_the_worker_is(
    client: TestClient, app: FastAPI, trained: Trained, drawing: Callable[..., Any], prefer: str
) -> None:
    publisher, send = app.state.parts.publisher, app.state.parts.publisher.send

    def send_and_wait(task: str, batch: str) -> bool:
        sent: bool = send(task, batch)
        while client.get(f"/v1/images/{batch}").json()["status"] != "succeeded":
            time.sleep(0.01)
        return sent

    with drawing(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "send", send_and_wait)
        url = f"/v1/checkpoints/{trained.checkpoint}/images"
        asked = client.post(url, json={}, headers={"Prefer": prefer, "Accept": "image/png"})
    assert (asked.status_code, asked.headers["content-type"]) == (202, "application/json")
    assert client.get(asked.headers["location"]).json()["status"] == "succeeded"


@SQLITE
def test_the_wait_ends_when_the_client_goes_and_so_does_its_work(
    app: FastAPI, key: str, trained: Trained, database: Database
) -> None:
    """A server whose clients have left must not go on looking for them, nor a worker work for them."""
    received = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/v1/checkpoints/{trained.checkpoint}/images",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-type", b"application/json"),
            (b"host", b"test"),
        ],
        "server": ("test", 80),
        "scheme": "http",
    }
    begun = time.monotonic()
    asyncio.run(app(scope, receive, send))
    assert time.monotonic() - begun < 25
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@SQLITE
@pytest.mark.parametrize("digits", ["999999999999", "9" * 1000])
def test_a_wait_of_centuries_is_the_longest_wait(
    quick_settings: Settings, key: str, trained: Trained, digits: str
) -> None:
    """Breaks when it is ignored, and the client waits for less than it could have."""
    app = create_app(quick_settings.model_copy(update={"wait_seconds": 0.0, "max_wait_seconds": 0.5}))
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
    begun = time.monotonic()
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    late = client.post(url, json={}, headers={"Prefer": f"wait={digits}"})
    assert (late.status_code, late.headers.get("preference-applied")) == (202, "wait=0.5")
    assert time.monotonic() - begun >= 0.5


@pytest.mark.parametrize("named", [{}, {"Idempotency-Key": "1f0c3c9e"}], ids=["unnamed", "named"])
def test_a_worker_that_ends_an_order_at_once_is_heard(
    client: TestClient,
    app: FastAPI,
    database: Database,
    trained: Trained,
    named: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when it is rung for before the order is committed, or ends it before anybody listens."""
    publisher, done = app.state.parts.publisher, []
    result = {"data": [], "grid": None, "animation": None, "archive": None}

    def ring(task: str, batch: str) -> bool:
        with database.transaction() as session:
            claimed = images.claim_next(session, "test")
            assert claimed is not None, "it was rung for what is not there yet"
            assert images.finish_all(session, {batch: (claimed.attempt, result)})
        done.append(batch)
        publisher.announce(images_channel(batch))
        return True

    monkeypatch.setattr(publisher, "send", ring)
    monkeypatch.setattr(waiting, "LOOK_EVERY_SECONDS", 60.0)
    begun = time.monotonic()
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    made = client.post(url, json={}, headers={"Prefer": "wait=60", **named})
    assert (made.status_code, made.json()["status"]) == (200, "succeeded")
    assert done == [made.json()["id"]]
    assert time.monotonic() - begun < 25

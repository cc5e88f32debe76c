"""Images over HTTP: what is asked, how long it is waited for, and in which shape it comes back."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from tests.service.api.conftest import PNG, Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_images_are_made_while_the_request_waits(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    with drawing():
        made = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={"n": 3, "seed": 5})
    assert made.status_code == 200
    batch = made.json()
    assert batch.items() >= {"object": "image_batch", "status": "succeeded", "error": None}.items()
    assert [(image["index"], image["seed"]) for image in batch["data"]] == [(0, 5), (1, 6), (2, 7)]
    first = client.get(batch["data"][1]["url"])
    assert (first.content, first.headers["content-type"]) == (PNG + b"6", "image/png")
    assert client.get(batch["grid_url"]).content == PNG + b"grid"
    assert client.get(f"/v1/images/{batch['id']}").json() == batch
    assert client.get(f"/v1/images/{batch['id']}/3.png").status_code == 404
    assert client.get(f"/v1/images/{batch['id']}/0.webp").status_code == 404


@SQLITE
def test_a_lost_announcement_costs_a_second(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    """Without the look into SQL once a second this would wait its 30 s out."""
    begun = time.monotonic()
    with drawing(announce=False):
        made = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={})
    assert made.status_code == 200
    assert time.monotonic() - begun < 15


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
@pytest.mark.parametrize("is_local", [True, False], ids=["near", "far"])
def test_a_picture_that_is_gone_is_told_to_who_asked_for_it_alone(
    client: TestClient, app: FastAPI, trained: Trained, drawing: Callable[..., Any], is_local: bool
) -> None:
    """Breaks when pictures read for several that wait together fail together."""
    artifacts, url = app.state.parts.artifacts, f"/v1/checkpoints/{trained.checkpoint}/images"
    describe = artifacts.describe

    def losing(key: str) -> Any:
        if key.endswith(".jpeg"):
            artifacts.delete(key)
        return describe(key)

    def ask(kind: str) -> tuple[int, str]:
        reply = client.post(url, json={}, headers={"Accept": kind})
        return reply.status_code, reply.headers["content-type"]

    # Entered, the client has one event loop for all of its threads.
    with client, drawing(), pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(6) as pool:
        patch.setattr(artifacts, "describe", losing)
        patch.setattr(artifacts, "is_local", is_local)
        answers = list(pool.map(ask, ["image/png", "image/jpeg"] * 3))
    assert answers == [(200, "image/png"), (404, "application/problem+json")] * 3


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
@pytest.mark.parametrize(
    ("accept", "asked", "kind", "content"),
    [
        ("image/png", {"seed": 1}, "image/png", PNG + b"1"),
        ("image/png", {"n": 2}, "image/png", PNG + b"grid"),
        ("image/png", {"layout": "grid"}, "image/png", PNG + b"grid"),
        ("image/webp", {"seed": 1}, "image/webp", PNG + b"1"),
        ("image/*", {"seed": 1, "format": "jpeg"}, "image/jpeg", PNG + b"1"),
        ("text/html, image/webp;q=0.9, image/*;q=0.1", {"seed": 1}, "image/webp", PNG + b"1"),
        ("*/*", {"seed": 1}, "application/json", None),
        ("image/png;q=0.5, application/json", {"seed": 1}, "application/json", None),
    ],
)
def test_the_accept_header_chooses_the_shape(
    client: TestClient,
    trained: Trained,
    drawing: Callable[..., Any],
    accept: str,
    asked: dict[str, Any],
    kind: str,
    content: bytes | None,
) -> None:
    with drawing():
        url = f"/v1/checkpoints/{trained.checkpoint}/images"
        made = client.post(url, json=asked, headers={"Accept": accept})
    assert (made.status_code, made.headers["content-type"]) == (200, kind)
    if content is not None:
        assert made.content == content
        assert client.get(made.headers["content-location"]).content == content


@SQLITE
@pytest.mark.parametrize(
    ("code", "status"), [("out_of_memory", 500), ("worker_lost", 503), ("checkpoint_deleted", 404)]
)
def test_failed_images_say_why(
    client: TestClient,
    trained: Trained,
    drawing: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    code: str,
    status: int,
) -> None:
    error = {"code": code, "message": "it went wrong", "hint": "Ask for fewer."}
    with drawing(error=error):
        failed = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={})
    assert (failed.status_code, failed.json()["error"]["code"]) == (status, code)
    assert failed.json()["hint"] == "Ask for fewer."
    assert ("retry-after" in failed.headers) == (status == 503)
    logged = [record.exc_info for record in caplog.records if record.name == "service.api.problems"]
    assert logged == ([None] if status >= 500 else []), "a line for the operator, and no traceback of ours"


@SQLITE
def test_nothing_acceptable_is_a_406(client: TestClient, trained: Trained, database: Database) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    assert client.post(url, json={}, headers={"Accept": "text/html"}).status_code == 406
    contradiction = client.post(url, json={"format": "png"}, headers={"Accept": "image/webp"})
    assert contradiction.json()["error"]["param"] == "format"
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


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
    assert time.monotonic() - begun < 10
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@SQLITE
def test_images_can_be_cancelled_until_they_are_made(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    asked = client.post(url, json={}, headers={"Prefer": "respond-async"}).json()
    cancelled = client.post(f"/v1/images/{asked['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert client.get(f"/v1/images/{asked['id']}").json() == cancelled.json()
    with drawing():
        made = client.post(url, json={}).json()
    refused = client.post(f"/v1/images/{made['id']}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "images_over")
    assert client.post("/v1/images/img_none/cancel").status_code == 404
    assert client.get(f"/v1/images/{asked['id']}").json()["data"] == []


@SQLITE
def test_a_file_that_is_not_there_says_what_to_do(client: TestClient, trained: Trained) -> None:
    """Breaks when a client is told to wait for images that were cancelled: it would, for ever."""
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    batch = client.post(url, json={}, headers={"Prefer": "respond-async"}).json()["id"]

    def missing() -> tuple[int, str, str]:
        reply = client.get(f"/v1/images/{batch}/0.png").json()
        return reply["status"], reply["error"]["code"], reply["hint"]

    until = f"Read GET /v1/images/{batch} until its status is succeeded."
    assert missing() == (409, "images_not_ready", until)
    client.post(f"/v1/images/{batch}/cancel")
    again = "Ask for them again; with the same seeds they are the same."
    assert missing() == (409, "images_not_ready", again)


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
    made = client.post(url, json={}, headers={"Prefer": "wait=20", **named})
    assert (made.status_code, made.json()["status"]) == (200, "succeeded")
    assert done == [made.json()["id"]]
    assert time.monotonic() - begun < 10

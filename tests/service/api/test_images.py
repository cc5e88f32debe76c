"""Images over HTTP: in which shape they come back, and what is said where they do not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.records import images
from service.records.database import Database
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

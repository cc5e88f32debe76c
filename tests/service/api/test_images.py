"""Images over HTTP: what is asked, how long it is waited for, and in which shape it comes back."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from models.spec import MAX_SEED
from service.api.app import create_app
from service.records import images
from service.records.database import Database
from service.records.status import RequestStatus
from service.records.tables import Job
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
    ("spec", "asked", "path"),
    [
        ({}, {"n": 0}, "n"),
        ({}, {"n": 1001}, "n"),
        ({}, {"n": "3"}, "n"),
        ({}, {"n": 2, "seeds": [1]}, "n"),
        ({}, {"seed": 1, "seeds": [1]}, "seeds"),
        ({}, {"seed": -1}, "seed"),
        ({}, {"seed": MAX_SEED, "n": 2}, "seed"),
        ({}, {"seed": 10**30}, "seed"),
        ({}, {"seeds": [1, 2**64]}, "seeds.1"),
        ({}, {"format": "gif"}, "format"),
        ({}, {"labels": [3]}, "labels"),
        ({"conditional": {}}, {"labels": [10]}, "labels.0"),
        ({"conditional": {}}, {"labels": [0, -1], "n": 2}, "labels.1"),
        ({"conditional": {}}, {"labels": ["3"]}, "labels.0"),
        ({"conditional": {}}, {"labels": [1, 2], "n": 3}, "labels"),
        ({"conditional": {}}, {"guidance_scale": 2.0}, "guidance_scale"),
        ({"preset": "ddpm"}, {"guidance_scale": 2.0}, "guidance_scale"),
        (
            {"preset": "ddpm", "conditional": {}},
            {"guidance_scale": 2.0, "sampler": {"guidance_scale": 1.0}},
            "guidance_scale",
        ),
        ({}, {"sampler": {"kind": "ddim"}}, "sampler"),
        ({"preset": "ddpm"}, {"sampler": {"kind": "euler"}}, "sampler.kind"),
        ({"preset": "ddpm"}, {"sampler": {"steps": 1001}}, "sampler.steps"),
        ({"preset": "ddpm"}, {"sampler": {"kind": "ddpm", "eta": 0.5}}, "sampler.eta"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_at_once(
    client: TestClient,
    train: Callable[..., Trained],
    database: Database,
    spec: dict[str, Any],
    asked: dict[str, Any],
    path: str,
) -> None:
    """A request that a worker cannot carry out must not be queued."""
    url = f"/v1/checkpoints/{train(**spec).checkpoint}/images"
    refused = client.post(url, json=asked)
    assert refused.status_code == 422
    assert [error["path"] for error in refused.json()["errors"]] == [path]
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@SQLITE
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"kind": "ddim", "steps": 50}),
        ({"sampler": {"steps": 20}}, {"steps": 20}),
        ({"sampler": {"kind": "ddim", "eta": 1}}, {"kind": "ddim", "eta": 1.0}),
        ({"sampler": {"kind": "ddpm", "steps": 9}}, {"kind": "ddpm", "steps": 9}),
        ({"guidance_scale": 3}, {"guidance_scale": 3.0}),
        ({"sampler": {"steps": 5}, "guidance_scale": 0}, {"steps": 5, "guidance_scale": 0.0}),
    ],
    ids=str,
)
def test_the_sampler_is_written_out(
    client: TestClient, train: Callable[..., Trained], asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    expected = {"kind": "ddim", "steps": 50, "eta": 0.0, "guidance_scale": 1.0, **expected}
    url = f"/v1/checkpoints/{train(preset='ddpm', conditional={}).checkpoint}/images"
    assert client.post(url, json=asked, headers={"Prefer": "wait=0"}).json()["sampler"] == expected


@SQLITE
def test_seeds_that_are_left_out_are_drawn_and_told(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    with drawing():
        first, second = (client.post(url, json={"n": 2}).json()["data"] for _ in range(2))
    assert first[1]["seed"] == first[0]["seed"] + 1
    assert first[0]["seed"] != second[0]["seed"]


@SQLITE
def test_failed_images_say_why(client: TestClient, trained: Trained, drawing: Callable[..., Any]) -> None:
    error = {"code": "out_of_memory", "message": "no memory left", "hint": "Ask for fewer."}
    with drawing(error=error):
        failed = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={})
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "out_of_memory")
    assert failed.json()["hint"] == "Ask for fewer."


@SQLITE
def test_nothing_acceptable_is_a_406(client: TestClient, trained: Trained, database: Database) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    assert client.post(url, json={}, headers={"Accept": "text/html"}).status_code == 406
    contradiction = client.post(url, json={"format": "png"}, headers={"Accept": "image/webp"})
    assert contradiction.json()["error"]["param"] == "format"
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@SQLITE
def test_the_wait_ends_when_the_client_goes(app: FastAPI, key: str, trained: Trained) -> None:
    """A server whose clients have left must not go on looking for them."""
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


@SQLITE
def test_a_batch_is_queued_whole(client: TestClient, trained: Trained, database: Database) -> None:
    """What the worker reads: every seed, the sampler, the format."""
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    batch = client.post(url, json={"seeds": [9, 9]}, headers={"Prefer": "respond-async"}).json()
    with database.read() as session:
        row = images.get(session, batch["id"])
    assert row.status == RequestStatus.QUEUED
    assert row.request == {
        "seeds": [9, 9],
        "labels": None,
        "sampler": None,
        "format": "png",
        "layout": "separate",
    }


@SQLITE
@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ({"n": 3}, None),
        ({"n": 3, "labels": [7]}, [7, 7, 7]),
        ({"seeds": [1, 2], "labels": [0, 9]}, [0, 9]),
    ],
)
def test_labels_are_one_an_image(
    client: TestClient,
    train: Callable[..., Trained],
    database: Database,
    asked: dict[str, Any],
    labels: list[int] | None,
) -> None:
    """Breaks when a single label does not hold for all images, or the worker has to guess."""
    url = f"/v1/checkpoints/{train(conditional={}).checkpoint}/images"
    batch = client.post(url, json=asked, headers={"Prefer": "respond-async"}).json()
    with database.read() as session:
        assert images.get(session, batch["id"]).request["labels"] == labels


@SQLITE
def test_a_checkpoint_of_another_version_makes_no_images(
    client: TestClient, trained: Trained, database: Database
) -> None:
    """What this version cannot read is a conflict, and no mistake of the request or of the service."""
    with database.transaction() as session:
        session.execute(update(Job).values(spec={"family": "gan", "of_old": 1}))
    refused = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "spec_of_another_version")

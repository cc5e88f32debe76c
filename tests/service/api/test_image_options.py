"""Truncation, interpolation, grids and files over HTTP: refused at once, or written out and answered."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.image_requests import EXAMPLES
from service.records import images
from service.records.database import Database
from tests.service.api.conftest import PNG, Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

DDPM = {"preset": "ddpm"}
WAY = {"from": 1, "to": 2, "steps": 4}
ASYNC = {"Prefer": "respond-async"}


@pytest.mark.parametrize(
    ("spec", "asked", "path"),
    [
        ({}, {"truncation": 0}, "truncation"),
        ({}, {"truncation": 1.1}, "truncation"),
        ({}, {"truncation": "0.5"}, "truncation"),
        (DDPM, {"truncation": 0.5}, "truncation"),
        ({}, {"interpolate": {"from": 1, "to": 2}}, "interpolate.steps"),
        ({}, {"interpolate": WAY | {"steps": 1}}, "interpolate.steps"),
        ({}, {"interpolate": WAY | {"steps": 1001}}, "interpolate.steps"),
        ({}, {"interpolate": WAY | {"from": -1}}, "interpolate.from"),
        ({}, {"interpolate": WAY | {"start": 1}}, "interpolate.start"),
        ({}, {"interpolate": WAY, "n": 4}, "n"),
        ({}, {"interpolate": WAY, "seed": 4}, "seed"),
        ({}, {"interpolate": WAY, "seeds": [4]}, "seeds"),
        (DDPM, {"interpolate": WAY, "sampler": {"kind": "ddpm", "steps": 9}}, "interpolate"),
        (DDPM, {"interpolate": WAY, "sampler": {"eta": 0.1}}, "interpolate"),
        ({"conditional": {}}, {"interpolate": WAY, "labels": [1, 2]}, "labels"),
        ({}, {"n": 4, "animation": {}}, "animation"),
        ({}, {"interpolate": WAY, "animation": {"format": "png"}}, "animation.format"),
        ({}, {"interpolate": WAY, "animation": {"frame_milliseconds": 1}}, "animation.frame_milliseconds"),
        ({}, {"quality": 90}, "quality"),
        ({}, {"format": "npz", "quality": 90}, "quality"),
        ({}, {"format": "jpeg", "quality": 0}, "quality"),
        ({}, {"format": "webp", "quality": 101}, "quality"),
        ({}, {"interpolate": WAY, "animation": {"format": "gif"}, "quality": 9}, "quality"),
        ({}, {"format": "npz", "layout": "grid"}, "layout"),
        ({}, {"format": "npz", "grid": {"columns": 2}}, "grid"),
        ({}, {"grid": {"columns": 0}}, "grid.columns"),
        ({}, {"grid": {"padding": 33}}, "grid.padding"),
        ({}, {"n": 1000, "format": "webp", "grid": {"columns": 1}}, "grid.columns"),
        ({}, {"metadata": "no"}, "metadata"),
        ({}, {"strength": 0.5}, "strength"),
        (DDPM, {"strength": 0.5}, "strength"),
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
    refused = client.post(f"/v1/checkpoints/{train(**spec).checkpoint}/images", json=asked)
    assert refused.status_code == 422
    assert [error["path"] for error in refused.json()["errors"]] == [path]
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@pytest.mark.parametrize(
    ("asked", "queued"),
    [
        ({"truncation": 1}, {"truncation": 1.0}),
        (
            {"interpolate": WAY, "animation": {"format": "gif"}},
            {
                "seeds": [1] * 4,
                "interpolate": WAY,
                "animation": {"format": "gif", "frame_milliseconds": 100},
            },
        ),
        ({"interpolate": WAY, "animation": {}, "quality": 80}, {"quality": 80, "format": "png"}),
        ({"format": "jpeg", "quality": 1}, {"quality": 1}),
        ({"n": 10}, {"grid": {"columns": 4, "padding": 2}}),
        ({"n": 3, "grid": {"columns": 8, "padding": 0}}, {"grid": {"columns": 3, "padding": 0}}),
        ({"format": "npz"}, {"grid": None}),
        ({"metadata": False}, {"metadata": False}),
    ],
    ids=str,
)
def test_what_fits_is_queued_and_answered_with_every_choice_written_out(
    client: TestClient, trained: Trained, database: Database, asked: dict[str, Any], queued: dict[str, Any]
) -> None:
    """What the worker reads, and what a client reads back under the same names."""
    batch = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json=asked, headers=ASYNC).json()
    with database.read() as session:
        request = images.get(session, batch["id"]).request
    assert request.items() >= queued.items()
    told = {name: value for name, value in queued.items() if name in batch}
    assert batch.items() >= told.items()


def test_an_interpolation_is_answered_with_its_animation(
    client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    asked = {"interpolate": WAY, "animation": {"format": "gif"}}
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    with drawing():
        batch = client.post(url, json=asked).json()
        film = client.post(url, json=asked, headers={"Accept": "image/gif"})
    assert [image["position"] for image in batch["data"]] == [0, 1 / 3, 2 / 3, 1]
    assert client.get(batch["animation_url"]).headers["content-type"] == "image/gif"
    assert (film.headers["content-type"], film.content) == ("image/gif", PNG + b"animation")
    refused = client.post(url, json=asked, headers={"Accept": "image/png"})
    assert (refused.status_code, "image/gif" in refused.json()["hint"]) == (406, True)


@pytest.mark.parametrize(
    ("asked", "accept"), [({"format": "npz"}, "application/zip"), ({}, "application/zip")]
)
def test_an_npz_is_one_file(
    client: TestClient, trained: Trained, drawing: Callable[..., Any], asked: dict[str, Any], accept: str
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/images"
    with drawing():
        batch = client.post(url, json={"n": 2, "format": "npz"}).json()
        file = client.post(url, json={"n": 2, **asked}, headers={"Accept": accept})
    assert ([image["url"] for image in batch["data"]], batch["grid_url"]) == ([None, None], None)
    assert client.get(batch["archive_url"]).content == PNG + b"archive"
    assert (file.headers["content-type"], file.content) == ("application/zip", PNG + b"archive")


def test_a_row_of_an_earlier_version_is_still_answered(
    client: TestClient, trained: Trained, database: Database
) -> None:
    """Breaks when an upgrade turns the images of last week into errors."""
    request = {"seeds": [1], "labels": None, "sampler": None, "format": "png", "layout": "separate"}
    with database.transaction() as session:
        old = images.create(session, trained.checkpoint, request)
        claimed = images.claim_next(session, "test")
        assert claimed is not None
        data = [{"index": 0, "seed": 1, "label": None, "artifact": f"images/{old.id}/0.png"}]
        images.finish_all(session, {old.id: (claimed.attempt, {"data": data, "grid": None})})
    batch = client.get(f"/v1/images/{old.id}").json()
    assert (batch["data"][0]["seed"], batch["data"][0]["position"], batch["truncation"]) == (1, None, None)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_accepted(client: TestClient, train: Callable[..., Trained], name: str) -> None:
    """Breaks when the documentation shows what the service refuses."""
    spec = {"preset": "ddpm"} if name in {"diffusion", "labels", "image"} else {}
    url = f"/v1/checkpoints/{train(**spec, conditional={}).checkpoint}/images"
    accepted = client.post(url, json=EXAMPLES[name][1], headers=ASYNC)
    assert accepted.status_code == 202, accepted.text

"""What is asked for images over HTTP: refused at once, or queued with every choice written out."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from models.spec import MAX_SEED
from service.records import images
from service.records.database import Database
from service.records.status import RequestStatus
from service.records.tables import Job
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


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
        ({"sampler": {"kind": None, "steps": 9}}, {"kind": "ddim", "steps": 9}),
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
        "truncation": None,
        "interpolate": None,
        "init_image": None,
        "strength": None,
        "format": "png",
        "quality": None,
        "layout": "separate",
        "grid": {"columns": 2, "padding": 2},
        "animation": None,
        "metadata": True,
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

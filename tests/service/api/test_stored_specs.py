"""Specs of jobs as they are stored, with what their dataset decides and what is to be warned of."""

import statistics
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.records import datasets
from service.records.database import Database
from service.records.tables import Job

SPEC: dict[str, Any] = {"preset": "dcgan", "name": "fashion", "seed": 7, "metadata": {"team": "vision"}}


def test_a_dataset_must_be_there_and_ready(client: TestClient, database: Database) -> None:
    def post(dataset: str) -> tuple[int, str, str]:
        reply = client.post("/v1/jobs", json={"preset": "dcgan", "dataset": dataset})
        error = reply.json().get("error") or {}
        return reply.status_code, error.get("code", ""), error.get("param", "")

    assert post("ds_missing") == (422, "invalid_request", "dataset")
    with database.transaction() as session:
        row = datasets.create(session, "shapes", resolution=32)
    assert post(row.id) == (409, "dataset_not_ready", "dataset")
    with database.transaction() as session:
        claimed = datasets.claim(session, row.id, "test")
        assert claimed is not None
        facts: dict[str, Any] = {"count": 9, "classes": {"a": 4, "b": 5}, "channels": 3, "resolution": 32}
        datasets.ready(session, row.id, 1, **facts, mean=[0.5] * 3, std=[0.2] * 3, content_hash="00")
    assert post(row.id)[0] == 202
    with database.transaction() as session:
        broken = datasets.create(session, "broken")
    with database.transaction() as session:
        datasets.claim(session, broken.id, "test")
        datasets.failed(
            session, broken.id, 1, {"code": "no_images", "message": "no image in it", "hint": None}
        )
    assert post(broken.id) == (409, "dataset_failed", "dataset")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_dataset_decides_what_is_left_open(client: TestClient) -> None:
    spec = client.post("/v1/jobs", json={"preset": "dcgan", "dataset": "fashion-mnist"}).json()["spec"]
    assert spec["data"]["resolution"] == 32
    assert spec["generator"]["ngf"] == 32


def test_the_spread_of_all_pixels_is_known(client: TestClient, database: Database) -> None:
    """Of one pixel without red beside a white one: a diffusion model's `sigma_data`."""
    with database.transaction() as session:
        row = datasets.create(session, "shapes", resolution=16)
        datasets.claim(session, row.id, "test")
        facts: dict[str, Any] = {"count": 2, "classes": {}, "channels": 3, "resolution": 16}
        datasets.ready(session, row.id, 1, **facts, mean=[0.5, 1.0, 1.0], std=[0.5, 0, 0], content_hash="00")
    spec = {"preset": "edm", "dataset": row.id}
    planned = client.post("/v1/jobs", params={"dry_run": True}, json=spec).json()["spec"]
    pixels = [0, 1, 1, 1, 1, 1]
    assert planned["noise_schedule"]["sigma_data"] == round(2 * statistics.pstdev(pixels), 4)


def test_a_job_of_another_version_is_shown_as_it_is_stored(client: TestClient, database: Database) -> None:
    """Breaks when a spec that today's schema refuses hides all jobs behind a 500."""
    old, new = (client.post("/v1/jobs", json=SPEC).json() for _ in range(2))
    stored = {"family": "gan", "preset": "dcgan", "dataset": "digits", "data": {"horizontal_flip": True}}
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == old["id"]).values(spec=stored))
    assert client.get(f"/v1/jobs/{old['id']}").json()["spec"] == stored
    listed = client.get("/v1/jobs").json()["data"]
    assert [job["spec"] for job in listed] == [new["spec"], stored]
    assert client.post(f"/v1/jobs/{old['id']}/cancel").json()["status"] == "cancelled"


def test_a_warning_is_told_and_is_an_alert(client: TestClient) -> None:
    job = client.post("/v1/jobs", json={**SPEC, "data": {"resolution": 32}}).json()
    (warning,) = job["warnings"]
    assert warning.startswith("data.resolution 32")
    assert job["spec"]["warnings"] == [warning]
    (alert,) = client.get(job["urls"]["events"], params={"type": "alert"}).json()["data"]
    assert (alert["level"], alert["message"]) == ("warning", warning)

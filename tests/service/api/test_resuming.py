"""Resuming over HTTP: a job that could not go on is refused at once, and stays what it was."""

from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from service.records import checkpoints, datasets, endings, jobs, leases
from service.records.database import Database
from service.records.status import JobStatus
from service.settings import Settings
from tests.service.api.conftest import Trained

ERROR = {"code": "diverged", "message": "The loss is NaN.", "hint": None}
OVER = pytest.mark.parametrize("over", [JobStatus.CANCELLED, JobStatus.FAILED])


def post(client: TestClient, spec: dict[str, Any]) -> str:
    posted = client.post("/v1/jobs", json=spec)
    assert posted.status_code == 202, posted.text
    return str(posted.json()["id"])


def run(database: Database, job: str, over: JobStatus, saved: dict[str, Any] | None = None) -> None:
    """One attempt as a worker records it, with a checkpoint where there is a `saved`, and its end."""
    with database.transaction() as session:
        assert leases.claim(session, job, "test") is not None
        if saved is not None:
            artifact = f"jobs/{job}/checkpoints/1-00000010/checkpoint.safetensors"
            values = {"images": 640, "artifact": artifact, "size_bytes": 7, "sha256": "0" * 64, **saved}
            assert checkpoints.add(session, job, attempt=1, step=10, **values) is not None
        if over == JobStatus.CANCELLED:
            jobs.request_cancel(session, job)
        assert endings.finish(session, job, 1, over, ERROR)


def refused(client: TestClient, settings: Settings, job: str) -> tuple[int, str]:
    """Asks to resume what cannot be resumed: nothing of the job has changed, and no worker is rung for."""
    with redis.Redis.from_url(settings.redis_url) as broker:
        before, rung = client.get(f"/v1/jobs/{job}").json(), broker.llen("train")
        told = client.get(before["urls"]["events"]).json()
        reply = client.post(f"/v1/jobs/{job}/resume")
        assert client.get(f"/v1/jobs/{job}").json() == before
        assert client.get(before["urls"]["events"]).json() == told
        assert broker.llen("train") == rung
    return reply.status_code, reply.json()["error"]["code"]


def prepared(database: Database) -> str:
    with database.transaction() as session:
        row = datasets.create(session, "shapes", resolution=16)
        assert datasets.claim(session, row.id, "test") is not None
        found: dict[str, Any] = {"count": 9, "classes": {}, "channels": 1, "resolution": 16}
        assert datasets.ready(session, row.id, 1, **found, mean=[0.5], std=[0.2], content_hash="00")
    return row.id


@OVER
def test_a_job_whose_dataset_was_deleted_is_not_resumed(
    client: TestClient, database: Database, settings: Settings, over: JobStatus
) -> None:
    """Breaks when it waits for a worker only to fail there, or forgets why it had failed before."""
    dataset = prepared(database)
    gone, other = (post(client, {"preset": "dcgan", "dataset": name}) for name in (dataset, "digits"))
    for job in (gone, other):
        run(database, job, over, saved={"state_bytes": 300})
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert refused(client, settings, gone) == (409, "dataset_deleted")
    shown = client.get(f"/v1/jobs/{gone}").json()
    assert shown["status"] == over
    assert (shown["error"] or {}).get("code") == ("diverged" if over == JobStatus.FAILED else None)
    assert client.post(f"/v1/jobs/{other}/resume").json()["status"] == "queued"


@OVER
@pytest.mark.parametrize(
    ("saved", "goes_on"),
    [(None, False), ({"state_bytes": None}, False), ({"state_bytes": 300}, True)],
    ids=["no checkpoint", "weights only", "with its state"],
)
def test_a_job_whose_start_was_deleted_needs_a_checkpoint_of_its_own(
    client: TestClient,
    database: Database,
    settings: Settings,
    trained: Trained,
    over: JobStatus,
    saved: dict[str, Any] | None,
    goes_on: bool,
) -> None:
    """Breaks when it is resumed without anything to start from, or refused for what it needs no more."""
    job = post(client, {"preset": "dcgan", "init_from": trained.checkpoint})
    run(database, job, over, saved)
    assert client.delete(f"/v1/checkpoints/{trained.checkpoint}").status_code == 204
    if goes_on:
        resumed = client.post(f"/v1/jobs/{job}/resume")
        assert (resumed.status_code, resumed.json()["status"]) == (200, "queued")
    else:
        assert refused(client, settings, job) == (409, "init_from_deleted")


def test_a_job_whose_start_is_still_there_is_resumed(
    client: TestClient, database: Database, trained: Trained
) -> None:
    job = post(client, {"preset": "dcgan", "init_from": trained.checkpoint})
    run(database, job, JobStatus.FAILED)
    assert client.post(f"/v1/jobs/{job}/resume").json()["status"] == "queued"

"""What Prometheus reads."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from service.records import counts, jobs
from service.records.database import Database


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    reply = client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_work_is_counted_by_status(client: TestClient, database: Database) -> None:
    before = samples(client)
    with database.transaction() as session:
        jobs.create(session, {"family": "gan", "dataset": "digits", "seed": 1}, [], 5)
        assert counts.by_status(session)["jobs"]["queued"] == before["atelier_jobs", "queued"] + 1
    assert samples(client)["atelier_jobs", "queued"] == before["atelier_jobs", "queued"] + 1
    assert before["atelier_datasets", "failed"] == 0


def test_a_mistake_of_the_service_is_counted_as_one(
    app: FastAPI, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted as a client that left, it would raise no alarm."""

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(jobs, "get", broken)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    assert client.get("/v1/jobs/job_any").status_code == 500
    assert samples(client)["atelier_http_request_seconds_count", "500", "getJob"] == 1


def test_requests_are_timed_by_operation_and_not_by_path(client: TestClient) -> None:
    """A series for each path would let anybody fill the memory of the process."""
    for path in ("/v1/jobs/job_nope", "/v1/jobs/job_other", "/nowhere/1", "/nowhere/2"):
        client.get(path)
    read = samples(client)
    assert read["atelier_http_request_seconds_count", "404", "getJob"] == 2
    assert read["atelier_http_request_seconds_count", "404", "none"] == 2

"""PostgreSQL commits, and the connection ends before it says so."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from service.api.app import create_app
from service.records import checkpoints, events, jobs, keys, metrics
from service.records.database import Database
from service.records.status import JobStatus
from service.settings import Settings
from tests.chaos.proxy import Proxy
from tests.conftest import TINY
from tests.worker.trainers import supervise
from worker.resources import Resources

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    url = make_url(database_url)
    folder, port = url.query.get("host"), url.port or 5432
    started = Proxy(Path(str(folder)) / f".s.PGSQL.{port}" if folder else (str(url.host), port))
    yield started
    started.close()


@pytest.fixture
def proxied(database_url: str, proxy: Proxy) -> str:
    """The database's address by way of the proxy."""
    url = make_url(database_url).difference_update_query(["host"])
    return url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


def test_a_request_that_is_sent_again_makes_no_second_job(
    resources: Resources, settings: Settings, proxy: Proxy, proxied: str
) -> None:
    """Breaks when a client that was told 503 for a commit that stands gets two jobs, or none."""
    with resources.database.transaction() as session:
        secret = keys.create(session, "test")[1]
    app = create_app(settings.model_copy(update={"database_url": proxied}))
    client = TestClient(app, headers={"Authorization": f"Bearer {secret}", "Idempotency-Key": "once"})
    assert client.get("/v1/jobs").status_code == 200
    proxy.lose_answers(b"COMMIT", every=1)
    lost = client.post("/v1/jobs", json=TINY)
    proxy.lose_answers(b"", every=0)
    assert proxy.lost
    assert (lost.status_code, lost.json()["error"]["code"]) == (503, "database_unavailable")
    again = client.post("/v1/jobs", json=TINY)
    assert again.status_code == 202
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [again.json()["id"]]
    app.state.parts.publisher.close()
    app.state.parts.database.close()


def test_a_job_whose_every_third_commit_is_not_answered_ends_once_and_whole(
    resources: Resources, create_job: Callable[..., str], proxy: Proxy, proxied: str
) -> None:
    """Breaks when what was written is written again, or given up, because nobody said that it stands."""
    job_id = create_job(budget={"steps": 60}, log_every_steps=1, checkpoints={"every_steps": 20})
    through = Database(proxied)
    proxy.lose_answers(b"COMMIT", every=3)
    losing = Resources(resources.settings, through, resources.artifacts, resources.publisher)
    supervise(job_id, losing, threading.Event())
    through.close()
    assert proxy.lost
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
        types = [event.type for event in events.page(session, job_id, limit=100).items]
        (curve,) = metrics.series(session, job_id, keys=["loss/generator"], max_points=1000).values()
        steps = [row.step for row in checkpoints.latest_first(session, job_id)]
    assert (job.status, job.attempt, job.error) == (JobStatus.SUCCEEDED, 1, None)
    assert curve["step"] == list(range(1, 61))
    assert (steps[0], len(set(steps))) == (60, len(steps))
    assert types.count(events.EventType.SUCCEEDED) == 1

"""Jobs over HTTP: created, planned, listed, shown, cancelled."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.presets import PRESETS
from service.api.app import create_app
from service.queue import reply
from service.records import endings, jobs, leases
from service.records.database import Database
from service.records.status import JobStatus
from service.settings import Settings
from tests.service.api.conftest import Trained

SPEC: dict[str, Any] = {"preset": "dcgan", "name": "fashion", "seed": 7, "metadata": {"team": "vision"}}
WAITING = 60  # more than there are threads or connections


def test_a_posted_job_is_stored_and_shown(client: TestClient, database: Database) -> None:
    posted = client.post("/v1/jobs", json=SPEC)
    assert posted.status_code == 202
    job = posted.json()
    assert (
        job.items()
        >= {"object": "job", "status": "queued", "name": "fashion", "seed": 7, "attempt": 0}.items()
    )
    assert job["dataset"] == "digits"
    assert job["progress"]["step"] == 0
    assert job["error"] is job["best_checkpoint"] is job["started_at"] is None
    assert posted.headers["location"] == job["urls"]["self"]
    assert client.get(posted.headers["location"]).json() == job
    with database.read() as session:
        assert jobs.get(session, job["id"]).spec == job["spec"]


def test_the_reply_s_spec_posted_again_is_the_same_spec(client: TestClient) -> None:
    """A default that is not written out, or a value that does not survive JSON, fails here."""
    for preset in PRESETS:
        first = client.post("/v1/jobs", json={"preset": preset}).json()["spec"]
        assert client.post("/v1/jobs", json=first).json()["spec"] == first


def test_the_message_is_published_after_the_commit(client: TestClient, settings: Settings) -> None:
    job = client.post("/v1/jobs", json=SPEC).json()["id"]
    with (
        Celery(
            broker=settings.redis_url.replace("unix://", "redis+socket://").replace("db=", "virtual_host=")
        ) as app,
        app.connection_for_read() as connection,
    ):
        message = connection.SimpleQueue("train").get(timeout=5)
    assert message.payload[0] == [job]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_redis_a_job_is_accepted(quick_settings: Settings, key: str) -> None:
    """Redis down must not refuse a job: the row is the truth."""
    app = create_app(quick_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
    begun = time.monotonic()
    assert client.post("/v1/jobs", json=SPEC).status_code == 202
    assert time.monotonic() - begun < 60


def test_a_dry_run_stores_nothing(client: TestClient) -> None:
    planned = client.post("/v1/jobs?dry_run=true", json=SPEC)
    assert planned.status_code == 200
    plan = planned.json()
    assert plan["object"] == "job_plan"
    assert plan["spec"]["seed"] == 7
    assert plan["steps"] == 4688
    assert plan["parameters"] is plan["memory_bytes"] is None
    assert "no worker answered" in plan["warnings"][-1]
    assert client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_dry_run_tells_what_a_worker_counted(
    client: TestClient, app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's answer comes through Redis to the request that asked."""
    publisher = app.state.parts.publisher
    send = publisher.send

    def answering(task: str, *args: Any, **options: Any) -> bool:
        sent: bool = send(task, *args, **options)
        reply(settings.redis_url, args[-1], {"parameters": {"generator": 5}, "memory_bytes": 99})
        return sent

    monkeypatch.setattr(publisher, "send", answering)
    plan = client.post("/v1/jobs?dry_run=true", json=SPEC).json()
    assert (plan["parameters"], plan["memory_bytes"], plan["warnings"]) == ({"generator": 5}, 99, [])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"batch_size": 32}, {"batch_size": 32}),
        (
            {"optimizer": {"learning_rate": 1e-3}},
            {"optimizer.learning_rate": 1e-3, "optimizer.betas": [0.5, 0.999]},
        ),
        ({"optimizer": {"betas": [0.0, 0.9]}}, {"optimizer.betas": [0.0, 0.9]}),
        ({"ema": None}, {"ema": None}),
        ({"optimizer": {"clip_grad_norm": None}}, {"optimizer.clip_grad_norm": None}),
        ({"optimizer": {"kind": "adamw"}}, {"optimizer.kind": "adamw", "optimizer.betas": [0.9, 0.999]}),
        (
            {"optimizer": {"schedule": {"kind": "cosine", "warmup_steps": 9}}},
            {"optimizer.schedule.warmup_steps": 9, "optimizer.schedule.kind": "cosine"},
        ),
        ({"budget": {"steps": 5}}, {"budget.steps": 5, "budget.images": None}),
        ({"metadata": {"a": "1", "b": "2"}}, {"metadata.a": "1", "metadata.b": "2"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_overrides_merge_by_rfc_7396(client: TestClient, override: Any, expected: dict[str, Any]) -> None:
    """Members merge, arrays are replaced, null removes, and an object whose kind changes starts anew."""
    spec = client.post("/v1/jobs", json={"preset": "dcgan", **override}).json()["spec"]
    for path, value in expected.items():
        found = spec
        for name in path.split("."):
            found = found[name]
        assert found == value, path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_bad_field_is_named_by_its_path(client: TestClient) -> None:
    bad = {
        "preset": "dcgan",
        "optimizer": {"learning_rate": -1, "betas": [0.5, 2]},
        "batch_size": "64",
        "stepz": 1,
    }
    reply = client.post("/v1/jobs", json=bad)
    assert reply.status_code == 422
    problem = reply.json()
    paths = {error["path"] for error in problem["errors"]}
    assert paths == {"optimizer.learning_rate", "optimizer.betas.1", "batch_size", "stepz"}
    assert problem["error"]["param"] in paths
    assert all(error["message"] for error in problem["errors"])


def test_a_queued_job_is_cancelled_at_once(client: TestClient) -> None:
    job = client.post("/v1/jobs", json=SPEC).json()["id"]
    cancelled = client.post(f"/v1/jobs/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    again = client.post(f"/v1/jobs/{job}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_not_cancellable")


def test_a_running_job_is_asked_to_stop(client: TestClient, database: Database) -> None:
    job = client.post("/v1/jobs", json=SPEC).json()["id"]
    with database.transaction() as session:
        leases.claim(session, job, "test")
    for _ in range(2):
        asked = client.post(f"/v1/jobs/{job}/cancel")
        assert (asked.status_code, asked.json()["status"]) == (200, "cancelling")


@pytest.mark.parametrize("dry", ["", "?dry_run=true"])
def test_a_job_starts_from_a_checkpoint_of_networks_like_its_own(
    client: TestClient, trained: Trained, dry: str
) -> None:
    spec = client.get(f"/v1/jobs/{trained.job}").json()["spec"]

    def posted(**changed: Any) -> httpx.Response:
        return client.post(f"/v1/jobs{dry}", json={**spec, "seed": 2, **changed})

    good = posted(init_from=trained.checkpoint)
    assert good.status_code == (200 if dry else 202), good.text
    assert good.json()["spec"]["init_from"] == trained.checkpoint
    wider = posted(init_from=trained.checkpoint, generator={**spec["generator"], "ngf": 64})
    assert wider.status_code == 422
    assert [error["path"] for error in wider.json()["errors"]] == ["generator.ngf"]
    for missing in ("ckpt_x", "../ckpt", "ckpt_01jc0000000000000000000000"):
        refused = posted(init_from=missing)
        assert refused.status_code == 422
        assert [error["path"] for error in refused.json()["errors"]] == ["init_from"]


def test_a_job_is_paused_and_resumed(client: TestClient, database: Database, settings: Settings) -> None:
    broker = redis.Redis.from_url(settings.redis_url)
    job = client.post("/v1/jobs", json=SPEC).json()["id"]

    def ask(what: str) -> tuple[int, str]:
        reply = client.post(f"/v1/jobs/{job}/{what}")
        body = reply.json()
        return reply.status_code, body["status"] if reply.is_success else body["error"]["code"]

    assert ask("pause") == (409, "job_not_pausable"), "it waits"
    assert ask("resume") == (409, "job_not_resumable")
    with database.transaction() as session:
        claimed = leases.claim(session, job, "test")
        assert claimed is not None
    assert ask("pause") == ask("pause") == (200, "pausing")
    assert ask("resume") == (409, "job_not_resumable")
    with database.transaction() as session:
        assert endings.finish(session, job, claimed.attempt, JobStatus.PAUSED)
    before = broker.llen("train")
    assert ask("resume") == (200, "queued")
    assert broker.llen("train") == before + 1, "a worker is rung for"
    assert ask("cancel") == (200, "cancelled")
    assert ask("resume") == (200, "queued")
    assert client.get(f"/v1/jobs/{job}").json()["finished_at"] is None
    broker.close()


def test_a_finished_job_names_its_checkpoints(client: TestClient, trained: Trained) -> None:
    job = client.get(f"/v1/jobs/{trained.job}").json()
    assert job["status"] == "succeeded"
    assert job["best_checkpoint"] == job["last_checkpoint"] == trained.checkpoint
    assert job["finished_at"].endswith("Z")


def test_jobs_are_found_by_what_they_are(client: TestClient, train: Callable[..., Trained]) -> None:
    client.post("/v1/jobs", json={**SPEC, "name": "queued"})
    client.post("/v1/jobs", json={"preset": "ddpm", "name": "other", "dataset": "fashion-mnist"})
    train(name="done", metadata={"team": "audio", "odd": "a:b"})

    def names(query: str) -> set[str]:
        reply = client.get(f"/v1/jobs?{query}")
        assert reply.status_code == 200, reply.text
        return {job["name"] for job in reply.json()["data"]}

    assert names("") == {"queued", "other", "done"}
    assert names("status=queued") == {"queued", "other"}
    assert names("status=queued&status=succeeded") == {"queued", "other", "done"}
    assert names("dataset=fashion-mnist") == {"other"}
    assert names("preset=ddpm&status=succeeded") == set()
    assert names("metadata=team:vision") == {"queued"}
    assert names("metadata[team]=audio") == {"done"}
    assert names("metadata=team:audio&metadata=odd:a:b") == {"done"}
    assert names("metadata=team:vision&metadata=odd:a:b") == set()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("status=done", "status.0"),
        ("stauts=queued", "stauts"),
        ("status[]=queued", "status[]"),
        ("metadata[team=vision", "metadata[team"),
        ("metadata=team", "metadata"),
        ("limit=0", "limit"),
    ],
)
def test_a_filter_that_cannot_hold_is_refused(client: TestClient, query: str, param: str) -> None:
    """A misspelt filter that is ignored would answer with every job."""
    reply = client.get(f"/v1/jobs?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_many_waiting_requests_leave_room_for_others(quick_settings: Settings, key: str) -> None:
    """A wait that held a thread or a connection would use up both: there are 40 of each."""
    app = create_app(quick_settings.model_copy(update={"describe_seconds": 60.0}))

    async def run() -> float:
        async with (
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://test",
                headers={"Authorization": f"Bearer {key}"},
            ) as client,
            redis.asyncio.Redis.from_url(quick_settings.redis_url) as queue,
        ):
            ask = partial(client.post, "/v1/jobs?dry_run=true", json=SPEC, timeout=None)
            waiting = [asyncio.create_task(ask()) for _ in range(WAITING)]
            while await queue.llen("sample") < WAITING:
                await asyncio.sleep(0.1)
            begun = time.monotonic()
            assert (await client.get("/v1/jobs")).status_code == 200
            took = time.monotonic() - begun
            assert app.state.parts.database.engine.pool.checkedout() == 0
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return took

    assert asyncio.run(run()) < 30

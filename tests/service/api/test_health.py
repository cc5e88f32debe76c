"""Alive and ready: what an orchestrator reads."""

import asyncio
import threading

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings


def test_all_parts_answer(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {name: part["ok"] for name, part in ready.json()["parts"].items()} == {
        "sql": True,
        "redis": True,
        "artifacts": True,
    }


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_it_is_alive_while_every_thread_waits(app: FastAPI) -> None:
    """A database that does not answer holds them all; a restart for that would help nobody."""

    async def run() -> int:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        freed = threading.Event()
        waiting = asyncio.create_task(anyio.to_thread.run_sync(freed.wait))
        await asyncio.sleep(0.05)
        try:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://test"
            ) as client:
                return (await asyncio.wait_for(client.get("/livez"), 5)).status_code
        finally:
            freed.set()
            await waiting

    assert asyncio.run(run()) == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_redis_away_is_shown_and_still_ready(settings: Settings) -> None:
    """Jobs are accepted without Redis, so a load balancer must not take the API away."""
    client = TestClient(
        create_app(settings.model_copy(update={"redis_url": "redis://:secret@127.0.0.1:1/0"}))
    )
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert not ready.json()["parts"]["redis"]["ok"]
    assert "secret" not in ready.text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_artifacts_away_is_unready(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"artifacts_url": "/proc/no-such-place"}))
    ready = TestClient(app).get("/readyz")
    assert (ready.status_code, ready.json()["parts"]["artifacts"]["ok"]) == (503, False)

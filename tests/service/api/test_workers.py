"""Who works, on what, and what waits, over HTTP."""

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.queue import Publisher
from service.records import workers
from service.records.database import Database
from service.settings import Settings

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_workers_and_queues_are_shown(client: TestClient, database: Database, settings: Settings) -> None:
    warm = [{"checkpoint_id": "ckpt_1", "size_bytes": 5}]
    with database.transaction() as session:
        workers.tell(session, "host:1", ["sample"], "cpu", warm)
    publisher = Publisher(settings.redis_url)
    publisher.send("atelier.train", "job_1")
    publisher.close()
    shown = client.get("/v1/workers").json()
    assert shown["queues"] == {"train": 1, "sample": 0, "prepare": 0}
    (worker,) = shown["data"]
    assert worker.items() >= {"name": "host:1", "queues": ["sample"], "job_id": None, "warm": warm}.items()


@SQLITE
def test_without_redis_the_queues_are_not_known(settings: Settings, key: str) -> None:
    app = create_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    reply = TestClient(app, headers={"Authorization": f"Bearer {key}"}).get("/v1/workers")
    assert (reply.status_code, reply.json()) == (200, {"object": "list", "data": [], "queues": None})

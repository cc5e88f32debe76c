"""Who works, on what, and what waits, over HTTP."""

from collections.abc import Callable

from fastapi.testclient import TestClient

from service.records import workers
from service.records.database import Database
from tests.service.api.conftest import Trained

ASYNC = {"Prefer": "respond-async"}


def test_workers_and_what_waits_for_them_are_shown(
    client: TestClient, database: Database, train: Callable[..., Trained]
) -> None:
    """Breaks when `sample` is 0 beside a hundred batches that wait: a message only rings for all of them."""
    warm = [{"checkpoint_id": "ckpt_1", "size_bytes": 5}]
    with database.transaction() as session:
        workers.tell(session, "host:1", ["sample"], "cpu", warm)
    before = client.get("/v1/workers").json()["queues"]
    trained = train()
    for path in ("images", "images", "evaluations"):
        asked = client.post(f"/v1/checkpoints/{trained.checkpoint}/{path}", json={}, headers=ASYNC)
        assert asked.status_code == 202, asked.text
    assert client.post("/v1/jobs", json={"preset": "dcgan", "dataset": "digits"}).status_code == 202
    shown = client.get("/v1/workers").json()
    more = {"train": 1, "sample": 2, "prepare": 1}
    assert shown["queues"] == {kind: before[kind] + count for kind, count in more.items()}
    (worker,) = shown["data"]
    assert worker.items() >= {"name": "host:1", "queues": ["sample"], "job_id": None, "warm": warm}.items()

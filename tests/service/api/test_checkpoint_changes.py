"""Pinning and deleting checkpoints over HTTP."""

import pytest
from fastapi.testclient import TestClient

from service.records import retention, unwanted
from service.records.database import Database
from tests.service.api.conftest import Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_checkpoint_is_pinned_and_unpinned(client: TestClient, trained: Trained) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}"
    for pinned in (True, True, False):
        changed = client.patch(url, json={"pinned": pinned})
        assert (changed.status_code, changed.json()["pinned"]) == (200, pinned)
        assert client.get(url).json() == changed.json()


@pytest.mark.parametrize("change", [{}, {"pinned": "yes"}, {"pinned": None}, {"best": True}, {"sha256": ""}])
def test_nothing_else_can_be_changed(client: TestClient, trained: Trained, change: dict[str, object]) -> None:
    """Breaks when a client can write what only training may: mass assignment."""
    url = f"/v1/checkpoints/{trained.checkpoint}"
    before = client.get(url).json()
    refused = client.patch(url, json=change)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] in {"pinned", "best", "sha256"}
    assert client.get(url).json() == before


def test_a_deleted_checkpoint_is_gone_and_says_so(
    client: TestClient, database: Database, trained: Trained
) -> None:
    """Breaks when it can still be listed, shown, sampled or downloaded, or when its files stay for ever."""
    first, last = trained.checkpoints
    url = f"/v1/checkpoints/{first}"
    assert client.delete(url).status_code == 204
    for gone in (
        client.get(url),
        client.delete(url),
        client.patch(url, json={"pinned": True}),
        client.get(f"{url}/download"),
        client.post(f"{url}/images", json={}),
        client.post(f"{url}/evaluations", json={}),
    ):
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "checkpoint_deleted")
    assert [row["id"] for row in client.get("/v1/checkpoints").json()["data"]] == [last]
    with database.read() as session:
        assert unwanted.oldest(session) == [f"jobs/{trained.job}/checkpoints/00000010"]
    started = client.post("/v1/jobs", json={"preset": "dcgan", "init_from": first})
    assert (started.status_code, started.json()["errors"][0]["path"]) == (422, "init_from")


def test_a_checkpoint_that_images_wait_for_is_kept(client: TestClient, trained: Trained) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}"
    asked = client.post(f"{url}/images", json={}, headers={"Prefer": "respond-async"})
    assert asked.status_code == 202
    refused = client.delete(url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "checkpoint_in_use")
    assert client.get(url).status_code == 200


def test_only_the_state_of_a_finished_job_is_given_up(
    client: TestClient, database: Database, trained: Trained
) -> None:
    with database.transaction() as session:
        retention.fit(session, None)
    assert client.get(f"/v1/checkpoints/{trained.checkpoint}").json()["state_bytes"] is None
    assert client.get(f"/v1/checkpoints/{trained.checkpoint}/download").status_code == 200

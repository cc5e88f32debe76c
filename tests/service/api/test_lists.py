"""Every list: the envelope, newest first, page by page."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.service.api.conftest import Trained

ENVELOPE = {"object", "data", "first_id", "last_id", "has_more"}


def _paths(trained: Trained) -> dict[str, str]:
    """Each list by its path, with the field by which its objects are known."""
    return {
        "/v1/jobs": "id",
        "/v1/datasets": "id",
        "/v1/checkpoints": "id",
        f"/v1/jobs/{trained.job}/checkpoints": "id",
        f"/v1/jobs/{trained.job}/events": "id",
        f"/v1/jobs/{trained.job}/samples": "step",
    }


def test_pages_of_one_make_up_the_whole_list(client: TestClient, train: Callable[..., Trained]) -> None:
    """A page that repeats or leaves out an object fails here."""
    trained = [train(steps=(1, 2, 3)) for _ in range(3)][-1]
    for path, name in _paths(trained).items():
        whole = client.get(path, params={"limit": 100}).json()
        assert set(whole) == ENVELOPE
        assert not whole["has_more"]
        assert len(whole["data"]) >= 2, path
        found, after = [], None
        while True:
            page = client.get(path, params={"limit": 1, **({"after": after} if after else {})}).json()
            found += page["data"]
            after = page["last_id"]
            assert page["first_id"] == page["last_id"] == str(page["data"][0][name])
            if not page["has_more"]:
                break
        assert found == whole["data"], path
        keys = [one[name] for one in found]
        assert keys == sorted(keys, reverse=True), path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_limits_and_cursors_are_checked(client: TestClient, trained: Trained) -> None:
    for path in _paths(trained):
        for limit in ("0", "101", "x", "1" * 400):
            assert client.get(path, params={"limit": limit}).status_code == 422, path
        assert len(client.get(path).json()["data"]) <= 20
        for after in ("job_unknown", "x\0y", "../..", "9999"):
            refused = client.get(path, params={"after": after})
            assert (refused.status_code, refused.json()["error"]["param"]) == (404, "after"), path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_empty_list_has_no_ends(client: TestClient) -> None:
    empty = client.get("/v1/checkpoints").json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_events_are_filtered(client: TestClient, trained: Trained) -> None:
    def types(query: str) -> list[str]:
        return [
            event["type"] for event in client.get(f"/v1/jobs/{trained.job}/events?{query}").json()["data"]
        ]

    assert types("type=checkpoint.saved") == ["checkpoint.saved"] * 2
    assert types("type=job.queued&type=job.succeeded") == ["job.succeeded", "job.queued"]
    assert types("level=error") == []
    assert len(types("level=info")) == len(types("")) == 7


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_presets_are_complete_specs(client: TestClient) -> None:
    for preset in client.get("/v1/presets").json()["data"]:
        assert client.get(f"/v1/presets/{preset['name']}").json() == preset
        assert client.post("/v1/jobs", json=preset["spec"]).status_code == 202

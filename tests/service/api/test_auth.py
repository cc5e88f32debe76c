"""Who may call what: generated from the routes, so that a new one without a key fails here."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api import app as api
from service.api import health
from service.records import keys
from service.records.database import Database

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OPEN = {"/livez", "/readyz"}
KEYED = sorted(
    (method, prefix + route.path)
    for prefix, router in api.KEYED_ROUTERS
    for route in router.routes
    for method in route.methods
)
WRONG = {
    "no key": {},
    "an unknown key": {"Authorization": "Bearer atl_unknown"},
    "an empty key": {"Authorization": "Bearer "},
    "another scheme": {"Authorization": "Basic YWRtaW46YWRtaW4="},
    "odd bytes": {"Authorization": b"Bearer \xff\x01\xfe"},
}


def test_every_route_of_the_app_is_in_this_test(app: FastAPI) -> None:
    """A router that is added beside KEYED_ROUTERS is not tested below, and fails here."""
    described = {(method.upper(), path) for path, ways in app.openapi()["paths"].items() for method in ways}
    assert described == set(KEYED) | {("GET", path) for path in OPEN}
    assert all(route.include_in_schema for _, router in api.KEYED_ROUTERS for route in router.routes)


@pytest.mark.parametrize("wrong", WRONG)
def test_every_keyed_route_refuses(app: FastAPI, wrong: str) -> None:
    """A route that answers without a valid key fails here, whatever its body."""
    client = TestClient(app)
    for method, path in KEYED:
        url = re.sub(r"\{\w+\}", "x", path)
        reply = client.request(method, url, headers=WRONG[wrong], content=b"not read")
        assert reply.status_code == 401, f"{method} {path}"
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["error"]["type"] == "authentication_error"


def test_expired_key_is_refused(app: FastAPI, database: Database) -> None:
    with database.transaction() as session:
        secret = keys.create(session, "old", expires_at=datetime.now(UTC) - timedelta(seconds=1))[1]
    reply = TestClient(app).get("/v1/jobs", headers={"Authorization": f"Bearer {secret}"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_key")


def test_what_is_open_needs_no_key(app: FastAPI) -> None:
    """An orchestrator's probes and the document's readers have no key."""
    client = TestClient(app)
    assert {route.path for route in health.router.routes} == OPEN
    for path in (*OPEN, "/openapi.json", "/docs"):
        assert client.get(path).status_code == 200, path


def test_a_body_is_not_read_before_the_key_is_checked(app: FastAPI) -> None:
    """An upload without a key must not fill the disk."""

    def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    assert TestClient(app).post("/v1/datasets", content=body()).status_code == 401

"""Every error is a problem (RFC 9457) that OpenAI's clients read as well; nothing a client sends is a 500."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api.problems import MOST_LISTED
from service.records.database import Database
from service.settings import Settings
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
JSON = {"Content-Type": "application/json"}


def _is_problem(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "hint", "errors", "error"}
    assert problem["status"] == status
    assert set(problem["error"]) == {"type", "code", "message", "param"}
    assert problem["detail"]
    assert problem["type"].endswith(problem["error"]["code"])
    return problem


@SQLITE
def test_every_kind_of_error_is_a_problem(client: TestClient) -> None:
    _is_problem(client.get("/nothing/here"), 404)
    _is_problem(client.get("/v1/jobs/job_x"), 404)
    refused = client.delete("/v1/jobs/job_x")
    _is_problem(refused, 405)
    assert "GET" in refused.headers["allow"]
    _is_problem(client.post("/v1/jobs", content=b"{}"), 415)
    _is_problem(client.post("/v1/jobs", content=b"preset: dcgan", headers={"Content-Type": "text/yaml"}), 415)
    assert _is_problem(client.get("/v1/jobs?limit=1000"), 422)["errors"][0]["path"] == "limit"
    wrong = _is_problem(client.post("/v1/jobs", json={"preset": "dcgan", "batch_size": 0}), 422)
    assert "equal to 1. Correct the fields" in wrong["error"]["message"], "two sentences"
    client.headers.pop("authorization")
    _is_problem(client.get("/v1/jobs"), 401)


@SQLITE
def test_what_is_wrong_all_over_is_answered_briefly(client: TestClient, trained: Trained) -> None:
    """Breaks when one bad body holds up the whole API, and comes back nine times as large."""
    for path in ("/v1/jobs", f"/v1/checkpoints/{trained.checkpoint}/images"):
        base = {"preset": "dcgan"} if path == "/v1/jobs" else {}
        some = _is_problem(client.post(path, json={**base, **{f"f{i}": 1 for i in range(500)}}), 422)
        assert len(some["errors"]) == MOST_LISTED
        begin = f"500 fields are wrong, of which these are the first {MOST_LISTED}: f0"
        assert some["detail"].startswith(begin)
        reply = client.post(path, json={**base, **{f"f{i}": 1 for i in range(50_000)}})
        assert "50,000 wrong or unknown fields" in _is_problem(reply, 422)["detail"]
        assert len(reply.content) < 2000


@SQLITE
def test_a_json_body_is_bounded(client: TestClient, settings: Settings) -> None:
    big = json.dumps({"preset": "dcgan", "name": "x" * settings.max_json_bytes}).encode()
    _is_problem(client.post("/v1/jobs", content=big, headers=JSON), 413)
    _is_problem(client.post("/v1/jobs", content=iter([big]), headers=JSON), 413)


@SQLITE
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"seed": 1,}', 400),
        (b"\xff\xfe", 400),
        (b'{"seed": NaN}', 400),
        (b'{"seed": Infinity}', 400),
        (b"[" * 200_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"name": "\\ud800"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"dcgan"', 422),
        (b"{}", 422),
        (b'{"preset": null}', 422),
        (b'{"preset": "dcgan", "seed": 1e999}', 422),
        (b'{"preset": "dcgan", "seed": ' + b"9" * 4000 + b"}", 422),
        (b'{"preset": "dcgan", "seed": 1.5}', 422),
        (b'{"preset": "dcgan", "name": "a\\u0000b"}', 422),
        (b'{"preset": "dcgan", "dataset": "a\\u0000b"}', 422),
        (b'{"preset": "dcgan", "metadata": {"a\\u0000": "b"}}', 422),
        (b'{"preset": "dcgan", "metadata": {"a": {"b": "c"}}}', 422),
        (b'{"preset": "d\\u0000"}', 422),
        (b'{"preset": ["dcgan"]}', 422),
        (b'{"preset": "dcgan", "optimizer": 3}', 422),
        (b'{"preset": "dcgan", "optimizer": {"kind": {}}}', 422),
        (b'{"preset": "dcgan", "optimizers": {"generator": []}}', 422),
        (b'{"preset": "dcgan", "budget": {"steps": 0}}', 422),
        (b'{"preset": "dcgan", "status": "succeeded", "id": "job_mine"}', 422),
        (b'{"preset": "dcgan", "dataset": "file:///etc/passwd"}', 422),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_no_body_is_a_mistake_of_the_service(
    client: TestClient, body: bytes, status: int, query: str
) -> None:
    _is_problem(client.post(f"/v1/jobs{query}", content=body, headers=JSON), status)
    assert client.get("/v1/jobs").json()["data"] == []


IDS = (
    "x",
    "job_",
    "job_01jc0000000000000000000000",
    "%00",
    "a%00b",
    "..%2f..",
    "'; DROP TABLE jobs",
    "é",
    "x" * 5000,
)


def test_any_unknown_id_is_a_404(client: TestClient, app: FastAPI, trained: Trained) -> None:
    """Malformed or not: PostgreSQL refuses a NUL in a text, and an id is no reason for a 500 or a 422."""
    bodies: dict[str, Any] = {
        "createImages": {"json": {"n": 1}},
        "createEvaluation": {"json": {}},
        "updateCheckpoint": {"json": {"pinned": True}},
    }
    for path, ways in app.openapi()["paths"].items():
        if "{" not in path:
            continue
        for method, operation in ways.items():
            for unknown in IDS:
                url = path
                for parameter in operation["parameters"]:
                    if parameter["in"] == "path":
                        url = url.replace("{" + parameter["name"] + "}", unknown)
                reply = client.request(method, url, **bodies.get(operation["operationId"], {}))
                assert reply.status_code == 404, f"{method} {url[:80]}: {reply.text}"
                assert reply.headers["content-type"] == "application/problem+json"
    assert client.get(f"/v1/jobs/{trained.job}").status_code == 200


def test_no_query_is_a_mistake_of_the_service(client: TestClient, trained: Trained) -> None:
    for value in (
        "\0",
        "\ud800".encode("utf-8", "surrogatepass"),
        "é",
        "x" * 200,
        "'",
        "a:b\0",
        "%",
        "-1",
        "9" * 40,
    ):
        for name in (
            "dataset",
            "preset",
            "metadata",
            "status",
            "after",
            "limit",
            "metadata[a]",
            "metadata[\0]",
        ):
            reply = client.get("/v1/jobs", params={name: value})
            assert reply.status_code in {200, 404, 422}, (name, value, reply.text)
        for name in ("keys", "max_points"):
            reply = client.get(f"/v1/jobs/{trained.job}/metrics", params={name: value})
            assert reply.status_code in {200, 422}, (name, value, reply.text)


@SQLITE
def test_a_mistake_of_the_service_says_nothing_of_itself(
    app: FastAPI, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("postgresql://user:secret@host")

    monkeypatch.setattr("service.records.jobs.get", broken)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    reply = client.get("/v1/jobs/job_x")
    assert _is_problem(reply, 500)["error"]["code"] == "internal_error"
    assert "secret" not in reply.text


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_is_away_is_a_503(client: TestClient, database: Database, app: FastAPI) -> None:
    assert client.get("/readyz").json()["status"] == "ready"
    parts = app.state.parts
    url = parts.database.engine.url.set(port=1, host="127.0.0.1")
    away = Database(url.render_as_string(hide_password=False))
    object.__setattr__(parts, "database", away)
    try:
        reply = client.get("/v1/jobs")
        assert _is_problem(reply, 503)["error"]["code"] == "database_unavailable"
        assert "retry-after" in reply.headers
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"], ready.json()["parts"]["sql"]["ok"]) == (
            503,
            "unready",
            False,
        )
        assert client.get("/livez").status_code == 200
    finally:
        away.close()

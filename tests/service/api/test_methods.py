"""HEAD answers as GET does, without a body; a method that a path does not know is told those that it does."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.artifacts import Artifacts
from tests.service.api.conftest import WEIGHTS, Trained


def test_a_head_is_a_get_without_its_body(client: TestClient, app: FastAPI, trained: Trained) -> None:
    names = {"job_id": trained.job, "checkpoint_id": trained.checkpoint, "dataset_id": "digits"}
    names |= {"name": "dcgan", "step": "20", "image_id": "img_x", "file": "0.png", "evaluation_id": "eval_x"}
    for path, ways in app.openapi()["paths"].items():
        if "get" not in ways:
            continue
        url = path.format(**names)
        head, got = client.head(url), client.get(url)
        assert (head.status_code, head.content) == (got.status_code, b""), url
        assert head.headers["content-type"] == got.headers["content-type"], url
        assert "head" not in ways


def test_a_head_of_weights_reads_none_of_them(
    client: TestClient, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Artifacts, "chunks", lambda *_: pytest.fail("the file was opened"))
    head = client.head(f"/v1/checkpoints/{trained.checkpoint}/download")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(WEIGHTS)))


def test_a_head_needs_a_key_and_a_path(client: TestClient) -> None:
    assert client.head("/v1/nothing").status_code == 404
    client.headers.pop("authorization")
    assert client.head("/v1/jobs").status_code == 401


def test_allow_names_every_method_of_the_path(client: TestClient) -> None:
    """Several routes share a path, and the first of them alone would hide the others' methods."""
    for url, allowed in {
        "/v1/jobs": "GET, HEAD, POST",
        "/v1/datasets/digits": "DELETE, GET, HEAD",
        "/v1/jobs/job_x/cancel": "POST",
        "/livez": "GET, HEAD",
    }.items():
        refused = client.put(url)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed), url

"""The artifact store is away, or full: every operation that needs it answers 503 and says what to look at."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.artifacts import Artifacts
from service.settings import Settings
from tests.faulty_proxy import Fault, FaultyProxy
from tests.s3_server import impatience
from tests.service.api.conftest import WEIGHTS, Trained
from tests.small_disk import mounted

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def in_s3(settings: Settings, bucket: str) -> Settings:
    return settings.model_copy(update={"artifacts_url": bucket})


@pytest.fixture
def app(in_s3: Settings, s3_proxy: FaultyProxy, trained: Trained) -> Iterator[FastAPI]:
    """An app that reaches S3 through the proxy, and gives it up soon."""
    with impatience():
        made = create_app(in_s3)
        yield made
    made.state.parts.publisher.close()
    made.state.parts.database.close()


@pytest.fixture
def artifacts(in_s3: Settings, s3_proxy: FaultyProxy) -> Artifacts:
    return Artifacts(in_s3.artifacts_url)


def upload(client: TestClient) -> httpx.Response:
    return client.post("/v1/datasets", data={"name": "shapes"}, files={"file": ("a.zip", b"archive")})


@pytest.mark.parametrize("kind", ["503", "silence"])
def test_a_store_that_is_away_is_a_503_and_no_500(
    client: TestClient, trained: Trained, s3_proxy: FaultyProxy, kind: str
) -> None:
    s3_proxy.fault = Fault(kind)
    answers = {
        "download": client.get(f"/v1/checkpoints/{trained.checkpoint}/download"),
        "sample": client.get(f"/v1/jobs/{trained.job}/samples/20.png"),
        "tensorboard": client.get(f"/v1/jobs/{trained.job}/tensorboard"),
        "upload": upload(client),
    }
    for name, answer in answers.items():
        assert answer.status_code == 503, name
        assert answer.headers["content-type"] == "application/problem+json", name
        assert answer.headers["retry-after"], name
        problem: dict[str, Any] = answer.json()
        assert problem["error"]["code"] == "artifacts_unavailable", name
        assert "ATELIER_ARTIFACTS_URL" in problem["hint"], name
        assert s3_proxy.address.removeprefix("http://") not in answer.text, name
    assert client.get("/readyz").status_code == 503
    assert client.get("/v1/datasets").json()["data"][0]["name"] != "shapes", "a row without its file"
    assert client.get(f"/v1/jobs/{trained.job}").status_code == 200


def test_nothing_is_left_of_an_outage(
    in_s3: Settings, key: str, trained: Trained, s3_proxy: FaultyProxy
) -> None:
    """Breaks when a process that has seen S3 away has to be started again."""
    client = TestClient(create_app(in_s3), headers={"Authorization": f"Bearer {key}"})
    s3_proxy.fault = Fault("503")
    refused = client.get(f"/v1/checkpoints/{trained.checkpoint}/download")
    assert refused.status_code == 503
    s3_proxy.fault = None
    assert client.get(f"/v1/checkpoints/{trained.checkpoint}/download").content == WEIGHTS
    assert upload(client).status_code == 202


UPLOAD = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from service.api.app import create_app
from service.settings import load_settings

client = TestClient(create_app(load_settings()), headers={"Authorization": f"Bearer {sys.argv[1]}"})
answer = client.post("/v1/datasets", data={"name": "shapes"}, files={"file": ("a.zip", b"x" * 2_000_000)})
print(answer.status_code, answer.json()["error"]["code"], answer.json()["hint"])
print(sorted(path.name for path in load_settings().data.rglob("*") if path.is_file()))
print(sorted(path.name for path in Path(sys.argv[2]).rglob("*") if path.is_file()))
"""


def test_an_upload_to_a_full_disk_is_a_503_that_says_so(
    settings: Settings, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when the client is told of a mistake of the service, or the archive stays where nobody looks."""
    store = tmp_path / "small"
    for name in ("data", "database_url", "redis_url"):
        monkeypatch.setenv(f"ATELIER_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("ATELIER_ARTIFACTS_URL", str(store))
    ran = mounted("size=1m", store, sys.executable, "-c", UPLOAD, key, str(store))
    assert ran.returncode == 0, ran.stderr
    said, kept, stored = ran.stdout.splitlines()
    assert said.startswith("503 artifacts_full ")
    assert "ATELIER_ARTIFACTS_URL" in said
    assert (kept, stored) == ("[]", "[]")

"""Files over HTTP: checkpoints, pipelines, samples, and the curves as numbers."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.spec.exporting import ExportFormat
from service.artifacts import Artifacts
from service.queue import reply
from service.records import checkpoints
from service.records.database import Database
from service.records.exports import export_key
from service.settings import Settings
from tests.service.api.conftest import PNG, SHA256, WEIGHTS, Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@SQLITE
def test_a_checkpoint_is_downloaded_whole(client: TestClient, trained: Trained) -> None:
    shown = client.get(f"/v1/checkpoints/{trained.checkpoint}").json()
    assert shown.items() >= {"step": 20, "best": True, "last": True, "sha256": SHA256, "scores": {}}.items()
    assert not client.get(f"/v1/checkpoints/{trained.checkpoints[0]}").json()["last"]
    got = client.get(shown["urls"]["download"])
    assert got.content == WEIGHTS
    assert got.headers["content-length"] == str(len(WEIGHTS)) == str(shown["size_bytes"])
    assert got.headers["etag"] == f'"{SHA256}"'
    assert (
        got.headers["content-disposition"]
        == f'attachment; filename="{trained.checkpoint}-step20.safetensors"'
    )
    again = client.get(shown["urls"]["download"], headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@SQLITE
@pytest.mark.parametrize("spec", [{}, {"preset": "ddpm", "conditional": {}}, {"preset": "edm"}], ids=str)
def test_what_diffusers_cannot_sample_is_no_pipeline(
    client: TestClient, train: Callable[..., Trained], spec: dict[str, Any]
) -> None:
    """Breaks when the client is told of a mistake of the service, after a worker has tried."""
    url = f"/v1/checkpoints/{train(**spec).checkpoint}/download?format=diffusers"
    refused = client.get(url)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "format")


@SQLITE
def test_an_unknown_format_is_refused(client: TestClient, trained: Trained) -> None:
    refused = client.get(f"/v1/checkpoints/{trained.checkpoint}/download?format=pickle")
    assert refused.status_code in (400, 422)
    assert "torch_export" in refused.text


@SQLITE
@pytest.mark.parametrize("exported", ["diffusers", "onnx", "torch_export", "card"])
def test_an_export_is_made_when_first_asked_for(
    client: TestClient,
    app: FastAPI,
    artifacts: Artifacts,
    settings: Settings,
    train: Callable[..., Trained],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    exported: str,
) -> None:
    """The worker's answer through Redis names the artifact; later requests find it stored, until it is old.

    Breaks when a card tells scores that were measured anew since, or a resumed download begins again.
    """
    trained = train(preset="ddpm")
    publisher = app.state.parts.publisher
    asked = []

    def answering(task: str, *args: Any, **options: Any) -> bool:
        asked.append((task, *args[:2]))
        with database.read() as session:
            key = export_key(checkpoints.get(session, args[0]), ExportFormat(args[1]))
        assert key.startswith(f"jobs/{trained.job}/checkpoints/00000020/")
        artifacts.put_bytes(b"zip", key)
        reply(settings.redis_url, args[-1], {"key": key})
        return True

    monkeypatch.setattr(publisher, "send", answering)
    url = f"/v1/checkpoints/{trained.checkpoint}/download?format={exported}"
    for _ in range(2):
        got = client.get(url)
        assert (got.status_code, got.content, got.headers["content-type"]) == (200, b"zip", "application/zip")
    assert f'-step20-{exported}.zip"' in got.headers["content-disposition"]
    part = client.get(url, headers={"Range": "bytes=1-", "If-Range": got.headers["etag"]})
    assert (part.status_code, part.content) == (206, b"ip")
    assert client.get(url, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    assert asked == [("atelier.export", trained.checkpoint, exported)]
    with database.transaction() as session:
        checkpoints.get(session, trained.checkpoint).scores = {"fid": 3.0}
    assert client.get(url).status_code == 200
    assert len(asked) == 2


@SQLITE
def test_a_sample_grid_is_fetched_by_its_step(client: TestClient, trained: Trained) -> None:
    newest = client.get(f"/v1/jobs/{trained.job}/samples").json()["data"][0]
    assert newest["step"] == 20
    picture = client.get(newest["url"])
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    for step in ("11", "-1", "x", "9" * 30, "1e1", "%00"):
        assert client.get(f"/v1/jobs/{trained.job}/samples/{step}.png").status_code == 404, step


def test_curves_are_thinned_and_chosen(client: TestClient, train: Callable[..., Trained]) -> None:
    url = f"/v1/jobs/{train(points=200).job}/metrics"
    series = client.get(url).json()["series"]
    assert set(series) == {"loss/generator", "loss/discriminator"}
    assert series["loss/generator"]["step"] == list(range(200))
    assert series["loss/discriminator"]["value"] == [None], "NaN is no JSON"
    few = client.get(url, params={"max_points": 10, "keys": "loss/generator,loss/unknown"}).json()["series"]
    assert set(few) == {"loss/generator"}
    assert len(few["loss/generator"]["step"]) <= 10
    assert (few["loss/generator"]["step"][0], few["loss/generator"]["step"][-1]) == (0, 199)


@SQLITE
def test_an_artifact_that_is_gone_is_a_404(
    client: TestClient, trained: Trained, artifacts: Artifacts
) -> None:
    artifacts.delete(f"jobs/{trained.job}")
    gone = client.get(f"/v1/checkpoints/{trained.checkpoint}/download")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "artifact_missing")

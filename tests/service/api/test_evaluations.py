"""Evaluations over HTTP: what may be asked, what is written out, and how the result is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.queue import Publisher, evaluations_channel
from service.records import datasets, evaluations
from service.records.database import Database
from service.records.tables import Job
from service.settings import Settings
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ALL = ["fid", "kid", "inception_score", "precision_recall", "class_histogram", "mode_coverage"]
DETAILS = {"samples": 1000, "extractor": "classifier", "seed": 0}


@pytest.fixture
def measuring(database: Database, settings: Settings) -> Callable[[], Any]:
    """A block in which queued evaluations are measured, as the preparing worker records them."""

    @contextmanager
    def hand() -> Iterator[None]:
        stop, publisher = threading.Event(), Publisher(settings.redis_url)

        def measure() -> None:
            while not stop.wait(0.02):
                with database.transaction() as session:
                    row = evaluations.claim_next(session, "test")
                    if row is not None:
                        found: dict[str, Any] = {"scores": {"fid": 2.5}, "details": DETAILS}
                        evaluations.finish(session, row.id, row.attempt, **found)
                if row is not None:
                    publisher.announce(evaluations_channel(row.id))

        thread = threading.Thread(target=measure)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            publisher.close()

    return hand


def test_an_evaluation_is_accepted_measured_and_listed(
    client: TestClient, trained: Trained, measuring: Callable[[], Any]
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/evaluations"
    accepted = client.post(url, json={})
    assert accepted.status_code == 202
    asked = accepted.json()
    assert asked.items() >= {"object": "evaluation", "status": "queued", "result": None}.items()
    assert asked["request"] == {
        "scores": ALL,
        "samples": 1000,
        "extractor": "classifier",
        "sampler": None,
        "seed": 0,
    }
    assert client.get(accepted.headers["location"]).json() == asked
    with measuring():
        waited = client.post(url, json={"samples": 64}, headers={"Prefer": "wait=20"})
    assert (waited.status_code, waited.headers["preference-applied"]) == (200, "wait=20")
    assert waited.json()["status"] == "succeeded"
    assert waited.json()["result"] == {"scores": {"fid": 2.5}, "details": DETAILS}
    listed = client.get(url).json()["data"]
    assert [one["id"] for one in listed] == [waited.json()["id"], asked["id"]]
    assert client.get(url, params={"after": listed[0]["id"]}).json()["data"] == listed[1:]
    checkpoint = client.get(f"/v1/checkpoints/{trained.checkpoint}").json()
    assert (checkpoint["scores"], checkpoint["score_details"]) == ({"fid": 2.5}, DETAILS)


@SQLITE
@pytest.mark.parametrize(
    ("spec", "asked", "expected"),
    [
        ({"evaluation": {"samples": 300, "seed": 5}}, {}, {"samples": 300, "seed": 5, "scores": ALL}),
        ({"evaluation": {"scores": ["kid"]}}, {"seed": 9}, {"scores": ["kid"], "seed": 9}),
        ({"evaluation": {"scores": ["kid"]}}, {"scores": ["fid"]}, {"scores": ["fid"]}),
        ({"evaluation": None}, {}, {"scores": ALL, "samples": 1000, "extractor": "classifier"}),
        ({}, {"extractor": "inception", "samples": 2048}, {"extractor": "inception", "scores": ALL[:4]}),
        ({"preset": "ddpm"}, {}, {"sampler": {"kind": "ddim", "steps": 10, "eta": 0, "guidance_scale": 1}}),
        (
            {"preset": "ddpm"},
            {"sampler": {"kind": "ddpm", "steps": 20}},
            {"sampler": {"kind": "ddpm", "steps": 20, "eta": 0, "guidance_scale": 1}},
        ),
    ],
    ids=str,
)
def test_what_is_left_out_is_as_the_job_measures(
    client: TestClient,
    train: Callable[..., Trained],
    spec: dict[str, Any],
    asked: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    url = f"/v1/checkpoints/{train(**spec).checkpoint}/evaluations"
    accepted = client.post(url, json=asked)
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["request"].items() >= expected.items()


@SQLITE
@pytest.mark.parametrize(
    ("spec", "asked", "path"),
    [
        ({}, {"samples": 63}, "samples"),
        ({}, {"samples": "100"}, "samples"),
        ({}, {"samples": 0}, "samples"),
        ({}, {"extractor": "inception"}, "samples"),
        ({}, {"extractor": "inception", "scores": ["mode_coverage"]}, "scores.0"),
        ({}, {"scores": []}, "scores"),
        ({}, {"scores": ["beauty"]}, "scores.0"),
        ({}, {"sampler": {"kind": "ddim"}}, "sampler"),
        ({}, {"every_steps": 5}, "every_steps"),
        ({"preset": "ddpm"}, {"sampler": {"steps": 1001}}, "sampler.steps"),
        ({"preset": "ddpm"}, {"sampler": {"kind": "euler"}}, "sampler.kind"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused_at_once(
    client: TestClient,
    train: Callable[..., Trained],
    database: Database,
    spec: dict[str, Any],
    asked: dict[str, Any],
    path: str,
) -> None:
    """By the rules of a job's own evaluation, with the path in this request."""
    refused = client.post(f"/v1/checkpoints/{train(**spec).checkpoint}/evaluations", json=asked)
    assert refused.status_code == 422
    assert [error["path"] for error in refused.json()["errors"]] == [path]
    with database.transaction() as session:
        assert evaluations.claim_next(session, "test") is None


@SQLITE
def test_an_unlabelled_set_needs_inception(client: TestClient, trained: Trained, database: Database) -> None:
    with database.transaction() as session:
        row = datasets.create(session, "faces", resolution=16)
        datasets.claim(session, row.id, "test")
        facts: dict[str, Any] = {"count": 900, "classes": {}, "channels": 1, "resolution": 16}
        datasets.ready(session, row.id, 1, **facts, mean=[0.5], std=[0.2], content_hash="00")
        spec = {**session.get_one(Job, trained.job).spec, "dataset": row.id, "evaluation": None}
        session.execute(update(Job).values(spec=spec, dataset=row.id))
    url = f"/v1/checkpoints/{trained.checkpoint}/evaluations"
    refused = client.post(url, json={})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "extractor")
    assert client.post(url, json={"extractor": "inception", "samples": 2048}).status_code == 202


@SQLITE
def test_without_its_dataset_or_its_spec_nothing_is_measured(
    client: TestClient, trained: Trained, database: Database
) -> None:
    url = f"/v1/checkpoints/{trained.checkpoint}/evaluations"

    def refusal(**changed: Any) -> tuple[int, str]:
        with database.transaction() as session:
            session.execute(update(Job).values(**changed))
        refused = client.post(url, json={})
        return refused.status_code, refused.json()["error"]["code"]

    assert refusal(dataset="ds_gone") == (409, "dataset_missing")
    assert refusal(dataset="digits", spec={"family": "gan", "of_old": 1}) == (409, "spec_of_another_version")


@SQLITE
@pytest.mark.parametrize("path", ["/v1/evaluations/eval_x", "/v1/checkpoints/ckpt_x/evaluations"])
def test_what_is_not_there_is_a_404(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404

"""Evaluations on request: the training's own numbers again, and a reason where there are none."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from models.spec.evaluation import ScoreKind
from service.records import checkpoints, evaluations, events, jobs
from service.records.events import EventType
from service.records.merit import merit
from service.records.status import JobStatus, RequestStatus
from service.records.tables import Evaluation
from tests.worker.trainers import supervise
from worker import evaluating, renewal
from worker.evaluating import evaluate
from worker.renewal import Renewal
from worker.resources import Resources

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OWN: dict[str, Any] = {
    "scores": [str(kind) for kind in ScoreKind],
    "samples": 64,
    "extractor": "classifier",
    "sampler": None,
    "seed": 3,
}
Ask = Callable[..., Evaluation]


@pytest.fixture
def ask(resources: Resources) -> Ask:
    """Asks for an evaluation as the API does, and has it measured in this process; the row as it ended."""

    def measured(checkpoint_id: str, **changed: Any) -> Evaluation:
        with resources.database.transaction() as session:
            evaluation_id = evaluations.create(session, checkpoint_id, {**OWN, **changed}).id
        evaluate(resources)
        with resources.database.read() as session:
            return evaluations.get(session, evaluation_id)

    return measured


@pytest.mark.slow
@SQLITE
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_it_measures_what_the_training_itself_has_measured(
    resources: Resources, create_job: Callable[..., str], ask: Ask, memory_format: str
) -> None:
    """Breaks when the two take another path: other images, another reference, another classifier."""
    own = {"evaluation": {**OWN, "every_steps": 4}, "memory_format": memory_format}
    trained = [create_job(**own), create_job(**own, seed=2)]
    for job_id in trained:
        supervise(job_id, resources, threading.Event())
    with resources.database.read() as session:
        ended = [jobs.get(session, job_id) for job_id in trained]
        assert [job.status for job in ended] == [JobStatus.SUCCEEDED] * 2, [job.error for job in ended]
        stored = checkpoints.page(session, job_id=trained[0]).items[0]
        told = [len(events.page(session, job_id, types=[EventType.CLASSIFIER]).items) for job_id in trained]
    assert told == [1, 0], "the second job has trained a classifier of its own"
    assert all(merit(stored.scores, kind) is not None for kind in ScoreKind), stored.scores
    again, other = ask(stored.id), ask(stored.id, seed=4)
    assert again.result == {"scores": stored.scores, "details": stored.score_details}
    assert other.result is not None
    assert other.result["scores"]["fid"] != stored.scores["fid"]
    with resources.database.read() as session:
        kept = checkpoints.get(session, stored.id)
    assert (kept.scores, kept.score_details, kept.merit) == (
        stored.scores,
        stored.score_details,
        -stored.scores["fid"],
    )


@pytest.mark.slow
@SQLITE
def test_a_checkpoint_that_was_never_scored_is_scored_by_a_classifier_that_is_trained_for_it(
    resources: Resources, create_checkpoint: Callable[..., str], ask: Ask
) -> None:
    checkpoint = create_checkpoint()
    row = ask(checkpoint)
    assert (row.status, row.error) == (RequestStatus.SUCCEEDED, None)
    assert row.result is not None
    assert row.result["details"]["samples"] == 64
    assert len(list(resources.artifacts.local_folder("classifiers").iterdir())) == 1
    with resources.database.read() as session:
        assert checkpoints.get(session, checkpoint).scores == row.result["scores"]


@SQLITE
def test_what_cannot_be_measured_fails_with_the_reason_and_the_next_is_measured(
    resources: Resources, create_checkpoint: Callable[..., str], ask: Ask
) -> None:
    lost, damaged = create_checkpoint(), create_checkpoint()
    with resources.database.read() as session:
        keys = [checkpoints.get(session, checkpoint).artifact for checkpoint in (lost, damaged)]
    resources.artifacts.delete(keys[0])
    resources.artifacts.put_bytes(b"no weights", keys[1])
    errors = [ask(checkpoint).error or {} for checkpoint in (lost, damaged)]
    assert errors[0]["code"] == "artifact_missing"
    assert errors[1]["code"] == "checkpoint_damaged"
    resources.artifacts.delete("datasets/digits")
    assert (ask(create_checkpoint()).error or {})["code"] == "dataset_missing"


@SQLITE
def test_a_lease_is_kept_for_as_long_as_it_takes(
    resources: Resources,
    create_checkpoint: Callable[..., str],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when an evaluation of minutes is taken for one whose worker has vanished."""
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.02)
    with resources.database.transaction() as session:
        evaluation_id = evaluations.create(session, create_checkpoint(), OWN).id
    with resources.database.transaction() as session:
        row = evaluations.claim_next(session, "test")
        assert row is not None
        before = evaluations.get(session, evaluation_id).lease_expires_at
    claim = evaluating.Claim(evaluation_id, row.attempt, "", "", "digits", OWN)

    def renew() -> bool:
        return evaluating.renew(resources.database, claim)

    def renewed() -> bool:
        with resources.database.read() as session:
            return evaluations.get(session, evaluation_id).lease_expires_at != before

    with Renewal("this evaluation", renew):
        wait_until(renewed, "a renewed lease")


@SQLITE
def test_an_evaluation_of_a_checkpoint_that_was_deleted_fails_and_holds_nobody_up(
    resources: Resources, create_checkpoint: Callable[..., str]
) -> None:
    """Breaks when what cannot be measured is claimed again and again, before all that follow it."""
    gone = create_checkpoint()
    with resources.database.transaction() as session:
        asked = [evaluations.create(session, gone, OWN).id for _ in range(2)]
        checkpoints.get(session, gone).deleted_at = datetime.now(UTC)
    evaluate(resources)
    with resources.database.read() as session:
        errors = [evaluations.get(session, evaluation_id).error or {} for evaluation_id in asked]
    assert [error.get("code") for error in errors] == ["checkpoint_deleted"] * 2


def test_a_ring_that_finds_nothing_does_nothing(resources: Resources) -> None:
    """A message that comes twice costs a look."""
    evaluate(resources)

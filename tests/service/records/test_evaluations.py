"""Evaluations on request, and which of their scores a checkpoint takes."""

from typing import Any

import pytest

from service.errors import NotFound
from service.records import checkpoints, evaluations
from service.records.database import Database
from service.records.status import RequestStatus

OWN = {"samples": 100, "extractor": "classifier", "sampler": None, "seed": 0}
DETAILS = {"samples": 100, "extractor": "classifier", "seed": 0}


@pytest.fixture
def measured(database: Database):
    """Asks for an evaluation and ends it with scores, as a worker does; the row as it ended."""

    def measure(checkpoint_id: str, request: dict[str, Any], scores: dict[str, float], details: dict):
        with database.transaction() as session:
            asked = evaluations.create(session, checkpoint_id, request)
        with database.transaction() as session:
            claimed = evaluations.claim_next(session, "w1")
            assert claimed is not None
            assert claimed.id == asked.id
        with database.transaction() as session:
            assert not evaluations.finish(session, asked.id, 7, scores={}, details={})
            assert evaluations.finish(session, asked.id, 1, scores=scores, details=details)
        with database.read() as session:
            return evaluations.get(session, asked.id)

    return measure


def test_an_evaluation_is_queued_claimed_and_finished(database: Database, new_checkpoint, measured) -> None:
    checkpoint = new_checkpoint()
    row = measured(checkpoint.id, OWN, {"fid": 3.0}, {**DETAILS, "class_histogram": {"0": 0.5}})
    assert row.id.startswith("eval_")
    assert (row.status, row.error) == (RequestStatus.SUCCEEDED, None)
    assert row.result == {
        "scores": {"fid": 3.0},
        "details": {**DETAILS, "class_histogram": {"0": 0.5}},
    }
    with database.read() as session:
        assert [one.id for one in evaluations.page(session, checkpoint.id).items] == [row.id]
        assert checkpoints.get(session, checkpoint.id).scores == {"fid": 3.0}


def test_scores_of_other_settings_stay_apart(
    database: Database, new_running, new_checkpoint, measured
) -> None:
    """Breaks when numbers of different sample sizes are mixed in one checkpoint, or rank a job's."""
    job = new_running(evaluation={**OWN, "best_by": "fid"})
    scored = new_checkpoint(job, step=10, scores={"fid": 5.0}, details=DETAILS)
    empty = new_checkpoint(job, step=20)
    more = {**OWN, "samples": 200}
    for checkpoint in (scored, empty):
        measured(checkpoint.id, more, {"fid": 1.0}, {**DETAILS, "samples": 200})
    with database.read() as session:
        assert checkpoints.get(session, scored.id).scores == {"fid": 5.0}
        filled = checkpoints.get(session, empty.id)
        assert (filled.scores, filled.score_details) == ({"fid": 1.0}, {**DETAILS, "samples": 200})
        assert checkpoints.flags(session, [job.id])[job.id].best == scored.id


def test_the_jobs_own_settings_are_taken_and_rank(
    database: Database, new_running, new_checkpoint, measured
) -> None:
    job = new_running(evaluation={**OWN, "best_by": "fid"})
    scored = new_checkpoint(job, step=10, scores={"fid": 5.0}, details=DETAILS)
    other = new_checkpoint(job, step=20, scores={"fid": 9.0}, details={**DETAILS, "samples": 7})
    measured(scored.id, OWN, {"kid": 0.5}, {**DETAILS, "class_histogram": {"0": 1.0}})
    measured(other.id, OWN, {"fid": 1.0}, DETAILS)
    with database.read() as session:
        added = checkpoints.get(session, scored.id)
        assert added.scores == {"fid": 5.0, "kid": 0.5}
        assert added.score_details == {**DETAILS, "class_histogram": {"0": 1.0}}
        assert checkpoints.get(session, other.id).scores == {"fid": 1.0}
        assert checkpoints.flags(session, [job.id])[job.id].best == other.id


@pytest.mark.parametrize("evaluation_id", ["eval_01h455vb4pex5vsknk084sn02q", "a\x00b", ""])
def test_an_unknown_evaluation_is_not_found(database: Database, evaluation_id: str) -> None:
    with database.read() as session, pytest.raises(NotFound):
        evaluations.get(session, evaluation_id)

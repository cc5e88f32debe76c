"""What a trainer's events become: rows, artifacts, and scores that find their checkpoint."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint_folders
from models.durable import SavedFile
from service.artifacts import Artifacts
from service.errors import Unavailable
from service.records import checkpoints, events, leases, metrics
from service.records.events import EventType
from worker.process import Event
from worker.recorder import Assignment, Recorder
from worker.resources import Resources

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SCORES = {"evaluation/output_real": 0.5, "score/fid": 12.5, "score/recall": 0.25}
DETAILS = {"samples": 64, "extractor": "classifier"}


@pytest.fixture
def new_recorder(
    resources: Resources, create_job: Callable[..., str], tmp_path: Path
) -> Callable[..., Recorder]:
    """Of the first attempt at a new job."""

    def make(artifacts: Artifacts = resources.artifacts, **changed: Any) -> Recorder:
        job_id = create_job()
        with resources.database.transaction() as session:
            job = leases.claim(session, job_id, "test")
        assert job is not None
        assignment = Assignment(job.id, job.attempt, job.spec, job.dataset)
        return Recorder(artifacts, assignment, tmp_path, **changed)

    return make


@pytest.fixture
def recorder(new_recorder: Callable[..., Recorder]) -> Recorder:
    return new_recorder()


def written(resources: Resources, recorder: Recorder, *told: Event) -> str:
    """Record the events in one batch; the id of the job."""
    for event in told:
        recorder.add(event)
    with resources.database.transaction() as session:
        assert recorder.write(session)
    recorder.clear()
    return recorder._assignment.job_id


def saved(folder: Path, step: int) -> dict[str, Any]:
    place = folder / f"{step}"
    place.mkdir()
    weights = SavedFile(place / "weights", hashlib.sha256(b"weights").hexdigest(), 7)
    weights.path.write_bytes(b"weights")
    checkpoint_folders.commit(place, [weights])
    size = {"sha256": weights.sha256, "size_bytes": weights.size_bytes}
    place = {"path": f"{step}/weights", "state_bytes": 9, "interim": False}
    return {"type": "saved", "step": step, "images": step * 8, **place, **size}


def evaluated(step: int) -> dict[str, Any]:
    found = {"scores": SCORES, "samples": 9, "details": DETAILS}
    return {"type": "evaluated", "step": step, "images": step * 8, **found}


@pytest.mark.parametrize("order", ["before", "after", "later"])
def test_scores_belong_to_the_checkpoint_of_their_step_in_any_order(
    resources: Resources, recorder: Recorder, tmp_path: Path, order: str
) -> None:
    """Breaks when an evaluation that is told before its checkpoint, or in another batch, is lost."""
    both = [saved(tmp_path, 4), evaluated(4)]
    if order == "before":
        job_id = written(resources, recorder, *reversed(both))
    elif order == "after":
        job_id = written(resources, recorder, *both)
    else:
        job_id = written(resources, recorder, both[0])
        written(resources, recorder, both[1])
    with resources.database.read() as session:
        (stored,) = checkpoints.page(session, job_id=job_id).items
        curves = metrics.series(session, job_id)
        (event,) = events.page(session, job_id, types=[EventType.EVALUATION]).items
    assert stored.scores == {"fid": 12.5, "recall": 0.25}
    assert stored.score_details == DETAILS
    assert {key: curve["value"] for key, curve in curves.items()} == {key: [v] for key, v in SCORES.items()}
    assert (event.data["scores"], event.data["details"]) == (SCORES, DETAILS)


def test_an_evaluation_without_scores_leaves_its_checkpoint_unscored(
    resources: Resources, recorder: Recorder, tmp_path: Path
) -> None:
    unscored = {**evaluated(4), "scores": {"evaluation/output_real": 0.5}, "details": {}}
    job_id = written(resources, recorder, saved(tmp_path, 4), unscored)
    with resources.database.read() as session:
        (stored,) = checkpoints.page(session, job_id=job_id).items
    assert (stored.scores, stored.score_details) == ({}, None)


def test_a_classifier_is_stored_once_and_told(
    resources: Resources, recorder: Recorder, tmp_path: Path
) -> None:
    """Breaks when a second run replaces it: scores by two classifiers cannot be compared."""
    name = "classifier-abc-v1.safetensors"
    told = {"type": "classifier_trained", "path": name, "key": name, "sha256": "00", "images": 899}
    for weights in (b"first", b"second"):
        (tmp_path / name).write_bytes(weights)
        job_id = written(resources, recorder, {**told, "accuracy": 0.987})
        assert (tmp_path / name).read_bytes() == weights, "the trainer that wrote it has yet to read it"
    assert resources.artifacts.read(f"classifiers/{name}") == b"first"
    with resources.database.read() as session:
        *_, event = events.page(session, job_id, types=[EventType.CLASSIFIER]).items
    assert "98.7% of 899 images" in event.message
    assert (event.level, event.data["accuracy"]) == ("info", 0.987)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_checkpoint_waits_for_a_store_that_is_away_for_as_long_as_it_is_wanted(
    resources: Resources, new_recorder: Callable[..., Recorder], tmp_path: Path, wanted: bool
) -> None:
    """Breaks when a store's outage fails a job of days, or keeps a worker from a job that was cancelled."""

    class Away(Artifacts):
        outages = 2

        def put_file(self, local: Path, key: str) -> None:
            if self.outages:
                self.outages -= 1
                raise Unavailable("artifacts_unavailable", "away")
            super().put_file(local, key)

    recorder = new_recorder(artifacts=Away(resources.settings.artifacts_url), wanted=lambda: wanted)
    if not wanted:
        with pytest.raises(Unavailable):
            recorder.add(saved(tmp_path, 4))
        return
    job_id = written(resources, recorder, saved(tmp_path, 4))
    with resources.database.read() as session:
        (stored,) = checkpoints.page(session, job_id=job_id).items
    assert resources.artifacts.read(stored.artifact) == b"weights"

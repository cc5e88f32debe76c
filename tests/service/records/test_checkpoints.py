"""Checkpoints and samples are recorded with their event, and the best and the last are told."""

import pytest

from models.spec.evaluation import ScoreKind
from service.errors import NotFound
from service.records import checkpoints, events, samples
from service.records.database import Database
from service.records.merit import merit

Scores = dict[str, float]


def test_a_checkpoint_is_recorded_with_its_event(database: Database, new_running, new_checkpoint) -> None:
    job = new_running()
    made = new_checkpoint(job, step=10, size_bytes=2**40, sha256="ab" * 32)
    with database.read() as session:
        read = checkpoints.get(session, made.id)
        event = events.page(session, job.id).items[0]
    assert read.id.startswith("ckpt_")
    assert (read.job_id, read.step, read.images, read.size_bytes) == (job.id, 10, 80, 2**40)
    assert (read.sha256, read.scores, read.pinned) == ("ab" * 32, {}, False)
    assert (event.type, event.step, event.data["checkpoint_id"]) == ("checkpoint.saved", 10, made.id)


def test_a_step_that_is_saved_again_keeps_its_id(database: Database, new_running, new_checkpoint) -> None:
    """A client that has the id of a checkpoint must find it after the job has started again."""
    job = new_running()
    first = new_checkpoint(job, sha256="a" * 64)
    again = new_checkpoint(job, sha256="b" * 64)
    assert again.id == first.id
    with database.read() as session:
        assert checkpoints.get(session, first.id).sha256 == "b" * 64
        assert len(checkpoints.page(session, job_id=job.id).items) == 1


def test_without_scores_the_best_is_the_last(database: Database, new_running, new_checkpoint) -> None:
    job = new_running()
    made = [new_checkpoint(job, step=step) for step in (10, 30, 20)]
    with database.read() as session:
        assert checkpoints.flags(session, [job.id]) == {job.id: (made[1].id, made[1].id)}


@pytest.mark.parametrize(
    ("best_by", "worse", "better"),
    [
        ("fid", {"fid": 100.0}, {"fid": 9.5}),
        ("kid", {"kid": 0.1}, {"kid": -0.001}),
        ("inception_score", {"inception_score": 2.0}, {"inception_score": 10.0}),
        ("precision_recall", {"precision": 1.0, "recall": 0.2}, {"precision": 0.6, "recall": 0.6}),
        ("precision_recall", {"precision": 0.0, "recall": 0.0}, {"precision": 0.1, "recall": 0.1}),
        ("class_histogram", {"class_kl": 0.5}, {"class_kl": 0.0}),
        ("mode_coverage", {"modes": 4.0}, {"modes": 10.0}),
    ],
)
def test_the_best_is_by_the_score_that_the_spec_names(
    database: Database, new_running, new_checkpoint, best_by: str, worse: Scores, better: Scores
) -> None:
    """Breaks when a score is ranked upside down; a tie goes to the later, and no number is no score."""
    job = new_running(evaluation={"best_by": best_by})
    other = {"fid": 1.0, "kid": 1.0, "inception_score": 1.0, "precision": 1.0, "recall": 1.0}
    lost = dict.fromkeys(better, float("nan"))
    scores = {10: other | better, 20: other | worse, 30: other | better, 40: other | lost, 50: None}
    made = {step: new_checkpoint(job, step=step, scores=found) for step, found in scores.items()}
    with database.read() as session:
        assert checkpoints.flags(session, [job.id]) == {job.id: (made[30].id, made[50].id)}


def test_every_score_can_name_the_best() -> None:
    """Breaks when a new score is a best_by that ranks nothing."""
    everything = dict.fromkeys((*ScoreKind, "precision", "recall", "class_kl", "modes"), 0.5)
    assert all(merit(everything, kind) is not None for kind in ScoreKind)
    assert merit(everything, None) is None


def test_an_evaluation_may_come_before_or_after_its_checkpoint(
    database: Database, new_running, new_checkpoint
) -> None:
    job = new_running(evaluation={"best_by": "fid"})
    scored = new_checkpoint(job, step=10, scores={"fid": 1.0}, details={"samples": 100})
    later = new_checkpoint(job, step=20)
    with database.transaction() as session:
        values = {"scores": {"fid": 2.0}, "details": {"samples": 100}}
        assert checkpoints.set_scores(session, job.id, attempt=1, step=20, **values)
        assert not checkpoints.set_scores(session, job.id, attempt=1, step=30, **values)
        assert not checkpoints.set_scores(session, job.id, attempt=2, step=20, **values)
    with database.read() as session:
        rows = [checkpoints.get(session, one.id) for one in (scored, later)]
        assert checkpoints.flags(session, [job.id]) == {job.id: (scored.id, later.id)}
    assert [(row.scores, row.score_details) for row in rows] == [
        ({"fid": 1.0}, {"samples": 100}),
        ({"fid": 2.0}, {"samples": 100}),
    ]


def test_a_step_that_is_trained_again_loses_its_old_scores(
    database: Database, new_running, new_checkpoint
) -> None:
    """They were those of other weights."""
    job = new_running(evaluation={"best_by": "fid"})
    new_checkpoint(job, scores={"fid": 1.0}, details={"samples": 100})
    again = new_checkpoint(job, sha256="b" * 64)
    assert (again.scores, again.score_details, again.merit) == ({}, None, None)


def test_flags_of_many_jobs_come_at_once(database: Database, new_running, new_checkpoint) -> None:
    jobs = [new_running() for _ in range(3)]
    made = [new_checkpoint(job) for job in jobs[:2]]
    with database.read() as session:
        flags = checkpoints.flags(session, [job.id for job in jobs])
        assert checkpoints.flags(session, []) == {}
    assert flags == {job.id: (one.id, one.id) for job, one in zip(jobs, made, strict=False)}


def test_lists_are_newest_first_over_all_jobs_or_of_one(
    database: Database, new_running, new_checkpoint
) -> None:
    job, other = new_running(), new_running()
    made = [new_checkpoint(job, step=10), new_checkpoint(other, step=10), new_checkpoint(job, step=20)]
    with database.read() as session:
        everything = checkpoints.page(session, 2)
        assert [one.id for one in everything.items] == [made[2].id, made[1].id]
        assert everything.has_more
        assert [one.id for one in checkpoints.page(session, 2, made[1].id).items] == [made[0].id]
        assert [one.id for one in checkpoints.page(session, job_id=job.id).items] == [made[2].id, made[0].id]


@pytest.mark.parametrize("checkpoint_id", ["ckpt_01h455vb4pex5vsknk084sn02q", "a\x00b", "../x", ""])
def test_an_unknown_checkpoint_is_not_found(database: Database, checkpoint_id: str) -> None:
    with database.read() as session, pytest.raises(NotFound):
        checkpoints.get(session, checkpoint_id)


def test_samples_are_listed_newest_first_from_a_step_on(database: Database, new_running) -> None:
    job = new_running()
    with database.transaction() as session:
        for step in (10, 20, 30, 30):
            assert samples.add(
                session, job.id, attempt=1, step=step, images=step * 8, artifact=f"s/{step}.png"
            )
    with database.read() as session:
        assert [sample.step for sample in samples.list(session, job.id)] == [30, 20, 10]
        assert [sample.step for sample in samples.list(session, job.id, limit=1, after=30)] == [20]
        assert samples.get(session, job.id, 20).artifact == "s/20.png"


@pytest.mark.parametrize("step", [11, -1, 2**80])
def test_a_step_without_samples_is_not_found(database: Database, new_running, step: int) -> None:
    job = new_running()
    with database.read() as session, pytest.raises(NotFound):
        samples.get(session, job.id, step)

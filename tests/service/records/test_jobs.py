"""Jobs are created, found, listed and cancelled as the API promises."""

import pytest

from service.errors import Conflict, Invalid, NotFound
from service.records import events, jobs
from service.records.database import Database
from service.records.status import TERMINAL, JobStatus


def test_a_new_job_is_queued_with_its_spec_and_an_event(database: Database, types_of, new_job) -> None:
    job = new_job(metadata={"team": "vision"}, warnings=["slow"])
    with database.read() as session:
        read = jobs.get(session, job.id)
        alert = events.page(session, job.id).items[0]
    assert (read.status, read.attempt, read.step, read.total_steps) == (JobStatus.QUEUED, 0, 0, 100)
    assert (read.name, read.preset, read.dataset, read.seed) == ("fashion", "dcgan", "digits", 7)
    assert read.metadata_ == {"team": "vision"}
    assert read.warnings == ["slow"]
    assert read.error is None
    assert read.id.startswith("job_")
    assert types_of(job.id) == ["job.queued", "alert"]
    assert (alert.level, alert.message) == ("warning", "slow")


def test_a_job_without_a_name_is_called_by_its_preset_or_family(new_job) -> None:
    assert new_job(name=None).name == "dcgan"
    assert new_job(name=None, preset=None).name == "gan"


@pytest.mark.parametrize(
    "job_id", ["job_01h455vb4pex5vsknk084sn02q", "nonsense", "", "a\x00b", "x" * 100, "' OR 1"]
)
def test_an_unknown_id_is_not_found_however_malformed(database: Database, job_id: str) -> None:
    with database.read() as session, pytest.raises(NotFound):
        jobs.get(session, job_id)


def test_lists_are_newest_first_and_pages_meet_without_gap_or_overlap(database: Database, new_job) -> None:
    made = [new_job().id for _ in range(5)]
    seen: list[str] = []
    after = None
    with database.read() as session:
        while True:
            page = jobs.page(session, 2, after)
            seen += [job.id for job in page.items]
            if not page.has_more:
                break
            after = page.items[-1].id
    assert seen == made[::-1]


def test_a_page_that_is_exactly_full_has_no_more(database: Database, new_job) -> None:
    for _ in range(2):
        new_job()
    with database.read() as session:
        assert not jobs.page(session, 2).has_more
        assert jobs.page(session, 1).has_more


def test_a_cursor_that_is_no_id_is_refused(database: Database) -> None:
    with database.read() as session, pytest.raises(Invalid, match="after"):
        jobs.page(session, 2, "a\x00b")


def test_filters_hold_together(database: Database, new_job, new_running) -> None:
    plain = new_job(metadata={"team": "vision", "größe": 'a "quoted" 100% value'})
    other = new_job(dataset="fashion-mnist", preset="ddpm", metadata={"team": "audio"})
    running = new_running(metadata={"team": "vision"})
    with database.read() as session:

        def found(**filters: object) -> set[str]:
            return {job.id for job in jobs.page(session, 10, **filters).items}  # type: ignore[arg-type] # any filter

        assert found(status=JobStatus.RUNNING) == {running.id}
        assert found(status=[JobStatus.RUNNING, JobStatus.QUEUED]) == {plain.id, other.id, running.id}
        assert found(dataset="fashion-mnist") == {other.id}
        assert found(preset="dcgan") == {plain.id, running.id}
        assert found(metadata={"team": "vision"}) == {plain.id, running.id}
        assert found(metadata={"team": "vision"}, status=JobStatus.QUEUED) == {plain.id}
        assert found(metadata={"größe": 'a "quoted" 100% value'}) == {plain.id}
        assert found(metadata={"missing": "x"}) == set()
        assert found(metadata={"team": "' OR '1'='1"}) == set()
        assert found(metadata={"team": "a\x00b"}, dataset="\x00", preset="\ud800") == set()


@pytest.mark.parametrize("key", ['a"b', "a\\b", "a\x00b"])
def test_a_metadata_key_that_cannot_be_searched_for_is_refused(database: Database, key: str) -> None:
    with database.read() as session, pytest.raises(Invalid):
        jobs.page(session, metadata={key: "x"})


def test_a_queued_job_is_cancelled_at_once_and_never_claimed(database: Database, types_of, new_job) -> None:
    job = new_job()
    with database.transaction() as session:
        cancelled = jobs.request_cancel(session, job.id)
    assert cancelled.status == JobStatus.CANCELLED
    assert cancelled.finished_at is not None
    assert types_of(job.id) == ["job.queued", "job.cancelled"]
    with database.transaction() as session:
        assert jobs.claim(session, job.id, "w1") is None


def test_a_running_job_is_asked_to_stop_and_asking_again_changes_nothing(
    database: Database, types_of, new_running
) -> None:
    job = new_running()
    with database.transaction() as session:
        first = jobs.request_cancel(session, job.id).cancel_requested_at
    with database.transaction() as session:
        again = jobs.request_cancel(session, job.id)
    assert again.status == JobStatus.CANCELLING
    assert again.cancel_requested_at == first is not None
    assert "job.cancelled" not in types_of(job.id)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_job_that_is_over_cannot_be_cancelled(
    database: Database, types_of, new_running, status: JobStatus
) -> None:
    job = new_running()
    with database.transaction() as session:
        if status == JobStatus.CANCELLED:
            jobs.request_cancel(session, job.id)
        jobs.finish(session, job.id, job.attempt, status)
    before = types_of(job.id)
    with pytest.raises(Conflict, match=status.value), database.transaction() as session:
        jobs.request_cancel(session, job.id)
    assert types_of(job.id) == before


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("queued", "The job was cancelled before it had started."),
        ("paused", "The job was cancelled while it waited."),
        ("requeued", "The job was cancelled while it waited."),
    ],
)
def test_a_cancel_says_whether_the_job_had_ever_run(
    database: Database, new_job, before: str, told: str
) -> None:
    """Breaks when the history of a job that trained for hours ends with that it had never started."""
    job = new_job()
    with database.transaction() as session:
        if before != "queued":
            claimed = jobs.claim(session, job.id, "w1")
            assert claimed is not None
        if before == "paused":
            jobs.request_pause(session, job.id)
            assert jobs.finish(session, job.id, claimed.attempt, JobStatus.PAUSED)
        if before == "requeued":
            assert jobs.release(session, job.id, claimed.attempt)
    with database.transaction() as session:
        assert jobs.request_cancel(session, job.id).status == JobStatus.CANCELLED
        newest = events.page(session, job.id).items[0]
    assert (newest.type, newest.message) == ("job.cancelled", told)

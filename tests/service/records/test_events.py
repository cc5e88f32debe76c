"""Events are of known types, listed newest first, and can be narrowed."""

import pytest

from service.errors import NotFound
from service.records import events
from service.records.database import Database
from service.records.events import EventType

DESIGNED = {
    "job.queued",
    "job.started",
    "job.resumed",
    "job.requeued",
    "job.paused",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "checkpoint.saved",
    "sample.saved",
    "classifier.trained",
    "evaluation.done",
    "alert",
}


def test_the_types_are_those_that_clients_rely_on() -> None:
    assert set(EventType) == DESIGNED


def test_an_event_carries_what_it_was_given(database: Database, new_running) -> None:
    job = new_running()
    with database.transaction() as session:
        made = events.add(
            session, job.id, "alert", "The loss is NaN.", level="error", step=5, data={"loss": float("nan")}
        )
    with database.read() as session:
        read = events.get(session, job.id, made.id)
    assert read.id.startswith("event_")
    assert (read.type, read.level, read.message, read.step) == ("alert", "error", "The loss is NaN.", 5)
    assert read.data == {"loss": None}


def test_an_unknown_type_is_refused(database: Database, new_job) -> None:
    with pytest.raises(ValueError, match=r"job\.exploded"), database.transaction() as session:
        events.add(session, new_job().id, "job.exploded", "It has.")


def test_lists_are_newest_first_and_can_be_narrowed(database: Database, new_running) -> None:
    job, other = new_running(), new_running()
    with database.transaction() as session:
        warned = events.add(session, job.id, EventType.ALERT, "one", level="warning")
        failed = events.add(session, job.id, EventType.ALERT, "two", level="error")
    with database.read() as session:
        page = events.page(session, job.id, 3)
        assert [event.type for event in page.items] == ["alert", "alert", "job.started"]
        assert page.has_more
        assert [event.id for event in events.page(session, job.id, levels=["error"]).items] == [failed.id]
        assert events.page(session, job.id, after=failed.id).items[0].id == warned.id
        assert len(events.page(session, job.id, types=[EventType.QUEUED]).items) == 1
        with pytest.raises(NotFound):
            events.get(session, other.id, failed.id)

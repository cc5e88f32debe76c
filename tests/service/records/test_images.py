"""Batches of images are made in order, once each, by one worker at a time."""

import threading
import time

import pytest

from service.errors import Conflict, NotFound
from service.records import images, unwanted
from service.records.database import Database
from service.records.requests import LEASE_SECONDS, MAX_ATTEMPTS, Asked
from service.records.status import RequestStatus
from service.records.tables import ImageBatch


@pytest.fixture
def new_batch(database: Database, new_checkpoint):
    checkpoint = new_checkpoint()

    def make() -> ImageBatch:
        with database.transaction() as session:
            return images.create(session, checkpoint.id, {"n": 4, "seeds": [1, 2, 3, 4]})

    return make


def test_a_batch_is_queued_claimed_and_finished(database: Database, new_batch) -> None:
    batch = new_batch()
    assert batch.id.startswith("img_")
    assert (batch.status, batch.request["n"], batch.result) == (RequestStatus.QUEUED, 4, None)
    with database.transaction() as session:
        claimed = images.claim_next(session, "w1")
        assert claimed == (batch.id, 1, batch.checkpoint_id, batch.request)
        running = images.get(session, batch.id)
        assert (running.status, running.worker) == (RequestStatus.RUNNING, "w1")
    with database.transaction() as session:
        assert images.renew(session, {batch.id: 1, "img_other": 1}) == {batch.id}
        assert images.finish_all(session, {batch.id: (1, {"data": [{"index": 0}]})}) == 1
        assert not images.finish_all(session, {batch.id: (1, {"data": []})})
        assert not images.fail(session, batch.id, 1, {})
        assert not images.renew(session, {batch.id: 1})
    with database.read() as session:
        read = images.get(session, batch.id)
    assert (read.status, read.result, read.error) == (RequestStatus.SUCCEEDED, {"data": [{"index": 0}]}, None)
    assert read.finished_at is not None


def test_batches_made_together_come_back_in_the_order_in_which_they_were_asked_for(
    database: Database, new_checkpoint
) -> None:
    """Breaks when a client waits for another's images."""
    checkpoint = new_checkpoint()
    asked = [Asked(checkpoint.id, {"seeds": [seed]}, f"img_{-seed % 7}{seed}") for seed in range(40)]
    with database.transaction() as session:
        made = images.create_all(session, asked)
        assert images.create_all(session, []) == []
    assert [(row.id, row.request) for row in made] == [(one.id, one.request) for one in asked]
    with database.read() as session:
        stored = images.get_all(session, [row.id for row in made])
    for row in made:
        kept = stored[row.id]
        assert (kept.request, kept.status, kept.attempt) == (row.request, row.status, row.attempt)
        assert (kept.created_at, kept.published_at) == (row.created_at, row.published_at)


def test_touching_a_batch_changes_its_row_and_not_its_course(database: Database, new_batch) -> None:
    """Breaks when SQLite has nothing to write, and so puts nothing on the disk."""
    batch = new_batch()
    time.sleep(0.002)
    with database.transaction() as session:
        touched = images.touch(session, batch.id)
        assert touched.published_at > batch.published_at
        assert (touched.status, touched.attempt) == (RequestStatus.QUEUED, 0)
        assert images.claim_next(session, "w1") is not None


def test_a_failed_batch_says_why(database: Database, new_batch) -> None:
    batch = new_batch()
    error = {"code": "out_of_memory", "message": "Too large.", "hint": "Ask for fewer."}
    with database.transaction() as session:
        images.claim_next(session, "w1")
        assert images.fail(session, batch.id, 1, error)
        assert images.get(session, batch.id).error == error


def test_the_oldest_is_claimed_first_and_nothing_is_claimed_twice(database: Database, new_batch) -> None:
    made = [new_batch().id for _ in range(6)]
    claimed: list[str] = []

    def work() -> None:
        while True:
            with database.transaction() as session:
                batch = images.claim_next(session, "w")
            if batch is None:
                return
            claimed.append(batch.id)

    with database.transaction() as session:
        first = images.claim_next(session, "w")
    assert first is not None
    assert first.id == made[0]
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert sorted(claimed) == made[1:]


def test_a_vanished_worker_is_replaced_and_can_write_no_more(database: Database, new_batch, at) -> None:
    batch = new_batch()
    with database.transaction() as session:
        images.claim_next(session, "w1", now=at(0))
        assert images.stale(session, now=at(LEASE_SECONDS - 1)) == []
        assert images.stale(session, now=at(LEASE_SECONDS + 1)) == [batch.id]
        again = images.claim_next(session, "w2", now=at(LEASE_SECONDS + 1))
        assert again is not None
        assert again.attempt == 2
        assert not images.finish_all(session, {batch.id: (1, {})})
        assert not images.renew(session, {batch.id: 1})


def test_a_batch_whose_workers_keep_vanishing_fails_with_advice(database: Database, new_batch, at) -> None:
    batch, now = new_batch(), 0.0
    for attempt in range(MAX_ATTEMPTS):
        with database.transaction() as session:
            images.claim_next(session, "w", now=at(now))
            now += LEASE_SECONDS + 1
            found = images.stale(session, now=at(now))
        assert found == ([batch.id] if attempt + 1 < MAX_ATTEMPTS else [])
    with database.read() as session:
        read = images.get(session, batch.id)
    assert read.status == RequestStatus.FAILED
    assert read.error is not None
    assert read.error["code"] == "worker_lost"


def test_a_lost_message_is_sent_again_once_an_interval(database: Database, new_batch, at) -> None:
    batch = new_batch()
    with database.transaction() as session:
        assert images.stale(session) == []
        assert images.stale(session, now=at(0)) == [batch.id]
        assert images.stale(session, now=at(10)) == []
        assert images.stale(session, now=at(16)) == [batch.id]


@pytest.mark.parametrize("image_id", ["img_01h455vb4pex5vsknk084sn02q", "a\x00b", ""])
def test_an_unknown_batch_is_not_found(database: Database, image_id: str) -> None:
    with database.read() as session, pytest.raises(NotFound):
        images.get(session, image_id)


def test_what_is_cancelled_is_claimed_and_finished_by_nobody(database: Database, new_batch) -> None:
    """Breaks when a worker goes on with images that nobody wants, or makes them after all."""
    queued, running, made = new_batch(), new_batch(), new_batch()
    with database.transaction() as session:
        assert images.cancel(session, queued.id).status == RequestStatus.CANCELLED
        claimed = images.claim(session, "w", 10)
        assert [row.id for row in claimed] == [running.id, made.id]
        assert images.cancel(session, running.id).finished_at is not None
        assert images.renew(session, {running.id: 1, made.id: 1}) == {made.id}
        ended = images.finish_all(session, {running.id: (1, {"data": []}), made.id: (1, {"data": []})})
        assert ended == 1
        session.expire_all()
        assert images.get(session, made.id).status == RequestStatus.SUCCEEDED
    with database.transaction() as session:
        with pytest.raises(Conflict, match="succeeded"):
            images.cancel(session, made.id)
        assert images.cancel(session, running.id).status == RequestStatus.CANCELLED, "twice is once"
        with pytest.raises(NotFound):
            images.cancel(session, "img_none")


def test_images_expire_with_their_files_and_not_before_they_have_ended(
    database: Database, new_batch, at
) -> None:
    """Breaks when images pile up for ever, or when those that are still waited for are deleted."""
    ended, later, open_ = new_batch(), new_batch(), new_batch()
    with database.transaction() as session:
        for batch, moment in ((ended, 0), (later, 50)):
            images.claim_next(session, "w", now=at(moment))
            assert images.finish_all(session, {batch.id: (1, {"data": []})}, now=at(moment))
        assert images.expire(session, 60, now=at(61)) == 1
        assert images.expire(session, 60, now=at(61)) == 0
        assert unwanted.oldest(session) == [f"images/{ended.id}"]
        with pytest.raises(NotFound):
            images.get(session, ended.id)
        assert {images.get(session, batch.id).status for batch in (later, open_)} == {"succeeded", "queued"}

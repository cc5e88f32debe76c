"""Datasets are prepared once, by one worker, and say what became of them."""

import threading
from typing import Any

import pytest

from service.errors import Conflict, NotFound
from service.records import datasets, jobs
from service.records.database import Database
from service.records.datasets import LEASE_SECONDS, MAX_ATTEMPTS
from service.records.ids import new_id
from service.records.status import DatasetStatus

FACTS: dict[str, Any] = {
    "count": 12,
    "classes": {"cats": 5, "dogs": 7},
    "channels": 3,
    "resolution": 64,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.1, 0.2, 0.3],
    "content_hash": "f" * 64,
    "dropped": [{"name": "notes.txt", "reason": "not an image"}],
}


@pytest.fixture
def dataset_id(database: Database) -> str:
    with database.transaction() as session:
        return datasets.create(session, "pets").id


def test_a_new_dataset_is_pending_and_without_facts(database: Database, dataset_id: str) -> None:
    with database.read() as session:
        read = datasets.get(session, dataset_id)
    assert dataset_id.startswith("ds_")
    assert (read.name, read.status, read.builtin) == ("pets", DatasetStatus.PENDING, False)
    assert (read.count, read.classes, read.error, read.dropped) == (None, None, None, [])


def test_an_archive_may_be_stored_before_its_row_is_written(database: Database) -> None:
    given = new_id("ds")
    with database.transaction() as session:
        made = datasets.create(session, "pets", resolution=32, dataset_id=given)
    assert (made.id, made.resolution) == (given, 32)


def test_preparing_ends_with_the_facts(database: Database, dataset_id: str) -> None:
    with database.transaction() as session:
        claimed = datasets.claim(session, dataset_id, "w1")
        assert claimed is not None
        assert datasets.progress(session, dataset_id, claimed.attempt, 6, 12)
    with database.read() as session:
        read = datasets.get(session, dataset_id)
        assert (read.progress_done, read.progress_total) == (6, 12)
    with database.transaction() as session:
        assert datasets.ready(session, dataset_id, claimed.attempt, **FACTS)
        assert not datasets.ready(session, dataset_id, claimed.attempt, **FACTS)
    with database.read() as session:
        read = datasets.get(session, dataset_id)
    assert read.status == DatasetStatus.READY
    assert {name: getattr(read, name) for name in FACTS} == FACTS
    assert read.finished_at is not None


def test_a_failed_dataset_says_why(database: Database, dataset_id: str) -> None:
    error = {"code": "no_images", "message": "The archive holds no image.", "hint": "Add PNG files."}
    with database.transaction() as session:
        datasets.claim(session, dataset_id, "w1")
        assert datasets.failed(session, dataset_id, 1, error, dropped=FACTS["dropped"])
        read = datasets.get(session, dataset_id)
    assert (read.status, read.error, read.dropped) == (DatasetStatus.FAILED, error, FACTS["dropped"])
    with database.transaction() as session:
        assert datasets.claim(session, dataset_id, "w1") is None


def test_the_same_message_to_many_workers_prepares_once(database: Database, dataset_id: str) -> None:
    won = []

    def claim(worker: str) -> None:
        with database.transaction() as session:
            if datasets.claim(session, dataset_id, worker) is not None:
                won.append(worker)

    racing = [threading.Thread(target=claim, args=(f"w{number}",)) for number in range(6)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert len(won) == 1


def test_a_vanished_worker_is_replaced_and_can_write_no_more(database: Database, dataset_id: str, at) -> None:
    with database.transaction() as session:
        datasets.claim(session, dataset_id, "w1", now=at(0))
        assert datasets.progress(session, dataset_id, 1, 1, 9, now=at(5))
        assert datasets.stale(session, now=at(5 + LEASE_SECONDS - 1)) == []
        assert datasets.claim(session, dataset_id, "w2", now=at(5 + LEASE_SECONDS - 1)) is None
        assert datasets.stale(session, now=at(5 + LEASE_SECONDS + 1)) == [dataset_id]
        again = datasets.claim(session, dataset_id, "w2", now=at(5 + LEASE_SECONDS + 1))
        assert again is not None
        assert (again.attempt, again.progress_done) == (2, 0)
        assert not datasets.progress(session, dataset_id, 1, 2, 9)
        assert not datasets.ready(session, dataset_id, 1, **FACTS)
        assert not datasets.failed(session, dataset_id, 1, {})


def test_a_dataset_whose_workers_keep_vanishing_fails_with_advice(
    database: Database, dataset_id: str, at
) -> None:
    now = 0.0
    for attempt in range(MAX_ATTEMPTS):
        with database.transaction() as session:
            claimed = datasets.claim(session, dataset_id, "w", now=at(now))
            now += LEASE_SECONDS + 1
            found = datasets.stale(session, now=at(now))
        assert claimed is not None
        assert found == ([dataset_id] if attempt + 1 < MAX_ATTEMPTS else [])
    with database.read() as session:
        read = datasets.get(session, dataset_id)
    assert read.status == DatasetStatus.FAILED
    assert read.error is not None
    assert read.error["code"] == "worker_lost"


def test_a_lost_message_is_sent_again_once_an_interval(database: Database, dataset_id: str, at) -> None:
    with database.transaction() as session:
        assert datasets.stale(session) == []
        assert datasets.stale(session, now=at(0)) == [dataset_id]
        assert datasets.stale(session, now=at(10)) == []


def test_the_built_in_datasets_are_made_once(database: Database) -> None:
    with database.transaction() as session:
        assert sorted(datasets.ensure_builtins(session)) == ["digits", "fashion-mnist"]
    with database.transaction() as session:
        assert datasets.ensure_builtins(session) == []
    with database.read() as session:
        read = datasets.get(session, "digits")
    assert (read.builtin, read.status, read.attempt, read.dropped) == (True, DatasetStatus.PENDING, 0, [])


def test_a_built_in_dataset_that_failed_is_tried_again_at_the_next_start(database: Database) -> None:
    """Whoever installs Fashion-MNIST after a failure must not be stuck with it."""
    with database.transaction() as session:
        datasets.ensure_builtins(session)
        claimed = datasets.claim(session, "fashion-mnist", "worker")
        assert claimed is not None
        assert datasets.failed(session, "fashion-mnist", 1, {"code": "dataset_unavailable"})
    with database.transaction() as session:
        assert datasets.ensure_builtins(session) == ["fashion-mnist"]
    with database.transaction() as session:
        again = datasets.claim(session, "fashion-mnist", "worker")
        assert again is not None
        assert (again.status, again.attempt, again.error) == (DatasetStatus.PENDING, 1, None)


def test_processes_that_start_at_once_make_the_built_in_datasets_once(database: Database) -> None:
    made: list[str] = []

    def start() -> None:
        with database.transaction() as session:
            made.extend(datasets.ensure_builtins(session))

    starting = [threading.Thread(target=start) for _ in range(4)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert sorted(made) == ["digits", "fashion-mnist"]


def test_lists_are_newest_first_with_the_built_in_ones_behind_them(
    database: Database, dataset_id: str
) -> None:
    with database.transaction() as session:
        datasets.ensure_builtins(session)
        second = datasets.create(session, "more pets").id
        everything = [second, dataset_id, "fashion-mnist", "digits"]
        assert [dataset.id for dataset in datasets.page(session, 10).items] == everything
        for position, cursor in enumerate(everything, 1):
            page = datasets.page(session, 1, cursor)
            assert [dataset.id for dataset in page.items] == everything[position : position + 1]
            assert page.has_more == (position < 3)
        assert datasets.page(session, 10, status=DatasetStatus.READY).items == []


def test_a_dataset_is_deleted_unless_it_is_built_in_or_needed(
    database: Database, dataset_id: str, new_job
) -> None:
    with database.transaction() as session:
        datasets.ensure_builtins(session)
    with pytest.raises(Conflict, match="built in"), database.transaction() as session:
        datasets.delete(session, "digits")
    job = new_job(dataset=dataset_id)
    with pytest.raises(Conflict, match=job.id), database.transaction() as session:
        datasets.delete(session, dataset_id)
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
        datasets.delete(session, dataset_id)
    with database.read() as session, pytest.raises(NotFound):
        datasets.get(session, dataset_id)
    with database.read() as session:
        assert jobs.get(session, job.id).dataset == dataset_id


def test_a_dataset_is_not_deleted_from_under_a_job_that_is_being_made(
    database: Database, dataset_id: str
) -> None:
    """The job would wait for a dataset that is gone."""
    refused: list[str] = []

    def delete() -> None:
        try:
            with database.transaction() as session:
                datasets.delete(session, dataset_id)
        except Conflict as error:
            refused.append(error.code)

    deleting = threading.Thread(target=delete)
    with database.transaction() as session:
        datasets.get(session, dataset_id, keep=True)
        deleting.start()
        deleting.join(0.3)
        jobs.create(session, {"family": "gan", "dataset": dataset_id, "seed": 1}, [], 5)
    deleting.join()
    assert refused == ["dataset_in_use"]

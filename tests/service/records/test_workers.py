"""Workers tell of themselves; those that do not any more are not listed, and then forgotten."""

from sqlalchemy import func, select

from service.records import leases, workers
from service.records.database import Database
from service.records.tables import Worker


def test_a_worker_is_listed_while_it_tells_of_itself(database: Database, at, new_job) -> None:
    """Breaks when a worker that was killed looks alive for ever, or one that lives is listed twice."""
    job = new_job()
    with database.transaction() as session:
        workers.tell(session, "b:1", ["train"], "cuda:0", now=at(0))
        workers.tell(session, "a:1", ["sample"], "cpu", now=at(0))
        workers.tell(session, "a:1", ["sample"], "cpu", [{"checkpoint_id": "c", "size_bytes": 1}], now=at(15))
        assert leases.claim(session, job.id, "b:1", now=at(0)) is not None
    with database.read() as session:
        listed = workers.alive(session, now=at(16))
        assert [(row.name, row.queues, row.device) for row in listed] == [
            ("a:1", ["sample"], "cpu"),
            ("b:1", ["train"], "cuda:0"),
        ]
        assert listed[0].warm == [{"checkpoint_id": "c", "size_bytes": 1}]
        assert (listed[0].started_at, listed[0].seen_at) == (at(0), at(15))
        assert workers.trainings(session, ["a:1", "b:1"]) == {"b:1": job.id}
        assert [row.name for row in workers.alive(session, now=at(21))] == ["a:1"]
    with database.transaction() as session:
        workers.forget(session, now=at(210))
        assert session.scalar(select(func.count()).select_from(Worker)) == 1
        workers.leave(session, "a:1")
        assert workers.alive(session, now=at(16)) == []

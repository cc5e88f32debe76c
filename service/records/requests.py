"""What is asked of a checkpoint and done in one go: queued by the API, claimed by a worker, ended once."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Update, bindparam, insert, inspect, select, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from service.records.columns import Now, instant, shifted
from service.records.ids import new_id
from service.records.status import RequestStatus
from service.records.tables import Requested

LEASE_SECONDS = 15.0  # as a job's: whoever holds one renews it from a thread of its own
REPUBLISH_SECONDS = 15.0
MAX_ATTEMPTS = 3

_CORE = {"synchronize_session": False, "populate_existing": True}

Row = TypeVar("Row", bound=Requested)


class Asked(NamedTuple):
    """What is asked of which checkpoint; under an id of its own, unless somebody has to know it before."""

    checkpoint_id: str
    request: Mapping[str, Any]
    id: str | None = None


class Claimed(NamedTuple):
    """A row that is a worker's now, until its lease runs out."""

    id: str
    attempt: int
    checkpoint_id: str
    request: Mapping[str, Any]


class Requests(Generic[Row]):
    """The queue in one table, with ids that begin with `prefix`.

    `lost` is the error of what vanished with its worker too often.
    """

    def __init__(self, table: type[Row], prefix: str, lost: Mapping[str, str]) -> None:
        self._table = table
        self._prefix = prefix
        self._lost = dict(lost)

    def create(self, session: Session, checkpoint_id: str, request: Mapping[str, Any]) -> Row:
        """A new queued row; publish its id after the transaction has committed."""
        return self.create_all(session, [Asked(checkpoint_id, request)])[0]

    def create_all(self, session: Session, asked: Iterable[Asked]) -> list[Row]:
        """New queued rows, of checkpoints by id and what is asked of each; in the order of `asked`."""
        values = [
            {
                "id": one.id or new_id(self._prefix),
                "checkpoint_id": one.checkpoint_id,
                "request": dict(one.request),
            }
            for one in asked
        ]
        if not values:
            return []
        made = session.connection().execute(self._insertion, values)
        return [self._table(**row._mapping) for row in made]

    @cached_property
    def _insertion(self) -> "ReturningInsert[Any]":
        """Of columns, which cost a third of what an object in the session does."""
        columns = inspect(self._table).columns
        return insert(self._table).returning(*columns, sort_by_parameter_order=True)

    def claim_next(self, session: Session, worker: str, now: Now = None) -> Claimed | None:
        """Makes the oldest queued row this worker's, as its next attempt; None if nothing waits."""
        return next(iter(self.claim(session, worker, 1, now)), None)

    def claim(self, session: Session, worker: str, limit: int, now: Now = None) -> list[Claimed]:
        """Makes the oldest queued rows this worker's, at most `limit`; returns them, the oldest first."""
        statement = self._claim_now if now is None else self._claiming(now)
        rows = session.connection().execute(statement, {"limit": limit, "by": worker})
        return sorted(Claimed(*row) for row in rows)

    @cached_property
    def _claim_now(self) -> ReturningUpdate[tuple[str, int, str, dict[str, Any]]]:
        """For each image; to build a statement anew costs as much as to run it."""
        return self._claiming(None)

    def _claiming(self, now: Now) -> ReturningUpdate[tuple[str, int, str, dict[str, Any]]]:
        table, moment = self._table, instant(now)
        oldest = (
            select(table.id)
            .where(table.status == RequestStatus.QUEUED)
            .order_by(table.id)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
            .cte("oldest")  # a subquery would be evaluated, and would lock rows, for each row of the table
        )
        return (
            update(table)
            .where(table.id.in_(select(oldest.c.id)), table.status == RequestStatus.QUEUED)
            .values(
                status=RequestStatus.RUNNING,
                attempt=table.attempt + 1,
                worker=bindparam("by"),
                lease_expires_at=shifted(moment, LEASE_SECONDS),
                started_at=moment,
            )
            .returning(table.id, table.attempt, table.checkpoint_id, table.request)
        )

    def renew(self, session: Session, held: Mapping[str, int], now: Now = None) -> set[str]:
        """Extends the leases on the rows of these attempts, by id; returns those that still are theirs."""
        table = self._table
        mine = tuple_(table.id, table.attempt).in_(list(held.items()))
        extended = (
            update(table)
            .where(mine, table.status == RequestStatus.RUNNING)
            .values(lease_expires_at=shifted(instant(now), LEASE_SECONDS))
        )
        return set(self._ids(session, extended))

    def release(self, session: Session, held: Mapping[str, int], now: Now = None) -> set[str]:
        """Gives rows back that their worker must leave; the ids, for which another is to be rung for."""
        mine = tuple_(self._table.id, self._table.attempt).in_(list(held.items()))
        given_back = (
            update(self._table)
            .where(mine, self._table.status == RequestStatus.RUNNING)
            .values(status=RequestStatus.QUEUED, lease_expires_at=None, published_at=instant(now))
        )
        return set(self._ids(session, given_back))

    def finish(
        self, session: Session, id_: str, attempt: int, result: Mapping[str, Any], now: Now = None
    ) -> bool:
        """Ends the row with what was made; False: it is no longer this attempt's."""
        return self._end(session, id_, attempt, RequestStatus.SUCCEEDED, {"result": dict(result)}, now)

    def finish_all(
        self, session: Session, made: Mapping[str, tuple[int, Mapping[str, Any]]], now: Now = None
    ) -> int:
        """Ends rows with what was made, by id the attempt and the result; how many were still theirs."""
        statement = self._finish_now if now is None else self._finishing(now)
        rows = [
            {"which": id_, "held": attempt, "made": dict(result)} for id_, (attempt, result) in made.items()
        ]
        return session.connection().execute(statement, rows).rowcount

    @cached_property
    def _finish_now(self) -> Update:
        return self._finishing(None)

    def _finishing(self, now: Now) -> Update:
        table = self._table
        mine = (table.id == bindparam("which"), table.attempt == bindparam("held"))
        return (
            update(table)
            .where(*mine, table.status == RequestStatus.RUNNING)
            .values(
                status=RequestStatus.SUCCEEDED,
                result=bindparam("made"),
                lease_expires_at=None,
                finished_at=instant(now),
            )
        )

    def fail(
        self, session: Session, id_: str, attempt: int, error: Mapping[str, Any], now: Now = None
    ) -> bool:
        """Ends the row with the reason; False: it is no longer this attempt's."""
        return self._end(session, id_, attempt, RequestStatus.FAILED, {"error": dict(error)}, now)

    def stale(self, session: Session, now: Now = None) -> list[str]:
        """Queues again what a vanished worker held; the ids whose message may be lost, to be published.

        A row that was lost too often has failed.
        """
        table, moment = self._table, instant(now)
        lost = (table.status == RequestStatus.RUNNING, table.lease_expires_at < moment)
        session.execute(
            update(table)
            .where(*lost, table.attempt >= MAX_ATTEMPTS)
            .values(status=RequestStatus.FAILED, error=self._lost, lease_expires_at=None, finished_at=moment),
            execution_options=_CORE,
        )
        requeue = (
            update(table)
            .where(*lost)
            .values(status=RequestStatus.QUEUED, lease_expires_at=None, published_at=moment)
        )
        remind = (
            update(table)
            .where(
                table.status == RequestStatus.QUEUED,
                table.published_at < shifted(moment, -REPUBLISH_SECONDS),
            )
            .values(published_at=moment)
        )
        return [*self._ids(session, requeue), *self._ids(session, remind)]

    def _ids(self, session: Session, changed: Update) -> list[str]:
        returning = changed.returning(self._table.id)
        return list(session.scalars(returning, execution_options=_CORE))

    def _end(
        self,
        session: Session,
        id_: str,
        attempt: int,
        status: RequestStatus,
        values: Mapping[str, Any],
        now: Now,
    ) -> bool:
        ended = {"status": status, "lease_expires_at": None, "finished_at": instant(now)}
        return self._write(session, id_, attempt, {**ended, **values})

    def _write(self, session: Session, id_: str, attempt: int, values: Mapping[str, Any]) -> bool:
        table = self._table
        mine = (table.id == id_, table.attempt == attempt, table.status == RequestStatus.RUNNING)
        written = session.scalar(
            update(table).where(*mine).values(**values).returning(table.id), execution_options=_CORE
        )
        return written is not None

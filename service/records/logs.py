"""The lines of a job's log: how each attempt goes, and what its training process wrote itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records.ids import new_id, plausible
from service.records.pages import Page, newest_first
from service.records.tables import LogLine


class Line(NamedTuple):
    """A line, and when its worker read it."""

    at: datetime
    text: str


def add(session: Session, job_id: str, attempt: int, lines: Sequence[Line]) -> None:
    """Add lines; a worker first makes sure by `jobs.fence` that the job is still its own."""
    if lines:
        rows = [
            {"id": new_id("log"), "job_id": job_id, "attempt": attempt, "text": text, "created_at": at}
            for at, text in lines
        ]
        session.execute(insert(LogLine), rows)


def get(session: Session, job_id: str, line_id: str) -> LogLine:
    found = session.get(LogLine, line_id) if plausible(line_id) else None
    if found is None or found.job_id != job_id:
        raise NotFound("line_not_found", f"The job {job_id!r} has no line {line_id!r}.", param="line_id")
    return found


def page(
    session: Session, job_id: str, limit: int = 20, after: str | None = None, *, attempt: int | None = None
) -> Page[LogLine]:
    """A job's lines, the last first: of all attempts, or of one."""
    query = select(LogLine).where(LogLine.job_id == job_id)
    if attempt is not None:
        query = query.where(LogLine.attempt == attempt)
    return newest_first(session, query, LogLine.id, limit, after)

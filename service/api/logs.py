"""A job's log, the last line first."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import Database, ListPage, naming_cursor
from service.api.problems import responses
from service.api.replies import Listing, LogLineReply, listing
from service.records import jobs, logs

router = APIRouter(prefix="/jobs/{job_id}/logs", tags=["events"])


@router.get("", operation_id="listLogs", summary="List a job's log lines", responses=responses(404))
def list_logs(
    job_id: str,
    database: Database,
    page: ListPage,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only of this attempt.")] = None,
) -> Listing[LogLineReply]:
    """How each attempt goes, and what its training process wrote itself. `limit=N` gives the last N lines.

    Of an attempt whose process wrote thousands some in its middle lack.
    """
    with database.read() as session:
        jobs.get(session, job_id)
        if page.after is not None:
            with naming_cursor(page.after):
                logs.get(session, job_id, page.after)
        found = logs.page(session, job_id, page.limit, page.after, attempt=attempt)
    data = [LogLineReply.model_validate(line, from_attributes=True) for line in found.items]
    return listing(data, has_more=found.has_more, id_of=lambda line: line.id)

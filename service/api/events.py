"""What happened to a job, newest first."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import Database, ListPage, naming_cursor
from service.api.problems import responses
from service.api.replies import EventReply, Listing, listing
from service.records import events, jobs
from service.records.events import EventType, Level

router = APIRouter(prefix="/jobs/{job_id}/events", tags=["events"])


@router.get("", operation_id="listEvents", summary="List a job's events", responses=responses(404))
def list_events(
    job_id: str,
    database: Database,
    page: ListPage,
    type: Annotated[list[EventType] | None, Query(description="Only these types.")] = None,  # noqa: A002
    level: Annotated[list[Level] | None, Query(description="Only these levels.")] = None,
) -> Listing[EventReply]:
    with database.read() as session:
        jobs.get(session, job_id)
        if page.after is not None:
            with naming_cursor(page.after):
                events.get(session, job_id, page.after)
        found = events.page(session, job_id, page.limit, page.after, types=type, levels=level)
    data = [EventReply.model_validate(event, from_attributes=True) for event in found.items]
    return listing(data, has_more=found.has_more, id_of=lambda event: event.id)

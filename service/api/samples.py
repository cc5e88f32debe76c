"""The grids of images that a job makes while it trains."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.dependencies import Artifacts, Database, Links, ListPage, naming_cursor
from service.api.files import file_content, stored_file
from service.api.problems import responses
from service.api.replies import Listing, SampleReply, listing
from service.errors import NotFound
from service.records import jobs, samples

router = APIRouter(prefix="/jobs/{job_id}/samples", tags=["samples"])


@router.get("", operation_id="listSamples", summary="List a job's sample grids", responses=responses(404))
def list_samples(job_id: str, database: Database, links: Links, page: ListPage) -> Listing[SampleReply]:
    """Newest first; a grid's id in this list is its step."""
    with database.read() as session:
        jobs.get(session, job_id)
        after = None
        if page.after is not None:
            with naming_cursor(page.after):
                after = samples.get(session, job_id, _step(page.after)).step
        found = samples.list(session, job_id, page.limit + 1, after)
    data = [
        SampleReply(
            job_id=job_id,
            step=sample.step,
            images=sample.images,
            created_at=sample.created_at,
            url=links(f"/v1/jobs/{job_id}/samples/{sample.step}.png"),
        )
        for sample in found[: page.limit]
    ]
    return listing(data, has_more=len(found) > page.limit, id_of=lambda sample: str(sample.step))


@router.get(
    "/{step}.png",
    operation_id="getSample",
    summary="Get a sample grid",
    response_class=Response,
    responses={**file_content("image/png"), **responses(404)},
)
def get_sample(
    job_id: str, step: str, request: Request, database: Database, artifacts: Artifacts
) -> Response:
    """The picture; grids of one job show the same noise, so that they can be compared."""
    with database.read() as session:
        jobs.get(session, job_id)
        sample = samples.get(session, job_id, _step(step))
    return stored_file(request, artifacts, sample.artifact, "image/png")


def _step(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound(
            "sample_not_found", f"There are no samples of step {text!r}: a step is a number.", param="step"
        )
    return int(text)

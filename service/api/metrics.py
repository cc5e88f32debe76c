"""The curves of a job, as numbers and as a plot."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from models.spec.fields import Text
from service.api.dependencies import Database
from service.api.drawing import draw
from service.api.files import made_content
from service.api.heavy import in_turn
from service.api.problems import responses
from service.api.replies import MetricsReply
from service.records import checkpoints, jobs, metrics
from service.records.database import Database as SqlDatabase

router = APIRouter(prefix="/jobs/{job_id}", tags=["metrics"])

PLOT_POINTS = 500

Keys = Annotated[
    list[Annotated[Text, Query(max_length=1000)]] | None,
    Query(
        description="Only these curves, such as `loss/generator`; repeated, or separated by commas.",
        max_length=100,
    ),
]


@router.get("/metrics", operation_id="getMetrics", summary="Get a job's curves", responses=responses(404))
def get_metrics(
    job_id: str,
    database: Database,
    keys: Keys = None,
    max_points: Annotated[int, Query(ge=2, le=10_000, description="The most points of a curve.")] = 1000,
) -> MetricsReply:
    """A curve that is longer is thinned evenly; its first and last point stay."""
    with database.read() as session:
        jobs.get(session, job_id)
        series = metrics.series(session, job_id, _names(keys), max_points)
    return MetricsReply(job_id=job_id, series=series)


@router.get(
    "/metrics.png",
    operation_id="plotMetrics",
    summary="Plot a job's curves",
    response_class=Response,
    responses={**made_content("image/png"), **responses(404)},
)
async def plot_metrics(job_id: str, database: Database, keys: Keys = None) -> Response:
    """A panel for each kind of curve that there is, over the images shown; the best checkpoint is marked."""
    drawn = await in_turn(draw, **await run_in_threadpool(_plotted, job_id, database, keys))
    return Response(drawn, media_type="image/png")


def _plotted(job_id: str, database: SqlDatabase, keys: list[str] | None) -> dict[str, Any]:
    with database.read() as session:
        job = jobs.get(session, job_id)
        series = metrics.series(session, job_id, _names(keys), PLOT_POINTS)
        flagged = checkpoints.flags(session, [job.id]).get(job.id)
        best_images = checkpoints.get(session, flagged.best).images if flagged else None
    what = f"{job.preset or job.spec['family']} on {job.dataset}"
    caption = f"{what} · {job.status.value} · step {job.step:,} of {job.total_steps:,}"
    return {"series": series, "title": job.name, "caption": caption, "best_images": best_images}


def _names(keys: list[str] | None) -> list[str] | None:
    return None if keys is None else [name for part in keys for name in part.split(",") if name]

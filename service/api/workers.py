"""The workers that run, and what waits for them."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.dependencies import Database
from service.api.problems import responses
from service.api.replies import CHECKPOINT, MOMENT, example
from service.records import workers
from service.records.tables import Worker

router = APIRouter(prefix="/workers", tags=["workers"])

EXAMPLE: dict[str, Any] = {
    "name": "gpu-1:4711",
    "object": "worker",
    "queues": ["sample"],
    "device": "cuda:0",
    "job_id": None,
    "warm": [{"checkpoint_id": CHECKPOINT, "size_bytes": 4999000}],
    "started_at": MOMENT,
    "seen_at": MOMENT,
}


class WarmReply(BaseModel):
    """A checkpoint that a worker has in memory: images of it are made without loading it."""

    checkpoint_id: str
    size_bytes: int


class WorkerReply(BaseModel):
    """A worker, as it told of itself within the last seconds."""

    model_config = example(**EXAMPLE)
    name: str = Field(description="Host and process.")
    object: Literal["worker"] = "worker"
    queues: list[str] = Field(description="What it does: `train`, `sample` or `prepare`.")
    device: str = Field(description="`cpu`, or `cuda:N` for the GPU of that number.")
    job_id: str | None = Field(description="The job that it trains.")
    warm: list[WarmReply]
    started_at: datetime
    seen_at: datetime


class WorkersReply(BaseModel):
    """All workers that were heard of lately, and how much waits for each kind."""

    model_config = example(
        object="list",
        data=[EXAMPLE],
        queues={"train": 2, "sample": 0, "prepare": 0},
    )
    object: Literal["list"] = "list"
    data: list[WorkerReply]
    queues: dict[str, int] = Field(
        description="What no worker has taken yet: jobs for `train`, batches of images for `sample`, "
        "datasets and evaluations for `prepare`."
    )


@router.get("", operation_id="listWorkers", summary="List the workers that run", responses=responses())
def list_workers(database: Database) -> WorkersReply:
    """Each tells of itself every five seconds; one that was not heard of for twenty is not listed."""
    with database.read() as session:
        rows = workers.alive(session)
        trainings = workers.trainings(session, [row.name for row in rows])
        queues = workers.waiting(session)
    data = [_reply(row, trainings.get(row.name)) for row in rows]
    return WorkersReply(data=data, queues=queues)


def _reply(row: Worker, job_id: str | None) -> WorkerReply:
    return WorkerReply(
        name=row.name,
        queues=row.queues,
        device=row.device,
        job_id=job_id,
        warm=[WarmReply.model_validate(one) for one in row.warm],
        started_at=row.started_at,
        seen_at=row.seen_at,
    )

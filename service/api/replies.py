"""What the service answers: one model an object, with examples for the OpenAPI document."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.spec import DiffusionSpec, GanSpec
from service.records.status import JobStatus

Spec = Annotated[GanSpec | DiffusionSpec, Field(discriminator="family")]
# A job that an earlier version has stored is shown as it is, also where today's schema refuses its spec.
StoredSpec = Annotated[Spec | dict[str, Any], Field(union_mode="left_to_right")]
Item = TypeVar("Item", bound=BaseModel)
Urls = dict[str, str]

MOMENT = "2026-01-31T12:00:00Z"
JOB = "job_01jc0000000000000000000000"
CHECKPOINT = "ckpt_01jc0000000000000000000001"
DATASET = "ds_01jc0000000000000000000002"
IMAGES = "img_01jc0000000000000000000003"
EVALUATION = "eval_01jc0000000000000000000005"
EVENT = "event_01jc0000000000000000000004"
LOG_LINE = "log_01jc0000000000000000000004"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def example(**values: Any) -> ConfigDict:
    """The model config that shows these values as the example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class Listing(BaseModel, Generic[Item]):
    """A page of a list, newest first."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = Field(description="Id of the first object of the page.")
    last_id: str | None = Field(description="Id of the last one: pass it as `after` for the next page.")
    has_more: bool = Field(description="Whether older objects follow.")


def listing(items: Sequence[Item], *, has_more: bool, id_of: Callable[[Item], str]) -> Listing[Item]:
    ends = (id_of(items[0]), id_of(items[-1])) if items else (None, None)
    return Listing(data=list(items), first_id=ends[0], last_id=ends[1], has_more=has_more)


class ErrorReply(BaseModel):
    """Why something failed."""

    code: str = Field(description="Stable name of the error, for programs.")
    message: str = Field(description="What was wrong, for people.")
    hint: str | None = Field(None, description="What to do about it.")


class JobErrorReply(ErrorReply):
    """Why a job failed, where, and what it has to go on from."""

    step: int | None = Field(None, description="The last step that was reported before.")
    checkpoint_id: str | None = Field(
        None, description="Its last checkpoint, from before the failure: whole, with finite weights."
    )


class PartReply(BaseModel):
    """One part that the service needs."""

    ok: bool
    message: str | None = Field(description="What is wrong with it.")


class HealthReply(BaseModel):
    """Whether the process is alive, or ready."""

    model_config = example(status="ok")
    status: Literal["ok"] = "ok"


class ReadinessReply(BaseModel):
    """Whether requests can be served, and the state of each part."""

    model_config = example(
        status="degraded",
        parts={
            "sql": {"ok": True, "message": None},
            "redis": {"ok": False, "message": "does not answer; jobs are accepted and start when it does"},
            "artifacts": {"ok": True, "message": None},
        },
    )
    status: Literal["ready", "degraded", "unready"] = Field(
        description="`degraded`: Redis is away, jobs are accepted and wait. `unready`: answered with 503."
    )
    parts: dict[str, PartReply]


class PresetReply(BaseModel):
    """A named spec to start from; what it leaves out is derived from the dataset and the budget."""

    model_config = example(
        object="preset",
        name="dcgan",
        family="gan",
        summary="DCGAN with the tricks that keep it stable.",
        source="Radford et al. 2016, arXiv:1511.06434",
        spec={"family": "gan", "dataset": "digits", "budget": {"images": 300000}, "batch_size": 64},
    )
    object: Literal["preset"] = "preset"
    name: str
    family: Literal["gan", "diffusion"]
    summary: str
    source: str
    spec: dict[str, Any] = Field(description="Can be posted as a job as it is.")


class JobProgress(BaseModel):
    """How far training has come."""

    step: int
    total_steps: int
    images: int = Field(description="Real images shown to the trained network.")
    images_per_second: float | None
    eta_seconds: float | None


class JobReply(BaseModel):
    """A training job. `spec` is resolved: posting it again repeats the run."""

    model_config = example(
        id=JOB,
        object="job",
        name="fashion",
        status="running",
        health=None,
        preset="dcgan",
        dataset="digits",
        seed=7,
        metadata={"team": "vision"},
        spec={"family": "gan", "preset": "dcgan", "dataset": "digits", "seed": 7},
        warnings=[],
        attempt=1,
        progress={
            "step": 120,
            "total_steps": 4688,
            "images": 7680,
            "images_per_second": 900.5,
            "eta_seconds": 325.0,
        },
        error=None,
        best_checkpoint=CHECKPOINT,
        last_checkpoint=CHECKPOINT,
        created_at=MOMENT,
        started_at=MOMENT,
        finished_at=None,
        urls={"self": f"https://host/v1/jobs/{JOB}"},
    )
    id: str
    object: Literal["job"] = "job"
    name: str
    status: JobStatus
    health: str | None = Field(
        description="Whether the training is stable; null while nothing has looked at it."
    )
    preset: str | None
    dataset: str
    seed: int
    metadata: dict[str, str]
    spec: StoredSpec = Field(
        description="An object of another shape where a version with other fields has stored it."
    )
    warnings: list[str] = Field(
        description="What is allowed and probably not meant; each is an `alert` among the events, too."
    )
    attempt: int = Field(description="How often a worker has taken the job.")
    progress: JobProgress
    error: JobErrorReply | None
    best_checkpoint: str | None = Field(
        description="Id of the checkpoint that is best by `evaluation.best_by`; without scores the last."
    )
    last_checkpoint: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: Urls


class JobPlanReply(BaseModel):
    """What a job would be (`dry_run=true`); nothing is stored."""

    model_config = example(
        object="job_plan",
        spec={"family": "gan", "preset": "dcgan", "dataset": "digits", "seed": 7},
        warnings=[],
        parameters={"generator": 1065984, "discriminator": 174080},
        steps=4688,
        memory_bytes=52428800,
    )
    object: Literal["job_plan"] = "job_plan"
    spec: Spec
    warnings: list[str] = Field(description="What is allowed and probably not meant.")
    parameters: dict[str, int] | None = Field(
        description="Parameters of each network; null if no worker answered."
    )
    steps: int
    memory_bytes: int | None = Field(description="Estimate of the memory that training takes; null as above.")


class SeriesReply(BaseModel):
    """One curve; the three lists are of one length."""

    step: list[int]
    images: list[int]
    value: list[float | None] = Field(description="Null where the number was not finite.")


class MetricsReply(BaseModel):
    """Curves of a job, downsampled to at most `max_points` points each."""

    model_config = example(
        object="metrics",
        job_id=JOB,
        series={"loss/generator": {"step": [10, 20], "images": [640, 1280], "value": [1.2, 1.1]}},
    )
    object: Literal["metrics"] = "metrics"
    job_id: str
    series: dict[str, SeriesReply]


class EventReply(BaseModel):
    """Something that happened to a job."""

    model_config = example(
        id=EVENT,
        object="event",
        job_id=JOB,
        level="info",
        type="checkpoint.saved",
        message="A checkpoint was stored.",
        step=100,
        data={"checkpoint_id": CHECKPOINT},
        created_at=MOMENT,
    )
    id: str
    object: Literal["event"] = "event"
    job_id: str
    level: Literal["info", "warning", "error"]
    type: str
    message: str
    step: int | None
    data: dict[str, Any]
    created_at: datetime


class SampleReply(BaseModel):
    """A grid of images made while training, always from the same noise."""

    model_config = example(
        object="sample",
        job_id=JOB,
        step=100,
        images=6400,
        created_at=MOMENT,
        url=f"https://host/v1/jobs/{JOB}/samples/100.png",
    )
    object: Literal["sample"] = "sample"
    job_id: str
    step: int
    images: int
    created_at: datetime
    url: str


class LogLineReply(BaseModel):
    """A line that a job's training process wrote to its standard error."""

    model_config = example(
        id=LOG_LINE,
        object="log_line",
        job_id=JOB,
        attempt=1,
        text="UserWarning: this device has no fast bf16",
        created_at=MOMENT,
    )
    id: str
    object: Literal["log_line"] = "log_line"
    job_id: str
    attempt: int
    text: str
    created_at: datetime

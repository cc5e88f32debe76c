"""Every table of the service, typed."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from service.records.columns import CleanText, Id, Json, UtcDateTime, clock
from service.records.ids import new_id
from service.records.status import DatasetStatus, JobStatus, RequestStatus

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: CleanText(),
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[str]: Json,
        list[dict[str, Any]]: Json,
        float: Double(),
        int: BigInteger(),
        JobStatus: Enum(
            JobStatus, native_enum=False, length=16, values_callable=lambda kind: [s.value for s in kind]
        ),
        DatasetStatus: Enum(
            DatasetStatus, native_enum=False, length=16, values_callable=lambda kind: [s.value for s in kind]
        ),
        RequestStatus: Enum(
            RequestStatus, native_enum=False, length=16, values_callable=lambda kind: [s.value for s in kind]
        ),
    }


class Job(Table):
    """A training job. `attempt` is the fencing token: only the holder of the current one may write."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "status", "lease_expires_at"),
        Index(None, "status", "published_at"),
        Index(None, "dataset"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("job"))
    name: Mapped[str]
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.QUEUED)
    health: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    preset: Mapped[str | None]
    dataset: Mapped[str]
    seed: Mapped[int]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)

    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]
    published_at: Mapped[datetime] = mapped_column(default=clock())
    run_after: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    lost_leases: Mapped[int] = mapped_column(default=0)

    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int]
    images: Mapped[int] = mapped_column(default=0)
    images_per_second: Mapped[float | None]
    eta_seconds: Mapped[float | None]
    error: Mapped[dict[str, Any] | None]

    created_at: Mapped[datetime] = mapped_column(default=clock())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Metric(Table):
    """One value of one curve; null where it was not a finite number."""

    __tablename__ = "metrics"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy reads it from the class

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Id, primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    images: Mapped[int]
    value: Mapped[float | None]


class JobEvent(Table):
    """Something that happened to a job, written in the transaction that made it happen."""

    __tablename__ = "job_events"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("event"))
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(32))
    message: Mapped[str]
    step: Mapped[int | None]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=clock())


class LogLine(Table):
    """A line that the training process of an attempt wrote, with the time of its worker's clock."""

    __tablename__ = "log_lines"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("log"))
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    text: Mapped[str]
    created_at: Mapped[datetime]


class Sample(Table):
    """A grid of images made while training, always from the same noise."""

    __tablename__ = "samples"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    images: Mapped[int]
    artifact: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=clock())


class Checkpoint(Table):
    """Stored networks that can be loaded.

    `merit` ranks those of one job by its spec's `evaluation.best_by`: more is better, null is not measured.
    `state_bytes` is null where its job cannot go on from it any more.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("ckpt"))
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]
    images: Mapped[int]
    artifact: Mapped[str]
    size_bytes: Mapped[int]
    state_bytes: Mapped[int | None]
    sha256: Mapped[str] = mapped_column(String(64))
    interim: Mapped[bool] = mapped_column(default=False)
    scores: Mapped[dict[str, Any]] = mapped_column(default=dict)
    score_details: Mapped[dict[str, Any] | None]
    merit: Mapped[float | None]
    pinned: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=clock())
    deleted_at: Mapped[datetime | None]


class Unwanted(Table):
    """A key of artifacts that are to be deleted, with all below it."""

    __tablename__ = "unwanted_artifacts"

    prefix: Mapped[str] = mapped_column(String(512), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=clock())


class Dataset(Table):
    """An uploaded or built-in set of images; the facts are null until it is ready."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "status", "published_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("ds"))
    name: Mapped[str]
    builtin: Mapped[bool] = mapped_column(default=False)
    status: Mapped[DatasetStatus] = mapped_column(default=DatasetStatus.PENDING)
    count: Mapped[int | None]
    classes: Mapped[dict[str, Any] | None]
    class_names: Mapped[list[str] | None] = mapped_column(Json)  # PostgreSQL orders an object's keys anew
    channels: Mapped[int | None]
    resolution: Mapped[int | None]
    mean: Mapped[list[float] | None] = mapped_column(Json)
    std: Mapped[list[float] | None] = mapped_column(Json)
    content_hash: Mapped[str | None]
    dropped: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    suspects: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    suspects_count: Mapped[int | None]
    suspects_attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    progress_done: Mapped[int] = mapped_column(default=0)
    progress_total: Mapped[int] = mapped_column(default=0)

    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    published_at: Mapped[datetime] = mapped_column(default=clock())
    created_at: Mapped[datetime] = mapped_column(default=clock())
    finished_at: Mapped[datetime | None]


class Requested:
    """The columns of what is asked of a checkpoint and done by a worker in one go."""

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Index, ...]:  # noqa: N805
        return (Index(None, "status", "published_at"), Index(None, "checkpoint_id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    checkpoint_id: Mapped[str] = mapped_column(Id, ForeignKey("checkpoints.id", ondelete="CASCADE"))
    status: Mapped[RequestStatus] = mapped_column(default=RequestStatus.QUEUED)
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]

    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    published_at: Mapped[datetime] = mapped_column(default=clock())
    created_at: Mapped[datetime] = mapped_column(default=clock())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ImageBatch(Requested, Table):
    """Images asked of a checkpoint, and where they are once made."""

    __tablename__ = "image_batches"


class Evaluation(Requested, Table):
    """Scores asked of a checkpoint, and what they are once measured."""

    __tablename__ = "evaluations"


class ApiKey(Table):
    """A key by its SHA-256; the secret itself is shown once and stored nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=lambda: new_id("key"))
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=clock())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Table):
    """What a caller's request with an Idempotency-Key has made."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    caller: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    made: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(default=clock())


class Worker(Table):
    """A worker that runs, as it told of itself at `seen_at`."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    queues: Mapped[list[str]]
    device: Mapped[str]
    warm: Mapped[list[dict[str, Any]]]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]

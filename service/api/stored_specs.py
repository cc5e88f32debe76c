"""The specs that jobs were stored with, and what a spec needs to know of its dataset."""

from sqlalchemy.orm import Session

from models.spec import BUILTIN_DATASETS, DatasetFacts, FieldError, JobSpec, SpecError, load_spec
from models.spec.data import pixel_std
from models.spec.starting import misfits
from service.errors import Conflict, NotFound
from service.records import checkpoints, datasets
from service.records.checkpoints import Trained
from service.records.status import DatasetStatus
from service.records.tables import Job

OTHER_VERSION = "The checkpoint's spec is of another version of the service."


def spec_of(trained: Trained) -> JobSpec:
    """The spec that a checkpoint was trained by; Conflict where it is one of another version."""
    try:
        return load_spec(trained.spec)
    except SpecError as error:
        raise of_another_version(trained.job_id, error) from error


def of_another_version(job_id: str, error: SpecError) -> Conflict:
    return Conflict(
        "spec_of_another_version",
        f"The spec of the job {job_id} is not one of this version of Atelier: {error}",
        hint="Post the job again, with these fields corrected.",
    )


def facts_of(session: Session, name: str, *, keep: bool = False) -> DatasetFacts | None:
    """What a spec needs to know of its dataset; None where there is none, Conflict where it is not ready.

    `keep` lets nobody delete it until the transaction ends.
    """
    try:
        row = datasets.get(session, name, keep=keep)
    except NotFound:
        return BUILTIN_DATASETS.get(name)
    if row.status == DatasetStatus.FAILED:
        reason = (row.error or {}).get("message", "no reason is known")
        raise Conflict(
            "dataset_failed",
            f"The dataset {name!r} could not be prepared: {reason}",
            hint=(row.error or {}).get("hint") or "Upload a corrected archive.",
            param="dataset",
        )
    if name in BUILTIN_DATASETS:
        # A worker makes them when they are first needed.
        return BUILTIN_DATASETS[name]
    if row.count is None or row.resolution is None or row.channels is None:
        raise Conflict(
            "dataset_not_ready",
            f"The dataset {name!r} is still being prepared.",
            hint=f"Read GET /v1/datasets/{name} until its status is ready, then post the job again.",
            param="dataset",
        )
    classes = tuple(row.class_names or row.classes or ())
    std = pixel_std(row.mean, row.std) if row.mean and row.std else None
    return DatasetFacts(row.name, row.count, row.resolution, row.channels, classes, std)


def check_resumable(session: Session, job: Job) -> None:
    """Raises Conflict where a job could not go on: its images are not there, or nothing to start from is."""
    if facts_of(session, job.dataset, keep=True) is None:
        raise Conflict(
            "dataset_deleted",
            f"The dataset {job.dataset!r} of the job was deleted.",
            hint="Upload the images again, and post the job's spec with the new dataset's id.",
        )
    origin = job.spec.get("init_from")
    if origin is None or any(
        row.state_bytes is not None for row in checkpoints.latest_first(session, job.id)
    ):
        return
    try:
        checkpoints.get(session, origin)
    except NotFound as error:
        raise Conflict(
            "init_from_deleted",
            f"The job has no checkpoint of its own yet, and cannot start from its init_from: {error.message}",
            hint="Post its spec as a new job, with another init_from or without one.",
        ) from error


def check_start(session: Session, spec: JobSpec) -> None:
    """Raises SpecError unless the checkpoint that a spec starts from exists, of networks like its own."""
    if spec.init_from is None:
        return
    try:
        trained = checkpoints.trained(session, spec.init_from)
    except NotFound as error:
        raise SpecError([FieldError("init_from", error.message)]) from None
    if errors := misfits(spec, spec_of(trained)):
        raise SpecError(errors)

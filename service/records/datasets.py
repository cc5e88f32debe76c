"""Datasets: uploaded through the API or built in, and prepared by a worker."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, null, or_, select, update
from sqlalchemy.orm import Session

from service.errors import Conflict, NotFound
from service.records.columns import Now, insert_into, instant, shifted
from service.records.ids import plausible
from service.records.pages import Page, newest_first
from service.records.status import TERMINAL, DatasetStatus
from service.records.tables import Dataset, Job

BUILTINS = ("digits", "fashion-mnist")
# Longer than a job's: packing reports its progress, and so renews the lease, only every so many images.
LEASE_SECONDS = 120.0
REPUBLISH_SECONDS = 15.0
MAX_ATTEMPTS = 3

_CORE = {"synchronize_session": False, "populate_existing": True}


def create(
    session: Session, name: str, *, resolution: int | None = None, dataset_id: str | None = None
) -> Dataset:
    """A new pending dataset; store its archive under its id, commit, then publish the id.

    `resolution` is the one to pack at; `dataset_id` is the `new_id("ds")` that its archive lies under.
    """
    dataset = Dataset(name=name, resolution=resolution)
    if dataset_id is not None:
        dataset.id = dataset_id
    session.add(dataset)
    session.flush()
    return dataset


def ensure_builtins(session: Session) -> list[str]:
    """Makes the rows of the built-in datasets where they are missing; the ids made, to be published.

    One that failed is tried again: what it lacked may have been installed since.
    """
    rows = [{"id": name, "name": name, "builtin": True} for name in BUILTINS]
    made = insert_into(session, Dataset).values(rows).on_conflict_do_nothing().returning(Dataset.id)
    failed = (
        update(Dataset)
        .where(Dataset.id.in_(BUILTINS), Dataset.status == DatasetStatus.FAILED)
        .values(status=DatasetStatus.PENDING, attempt=0, error=null(), finished_at=None)
        .returning(Dataset.id)
    )
    return [*session.scalars(made), *session.scalars(failed)]


def get(session: Session, dataset_id: str, *, keep: bool = False) -> Dataset:
    """The dataset, or `NotFound`. `keep` lets nobody delete it until the transaction ends."""
    kept = select(Dataset).with_for_update(read=True, key_share=True)
    return _found(session, dataset_id, kept if keep else select(Dataset))


def _found(session: Session, dataset_id: str, query: Select[Any]) -> Dataset:
    found: Dataset | None = (
        session.scalar(query.where(Dataset.id == dataset_id)) if plausible(dataset_id) else None
    )
    if found is None:
        raise NotFound(
            "dataset_not_found",
            f"There is no dataset {dataset_id!r}.",
            hint="GET /v1/datasets lists the datasets; POST /v1/datasets makes one.",
            param="dataset",
        )
    return found


def page(
    session: Session, limit: int = 20, after: str | None = None, *, status: DatasetStatus | None = None
) -> Page[Dataset]:
    """Datasets, newest first, and the built-in ones, whose ids are names, behind them."""
    query = select(Dataset).order_by(Dataset.builtin)
    if status is not None:
        query = query.where(Dataset.status == status)
    if after in BUILTINS:
        query = query.where(Dataset.builtin)
    elif after is not None:
        return newest_first(session, query, Dataset.id, limit, after, always=Dataset.builtin)
    return newest_first(session, query, Dataset.id, limit, after)


def delete(session: Session, dataset_id: str) -> None:
    """Forgets a dataset; delete its artifacts after the transaction has committed."""
    # Whoever makes a job on it at this moment is waited for, and then counts.
    dataset = _found(session, dataset_id, select(Dataset).with_for_update())
    if dataset.builtin:
        raise Conflict("dataset_is_builtin", f"The dataset {dataset_id!r} is built in and cannot be deleted.")
    using = select(Job.id).where(Job.dataset == dataset_id, Job.status.not_in(TERMINAL)).limit(1)
    job_id = session.scalar(using)
    if job_id is not None:
        raise Conflict(
            "dataset_in_use",
            f"The job {job_id} still needs the dataset {dataset_id!r}.",
            hint="Cancel the job, or wait until it is over.",
        )
    session.delete(dataset)
    session.flush()


def claim(session: Session, dataset_id: str, worker: str, now: Now = None) -> Dataset | None:
    """Makes the preparation this worker's, as the next attempt; None if it is done, gone, or another's."""
    moment = instant(now)
    return session.scalar(
        update(Dataset)
        .where(
            Dataset.id == dataset_id,
            Dataset.status == DatasetStatus.PENDING,
            or_(Dataset.lease_expires_at.is_(None), Dataset.lease_expires_at < moment),
        )
        .values(
            attempt=Dataset.attempt + 1,
            worker=worker,
            lease_expires_at=shifted(moment, LEASE_SECONDS),
            progress_done=0,
            progress_total=0,
        )
        .returning(Dataset),
        execution_options=_CORE,
    )


def progress(session: Session, dataset_id: str, attempt: int, done: int, total: int, now: Now = None) -> bool:
    """Records progress and extends the lease; False: the preparation is no longer this attempt's."""
    lease = shifted(instant(now), LEASE_SECONDS)
    return _write(
        session,
        dataset_id,
        attempt,
        {"progress_done": done, "progress_total": total, "lease_expires_at": lease},
    )


def ready(
    session: Session,
    dataset_id: str,
    attempt: int,
    *,
    count: int,
    classes: Mapping[str, int],
    channels: int,
    resolution: int,
    mean: Sequence[float],
    std: Sequence[float],
    content_hash: str,
    dropped: Sequence[Mapping[str, str]] = (),
    now: Now = None,
) -> bool:
    """Ends the preparation with what was found; False: it is no longer this attempt's.

    `classes` are in the order of their labels.
    """
    values = {
        "status": DatasetStatus.READY,
        "count": count,
        "classes": dict(classes),
        "class_names": list(classes),
        "channels": channels,
        "resolution": resolution,
        "mean": list(mean),
        "std": list(std),
        "content_hash": content_hash,
        "dropped": [dict(file) for file in dropped],
        "lease_expires_at": None,
        "finished_at": instant(now),
    }
    if len(classes) < 2:  # no other class could be the right one
        values |= {"suspects": [], "suspects_count": 0}
    return _write(session, dataset_id, attempt, values)


def failed(
    session: Session,
    dataset_id: str,
    attempt: int,
    error: Mapping[str, Any],
    *,
    dropped: Sequence[Mapping[str, str]] = (),
    now: Now = None,
) -> bool:
    """Ends the preparation with the reason; False: it is no longer this attempt's."""
    values = {
        "status": DatasetStatus.FAILED,
        "error": dict(error),
        "dropped": [dict(file) for file in dropped],
        "lease_expires_at": None,
        "finished_at": instant(now),
    }
    return _write(session, dataset_id, attempt, values)


def stale(session: Session, now: Now = None) -> list[str]:
    """The pending datasets whose message or worker may be lost, to be published; the hopeless ones fail."""
    moment = instant(now)
    unheld = or_(Dataset.lease_expires_at.is_(None), Dataset.lease_expires_at < moment)
    pending = (Dataset.status == DatasetStatus.PENDING, unheld)
    session.execute(
        update(Dataset)
        .where(*pending, Dataset.attempt >= MAX_ATTEMPTS)
        .values(
            status=DatasetStatus.FAILED,
            error={
                "code": "worker_lost",
                "message": f"The worker that prepared this dataset vanished {MAX_ATTEMPTS} times.",
                "hint": "The archive may need more memory than a worker has: upload fewer or smaller images.",
            },
            lease_expires_at=None,
            finished_at=moment,
        ),
        execution_options=_CORE,
    )
    return list(
        session.scalars(
            update(Dataset)
            .where(*pending, Dataset.published_at < shifted(moment, -REPUBLISH_SECONDS))
            .values(published_at=moment)
            .returning(Dataset.id),
            execution_options=_CORE,
        )
    )


def _write(session: Session, dataset_id: str, attempt: int, values: Mapping[str, Any]) -> bool:
    mine = (Dataset.id == dataset_id, Dataset.attempt == attempt, Dataset.status == DatasetStatus.PENDING)
    written = session.scalar(
        update(Dataset).where(*mine).values(**values).returning(Dataset.id), execution_options=_CORE
    )
    return written is not None

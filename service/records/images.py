"""Batches of images asked of a checkpoint: queued by the API, made by sampling workers."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records.columns import Now, instant, shifted
from service.records.ids import plausible
from service.records.status import ImageStatus
from service.records.tables import ImageBatch

# Long enough for a large batch on a CPU between two renewals.
LEASE_SECONDS = 120.0
REPUBLISH_SECONDS = 15.0
MAX_ATTEMPTS = 3

_CORE = {"synchronize_session": False, "populate_existing": True}


def create(session: Session, checkpoint_id: str, request: Mapping[str, Any]) -> ImageBatch:
    """A new queued batch; publish its id after the transaction has committed."""
    batch = ImageBatch(checkpoint_id=checkpoint_id, request=dict(request))
    session.add(batch)
    session.flush()
    return batch


def get(session: Session, image_id: str) -> ImageBatch:
    found = session.get(ImageBatch, image_id) if plausible(image_id) else None
    if found is None:
        raise NotFound(
            "images_not_found",
            f"There are no images {image_id!r}.",
            hint="POST /v1/checkpoints/{id}/images makes images.",
            param="image_id",
        )
    return found


def claim_next(session: Session, worker: str, now: Now = None) -> ImageBatch | None:
    """Makes the oldest queued batch this worker's, as its next attempt; None if nothing waits."""
    moment = instant(now)
    oldest = (
        select(ImageBatch.id)
        .where(ImageBatch.status == ImageStatus.QUEUED)
        .order_by(ImageBatch.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return session.scalar(
        update(ImageBatch)
        .where(ImageBatch.id == oldest, ImageBatch.status == ImageStatus.QUEUED)
        .values(
            status=ImageStatus.RUNNING,
            attempt=ImageBatch.attempt + 1,
            worker=worker,
            lease_expires_at=shifted(moment, LEASE_SECONDS),
            started_at=moment,
        )
        .returning(ImageBatch),
        execution_options=_CORE,
    )


def renew(session: Session, image_id: str, attempt: int, now: Now = None) -> bool:
    """Extends the lease; False: the batch is no longer this attempt's."""
    return _write(session, image_id, attempt, {"lease_expires_at": shifted(instant(now), LEASE_SECONDS)})


def finish(session: Session, image_id: str, attempt: int, result: Mapping[str, Any], now: Now = None) -> bool:
    """Ends the batch with what was made; False: it is no longer this attempt's."""
    values = {
        "status": ImageStatus.SUCCEEDED,
        "result": dict(result),
        "lease_expires_at": None,
        "finished_at": instant(now),
    }
    return _write(session, image_id, attempt, values)


def fail(session: Session, image_id: str, attempt: int, error: Mapping[str, Any], now: Now = None) -> bool:
    """Ends the batch with the reason; False: it is no longer this attempt's."""
    values = {
        "status": ImageStatus.FAILED,
        "error": dict(error),
        "lease_expires_at": None,
        "finished_at": instant(now),
    }
    return _write(session, image_id, attempt, values)


def stale(session: Session, now: Now = None) -> list[str]:
    """Queues again what a vanished worker held; the ids whose message may be lost, to be published.

    A batch that was lost too often has failed.
    """
    moment = instant(now)
    lost = (ImageBatch.status == ImageStatus.RUNNING, ImageBatch.lease_expires_at < moment)
    session.execute(
        update(ImageBatch)
        .where(*lost, ImageBatch.attempt >= MAX_ATTEMPTS)
        .values(
            status=ImageStatus.FAILED,
            error={
                "code": "worker_lost",
                "message": f"The worker that made these images vanished {MAX_ATTEMPTS} times.",
                "hint": "They may need more memory than a worker has: ask for fewer images at a time.",
            },
            lease_expires_at=None,
            finished_at=moment,
        ),
        execution_options=_CORE,
    )
    requeued = session.scalars(
        update(ImageBatch)
        .where(*lost)
        .values(status=ImageStatus.QUEUED, lease_expires_at=None, published_at=moment)
        .returning(ImageBatch.id),
        execution_options=_CORE,
    ).all()
    silent = session.scalars(
        update(ImageBatch)
        .where(
            ImageBatch.status == ImageStatus.QUEUED,
            ImageBatch.published_at < shifted(moment, -REPUBLISH_SECONDS),
        )
        .values(published_at=moment)
        .returning(ImageBatch.id),
        execution_options=_CORE,
    ).all()
    return [*requeued, *silent]


def _write(session: Session, image_id: str, attempt: int, values: Mapping[str, Any]) -> bool:
    mine = (
        ImageBatch.id == image_id,
        ImageBatch.attempt == attempt,
        ImageBatch.status == ImageStatus.RUNNING,
    )
    written = session.scalar(
        update(ImageBatch).where(*mine).values(**values).returning(ImageBatch.id), execution_options=_CORE
    )
    return written is not None

"""Batches of images asked of a checkpoint: queued by the API, made by sampling workers."""

from collections.abc import Collection

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from service.errors import Conflict, NotFound
from service.records import unwanted
from service.records.columns import Now, instant, shifted
from service.records.ids import plausible
from service.records.requests import MAX_ATTEMPTS, Requests
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch

_requests = Requests(
    ImageBatch,
    "img",
    {
        "code": "worker_lost",
        "message": f"The worker that made these images vanished {MAX_ATTEMPTS} times.",
        "hint": "They may need more memory than a worker has: ask for fewer images at a time.",
    },
)
create = _requests.create
create_all = _requests.create_all
claim = _requests.claim
claim_next = _requests.claim_next
renew = _requests.renew
release = _requests.release
finish_all = _requests.finish_all
fail = _requests.fail
stale = _requests.stale

_SOME = select(ImageBatch).where(ImageBatch.id.in_(bindparam("ids", expanding=True)))


def get(session: Session, image_id: str) -> ImageBatch:
    found = session.get(ImageBatch, image_id) if plausible(image_id) else None
    if found is None:
        raise not_found(image_id)
    return found


def get_all(session: Session, image_ids: Collection[str]) -> dict[str, ImageBatch]:
    """Those of these batches that there are, by id."""
    return {row.id: row for row in session.scalars(_SOME, {"ids": list(image_ids)})}


def touch(session: Session, image_id: str) -> ImageBatch:
    """Writes to the row, for a durable transaction waits for the disk only if something has changed.

    It counts as published now, which delays by seconds that it is published again.
    """
    touched = update(ImageBatch).where(ImageBatch.id == image_id).values(published_at=instant(None))
    session.connection().execute(touched)
    return get(session, image_id)


def not_found(image_id: str) -> NotFound:
    return NotFound(
        "images_not_found",
        f"There are no images {image_id!r}.",
        hint="POST /v1/checkpoints/{id}/images makes images.",
        param="image_id",
    )


def cancel(session: Session, image_id: str) -> ImageBatch:
    """Nobody wants them any more: a worker that makes them stops within seconds. Conflict if it has."""
    get(session, image_id)
    open_ = ImageBatch.status.in_([RequestStatus.QUEUED, RequestStatus.RUNNING])
    cancel = update(ImageBatch).where(ImageBatch.id == image_id, open_)
    cancel = cancel.values(status=RequestStatus.CANCELLED, lease_expires_at=None, finished_at=instant(None))
    fresh = {"synchronize_session": False, "populate_existing": True}
    batch = session.scalar(cancel.returning(ImageBatch), execution_options=fresh) or get(session, image_id)
    if batch.status != RequestStatus.CANCELLED:
        raise Conflict(
            "images_over",
            f"The images {image_id!r} are {batch.status.value}: there is nothing to cancel.",
            hint=f"GET /v1/images/{image_id} shows them.",
        )
    return batch


def expire(session: Session, seconds: float, limit: int = unwanted.AT_ONCE, now: Now = None) -> int:
    """Deletes batches that ended so long ago, and gives up their files; how many those were."""
    before = shifted(instant(now), -seconds)
    ended = select(ImageBatch.id).where(ImageBatch.status.in_(OVER), ImageBatch.finished_at < before)
    ids = session.scalars(ended.order_by(ImageBatch.id).limit(limit)).all()
    unwanted.add(session, *(f"images/{image_id}" for image_id in ids))
    session.execute(delete(ImageBatch).where(ImageBatch.id.in_(ids)))
    return len(ids)

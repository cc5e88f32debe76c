"""Batches of images asked of a checkpoint: queued by the API, made by sampling workers."""

from sqlalchemy.orm import Session

from service.errors import NotFound
from service.records.ids import plausible
from service.records.requests import MAX_ATTEMPTS, Requests
from service.records.tables import ImageBatch

_requests = Requests(
    ImageBatch,
    {
        "code": "worker_lost",
        "message": f"The worker that made these images vanished {MAX_ATTEMPTS} times.",
        "hint": "They may need more memory than a worker has: ask for fewer images at a time.",
    },
)
create = _requests.create
claim = _requests.claim
claim_next = _requests.claim_next
renew = _requests.renew
finish = _requests.finish
fail = _requests.fail
stale = _requests.stale


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

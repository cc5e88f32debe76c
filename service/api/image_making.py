"""Images ordered and waited for, whichever route they were asked through."""

from collections.abc import Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from service.api.waiting import wait_until
from service.errors import AtelierError, Conflict
from service.queue import Publisher, images_channel
from service.records import images
from service.records.database import Database
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch


async def make(
    request: Request,
    database: Database,
    publisher: Publisher,
    order: Callable[[], ImageBatch],
    seconds: float,
    *,
    keep: bool = False,
) -> ImageBatch:
    """Order images and wait for them, so many seconds at most; the batch as it was seen last.

    A client that goes away cancels them, unless it means to come back (`keep`).
    """
    batch = await run_in_threadpool(order)
    # Listened to before anybody knows of the batch, so that its completion cannot be missed.
    async with publisher.listen(images_channel(batch.id)) as bell:
        await run_in_threadpool(publisher.ring_for_images, batch.id)
        # Who does not wait is answered 202, however quick the worker is: one shape of reply to read.
        if seconds <= 0:
            return batch
        seen = await wait_until(
            request, bell, batch, lambda: read(database, batch.id), lambda seen: seen.status in OVER, seconds
        )
    if seen.status not in OVER and not keep and await request.is_disconnected():
        return await run_in_threadpool(cancel, database, batch.id)
    return seen


def read(database: Database, image_id: str) -> ImageBatch:
    with database.read() as session:
        return images.get(session, image_id)


def cancel(database: Database, image_id: str) -> ImageBatch:
    with database.transaction() as session:
        return images.cancel(session, image_id)


def artifacts_of(batch: ImageBatch) -> list[str]:
    """The keys of its files; last the one that holds all images, where there is one."""
    result = batch.result or {"data": []}
    keys = [image["artifact"] for image in result["data"]]
    keys += [result.get(whole) for whole in ("grid", "archive", "animation")]
    return [key for key in keys if key is not None]


def failure(batch: ImageBatch) -> AtelierError:
    """What to raise for a batch that has ended without images."""
    if batch.status == RequestStatus.CANCELLED:
        return Conflict(
            "images_cancelled",
            f"The images {batch.id!r} were cancelled.",
            hint="Ask for them again; with the same seeds they are the same.",
        )
    error = batch.error or {}
    return AtelierError(
        error.get("code", "sampling_failed"),
        error.get("message", "The images could not be made."),
        status=503 if error.get("code") == "worker_lost" else None,
        hint=error.get("hint"),
    )

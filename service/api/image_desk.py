"""The desk at which images are ordered and waited for, whichever route they were asked through."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.together import Together
from service.api.waiting import wait_until
from service.errors import AtelierError, Conflict
from service.queue import Publisher, images_channel
from service.records import images
from service.records.database import Database
from service.records.idempotency import Once, once
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch

_STATUS = {"worker_lost": 503, "checkpoint_deleted": 404}
"""Of errors that are not the service's own fault."""


class Wanted(NamedTuple):
    """What is asked of which checkpoint; raised as an AtelierError where it cannot be had."""

    checkpoint_id: str
    request: Mapping[str, Any]


Prepare = Callable[[Session], Wanted]


class ImageDesk:
    """Orders that come together are one transaction, and so are looks at what became of them."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._order = Together(self._order_all)
        self._ring = Together(self._ring_once)
        self._look = Together(self._look_all)

    async def make(
        self, request: Request, prepare: Prepare, named: Once | None, seconds: float
    ) -> ImageBatch:
        """Order images and wait for them, so many seconds at most; the batch as it was seen last.

        A client that goes away cancels them, unless its order has a name: it means to come back.
        """
        if named is None:
            batch = await self._order(prepare)
        else:
            batch = await run_in_threadpool(self._order_named, prepare, named)
        # Listened to before anybody knows of the batch, so that its completion cannot be missed.
        async with self._publisher.listen(images_channel(batch.id)) as bell:
            await self._ring(batch.id)
            # Who does not wait is answered 202, however quick the worker is: one shape of reply to read.
            if seconds <= 0:
                return batch
            seen = await wait_until(
                request, bell, batch, lambda: self._look(batch.id), lambda seen: seen.status in OVER, seconds
            )
        if seen.status not in OVER and named is None and await request.is_disconnected():
            return await run_in_threadpool(cancel, self._database, batch.id)
        return seen

    def _order_all(self, wanted: list[Prepare]) -> list[ImageBatch | Exception]:
        with self._database.transaction() as session:
            prepared = [_prepared(prepare, session) for prepare in wanted]
            made = iter(images.create_all(session, [one for one in prepared if isinstance(one, Wanted)]))
            return [next(made) if isinstance(one, Wanted) else one for one in prepared]

    def _order_named(self, prepare: Prepare, named: Once) -> ImageBatch:
        with self._database.transaction() as session:
            return once(
                session,
                named,
                lambda: images.create(session, *prepare(session)),
                lambda made: images.get(session, made),
            )

    def _ring_once(self, image_ids: list[str]) -> list[bool]:
        return [self._publisher.ring_for_images(image_ids[-1])] * len(image_ids)

    def _look_all(self, image_ids: list[str]) -> list[ImageBatch | Exception]:
        with self._database.read() as session:
            found = images.get_all(session, image_ids)
        return [found.get(image_id) or images.not_found(image_id) for image_id in image_ids]


def _prepared(prepare: Prepare, session: Session) -> Wanted | AtelierError:
    try:
        return prepare(session)
    except AtelierError as error:
        return error


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
        status=_STATUS.get(error.get("code", "")),
        hint=error.get("hint"),
    )

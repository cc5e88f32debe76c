"""The desk at which images are ordered and waited for, whichever route they were asked through."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.together import Together
from service.api.waiting import wait_until
from service.bells import Bell
from service.errors import AtelierError, Conflict
from service.queue import Publisher, images_channel
from service.records import images
from service.records.database import Database
from service.records.idempotency import Once, once
from service.records.ids import new_id
from service.records.requests import Asked
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch

_STATUS = {"worker_lost": 503, "checkpoint_deleted": 404}
"""Of errors that are not the service's own fault."""


Prepare = Callable[[Session], Asked]
"""What is asked of which checkpoint; raises an AtelierError where it cannot be had."""


Show = Callable[[ImageBatch], Response]
"""Reads the picture of a batch that has succeeded."""


class Seen(NamedTuple):
    """A batch as it was seen last, and its picture where that was read in passing."""

    batch: ImageBatch
    shown: Response | None = None

    @property
    def is_over(self) -> bool:
        return self.batch.status in OVER


class _Look(NamedTuple):
    image_id: str
    show: Show | None


class _Order(NamedTuple):
    image_id: str
    prepare: Prepare
    durable: bool


class ImageDesk:
    """Orders that come together are one transaction, and so are looks at what became of them."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._order = Together(self._order_all)
        self._look = Together(self._look_all)

    async def make(
        self,
        request: Request,
        prepare: Prepare,
        named: Once | None,
        seconds: float,
        show: Show | None = None,
    ) -> Seen:
        """Order images and wait for them, so many seconds at most; the batch as it was seen last.

        `show` is called in the thread that has seen them done, and holds up who waits for that thread.

        A client that goes away cancels them, unless its order has a name: it means to come back. An order is
        on the disk before anybody is told to come back for it; who waits for a picture is not kept waiting.
        """
        # Listened to before a worker knows of the batch, so that its completion cannot be missed.
        if named is None:
            image_id = new_id("img")
            async with self._publisher.listen(images_channel(image_id)) as bell:
                batch = await self._order(_Order(image_id, prepare, durable=seconds <= 0))
                seen = await self._wait(request, bell, batch, seconds, show)
            if seconds <= 0 or seen.is_over:
                return seen
            leave = cancel if await request.is_disconnected() else put_on_disk
            return Seen(await run_in_threadpool(leave, self._database, image_id))
        batch = await run_in_threadpool(self._order_named, prepare, named)
        async with self._publisher.listen(images_channel(batch.id)) as bell:
            await run_in_threadpool(self._publisher.ring_for_images, batch.id)
            return await self._wait(request, bell, batch, seconds, show)

    async def _wait(
        self, request: Request, bell: Bell, batch: ImageBatch, seconds: float, show: Show | None
    ) -> Seen:
        # Who does not wait is answered 202, however quick the worker is: one shape of reply to read.
        if seconds <= 0:
            return Seen(batch)
        look = _Look(batch.id, show)
        return await wait_until(
            request, bell, Seen(batch), lambda: self._look(look), lambda seen: seen.is_over, seconds
        )

    def _order_all(self, orders: list[_Order]) -> Sequence[ImageBatch | Exception]:
        with self._database.transaction(durable=any(order.durable for order in orders)) as session:
            prepared = [_prepared(order, session) for order in orders]
            made = iter(images.create_all(session, [one for one in prepared if isinstance(one, Asked)]))
            results = [next(made) if isinstance(one, Asked) else one for one in prepared]
        rows = [row for row in results if isinstance(row, ImageBatch)]
        if rows:  # in this thread: a worker then hears of them a thread's turn earlier
            self._publisher.ring_for_images(rows[-1].id)
        return results

    def _order_named(self, prepare: Prepare, named: Once) -> ImageBatch:
        with self._database.transaction() as session:
            return once(
                session,
                named,
                lambda: images.create_all(session, [prepare(session)])[0],
                lambda made: images.get(session, made),
            )

    def _look_all(self, looks: list[_Look]) -> list[Seen | Exception]:
        with self._database.read() as session:
            found = images.get_all(session, [look.image_id for look in looks])
        return [_seen(look, found.get(look.image_id)) for look in looks]


def _prepared(order: _Order, session: Session) -> Asked | AtelierError:
    try:
        return order.prepare(session)._replace(id=order.image_id)
    except AtelierError as error:
        return error


def _seen(look: _Look, batch: ImageBatch | None) -> Seen | Exception:
    if batch is None:
        return images.not_found(look.image_id)
    if look.show is None or batch.status != RequestStatus.SUCCEEDED:
        return Seen(batch)
    try:
        return Seen(batch, look.show(batch))
    except AtelierError as error:
        return error


def read(database: Database, image_id: str) -> ImageBatch:
    with database.read() as session:
        return images.get(session, image_id)


def put_on_disk(database: Database, image_id: str) -> ImageBatch:
    """The batch as it is, and no power cut takes it back any more."""
    with database.transaction() as session:
        return images.touch(session, image_id)


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

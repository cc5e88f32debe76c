"""Wakes whoever waits in this process for an announcement; one subscription to Redis serves all of them."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Protocol

import redis
import redis.asyncio

logger = logging.getLogger(__name__)

CHANNEL = "atelier:bells"
"""Of Redis; each message names what has happened, a line each."""
SOCKET_SECONDS = 1.0
RETRY_SECONDS = 1.0


class Bell(Protocol):
    """Rings when something was announced on a channel since the last call."""

    async def __call__(self, timeout: float) -> bool: ...


class Bells:
    """Listens while anybody ever has, from the first `listen` of an event loop to its end or `close`.

    Two hundred clients that wait for images are then two hundred events and one connection. With Redis away
    no bell rings, and each wait lasts its whole timeout: look at SQL between waits.
    """

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscription: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Bell]:
        """Listens from here on, so that what is announced between two waits is not missed."""
        rung = asyncio.Event()
        self._waiting[channel].add(rung)

        async def bell(timeout: float) -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):  # `wait_for` would make a task
                    await rung.wait()
            was_rung = rung.is_set()
            rung.clear()
            return was_rung

        try:
            await self._subscribed()
            yield bell
        finally:
            self._waiting[channel].discard(rung)
            if not self._waiting[channel]:
                del self._waiting[channel]

    async def close(self) -> None:
        if self._subscription is not None:
            self._subscription.cancel()
            await asyncio.wait([self._subscription])
            self._subscription = None

    async def _subscribed(self) -> None:
        """Returns once the subscription stands, or its first try has failed."""
        loop, task = asyncio.get_running_loop(), self._subscription
        if task is None or task.done() or task.get_loop() is not loop:
            self._tried = asyncio.Event()
            self._subscription = loop.create_task(self._listen(self._tried), name="bells")
        await self._tried.wait()

    async def _listen(self, tried: asyncio.Event) -> None:
        while True:
            try:
                await self._hear(tried)
            except (redis.RedisError, OSError) as error:
                logger.warning("announcements are not heard: %s", error)
            tried.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self, tried: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                redis.asyncio.Redis.from_url(
                    self._url,
                    socket_timeout=SOCKET_SECONDS,
                    socket_connect_timeout=SOCKET_SECONDS,
                    health_check_interval=25,
                    retry=None,
                )
            )
            subscription: Any = await stack.enter_async_context(client.pubsub(ignore_subscribe_messages=True))
            await subscription.subscribe(CHANNEL)
            if tried.is_set():
                self._ring_all()  # what was announced while nobody heard is looked for
            tried.set()
            while True:
                message = await subscription.get_message(timeout=30.0)
                if message is not None:
                    for channel in message["data"].decode(errors="replace").split("\n"):
                        self._ring(channel)

    def _ring(self, channel: str) -> None:
        for rung in self._waiting.get(channel, ()):
            rung.set()

    def _ring_all(self) -> None:
        for channel in self._waiting:
            self._ring(channel)

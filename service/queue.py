"""Messages to workers through Redis: ids that ring a doorbell, questions with an answer, and announcements.

Nothing here holds truth. A message that is lost costs time, and the reconciler sends it again.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from celery import Celery
from kombu.exceptions import OperationalError

from service import bells
from service.bells import Bell
from service.errors import Invalid, Unavailable

# Every task, and the queue of the workers that take it.
TASKS: Mapping[str, str] = {
    "atelier.train": "train",
    "atelier.sample": "sample",
    "atelier.describe": "sample",
    "atelier.export": "sample",
    "atelier.prepare": "prepare",
    "atelier.evaluate": "prepare",
    "atelier.suspect": "prepare",
}
SOCKET_SECONDS = bells.SOCKET_SECONDS
REPLY_SECONDS = 60
DOORBELL = "atelier:doorbell:images"
_REPLY_PREFIX = "atelier:reply:"
_UNREACHABLE = (redis.RedisError, OperationalError, OSError)


class Publisher:
    """Sends messages, best effort: with Redis away every call gives up within about a second."""

    def __init__(self, redis_url: str) -> None:
        self._url = client_url(redis_url)
        self._bells = bells.Bells(self._url)
        # Celery's default fixup imports the worker's side of Celery.
        self._celery = Celery("atelier", broker=broker_url(redis_url), fixups=[], set_as_current=False)
        self._celery.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            task_publish_retry=False,
            broker_connection_retry=False,
            broker_connection_max_retries=0,
            broker_transport_options={
                "max_retries": 0,
                "socket_timeout": SOCKET_SECONDS,
                "socket_connect_timeout": SOCKET_SECONDS,
            },
        )
        self._redis = redis.Redis.from_url(
            self._url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS, retry=None
        )

    def send(self, task: str, *args: Any, queue: str | None = None, expires: float | None = None) -> bool:
        """Sends a task; False if Redis did not take it. Workers drop it when it is `expires` seconds old."""
        try:
            self._celery.send_task(
                task, args=args, queue=queue or TASKS[task], expires=expires, retry=False, ignore_result=True
            )
        except _UNREACHABLE:
            return False
        return True

    def ring_for_images(self, image_id: str) -> bool:
        """Wakes the sampling workers that listen; where none does, a message waits for the next one.

        A message would cost its sender and its reader a few milliseconds each: more than an image.
        """
        try:
            if self._redis.publish(DOORBELL, image_id):
                return True
        except _UNREACHABLE:
            return False
        return self.send("atelier.sample", image_id)

    def idle(self, task: str) -> bool:
        """Whether no message waits for the workers of this task; False as well when Redis does not say."""
        try:
            return self._redis.llen(TASKS[task]) == 0
        except _UNREACHABLE:
            return False

    async def ask(
        self, task: str, *args: Any, timeout: float, queue: str | None = None
    ) -> dict[str, Any] | None:
        """Sends `task(*args, reply_to)` and waits for its reply; None if none came in time."""
        reply_to = _REPLY_PREFIX + secrets.token_hex(16)
        try:
            async with asyncio.timeout(timeout + 2 * SOCKET_SECONDS):
                # Without an expiry, workers that come back would first answer what nobody asks any more.
                if not await asyncio.to_thread(
                    self.send, task, *args, reply_to, queue=queue, expires=timeout + 30
                ):
                    return None
                async with self._client(timeout + SOCKET_SECONDS) as client:
                    answer = await client.blpop([reply_to], timeout=timeout)
        except (*_UNREACHABLE, TimeoutError):
            return None
        return None if answer is None else _decoded(answer[1])

    def announce(self, *channels: str) -> bool:
        """Wakes whoever listens on one of the channels; False if Redis is away."""
        try:
            self._redis.publish(bells.CHANNEL, "\n".join(channels))
        except _UNREACHABLE:
            return False
        return True

    def listen(self, channel: str) -> contextlib.AbstractAsyncContextManager[Bell]:
        """Listens from here on, so that what is announced between two waits is not missed."""
        return self._bells.listen(channel)

    async def close_bells(self) -> None:
        """To be awaited in the event loop that has listened, before it ends."""
        await self._bells.close()

    def check(self) -> None:
        """Raises `Unavailable` unless Redis answers."""
        try:
            self._redis.ping()
        except _UNREACHABLE as error:
            raise Unavailable(
                "redis_unavailable",
                "Redis did not answer.",
                hint="Check ATELIER_REDIS_URL. Jobs are accepted meanwhile, and start when it is back.",
            ) from error

    def close(self) -> None:
        self._celery.close()
        self._redis.close()

    def _client(self, socket_timeout: float) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._url, socket_timeout=socket_timeout, socket_connect_timeout=SOCKET_SECONDS, retry=None
        )


def images_channel(image_id: str) -> str:
    """Where it is announced that a batch of images is done."""
    return f"images:{image_id}"


def evaluations_channel(evaluation_id: str) -> str:
    """Where it is announced that an evaluation is done."""
    return f"evaluations:{evaluation_id}"


def reply(redis_url: str, reply_to: str, answer: Mapping[str, Any]) -> bool:
    """Answers a question of `Publisher.ask`; False if Redis is away. The answer is kept for a minute."""
    if not reply_to.startswith(_REPLY_PREFIX):
        raise Invalid(
            "bad_reply_key", f"{reply_to!r} is not a key for replies.", hint="Pass on the one received."
        )
    try:
        with redis.Redis.from_url(
            client_url(redis_url), socket_timeout=5, socket_connect_timeout=5, retry=None
        ) as client:
            client.pipeline().lpush(reply_to, json.dumps(dict(answer))).expire(
                reply_to, REPLY_SECONDS
            ).execute()
    except _UNREACHABLE:
        return False
    return True


def broker_url(redis_url: str) -> str:
    """The address as Celery wants it: a socket is `redis+socket://`."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = parts.query.replace("db=", "virtual_host=")
    return f"redis+socket://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def client_url(redis_url: str) -> str:
    """The address as redis-py wants it: a socket is `unix://`."""
    parts = urlsplit(redis_url)
    if parts.scheme in {"redis", "rediss", "unix"}:
        return redis_url
    if parts.scheme != "redis+socket":
        raise Invalid(
            "bad_redis_url",
            "The Redis address is not one this service can use.",
            hint="Give redis://:password@host:6379/0, rediss://… or unix:///path/to/socket.",
            param="redis_url",
        )
    query = parts.query.replace("virtual_host=", "db=")
    return f"unix://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def _decoded(answer: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

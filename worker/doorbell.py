"""Listens for requests for images on Redis, beside Celery's messages: a ring is heard in a millisecond."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis

from service.queue import DOORBELL, client_url

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks at whether to stop
RETRY_EVERY = 1.0


def answer(redis_url: str, ring: Callable[[], None], stopping: threading.Event) -> threading.Thread:
    """Call `ring`, which returns at once, for each ring, from a thread of its own; several may be one.

    What was asked for while nobody listened is rung for once it does. The thread ends when `stopping` is set,
    and the process waits for it.
    """
    thread = threading.Thread(target=_listen, args=(redis_url, ring, stopping), name="doorbell")
    thread.start()
    return thread


def _listen(redis_url: str, ring: Callable[[], None], stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            with redis.Redis.from_url(
                client_url(redis_url), socket_timeout=5, socket_connect_timeout=5, retry=None
            ) as client:
                _hear(client, ring, stopping)
        except (redis.RedisError, OSError) as error:
            logger.warning("the doorbell is not heard, messages are: %s", error)
        except Exception:
            logger.exception("a ring was not answered")
        stopping.wait(RETRY_EVERY)


def _hear(client: redis.Redis, ring: Callable[[], None], stopping: threading.Event) -> None:
    listening: Any = client
    with listening.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(DOORBELL)
        _next(subscription, LOOK_EVERY)  # that it is subscribed
        ring()
        while not stopping.is_set():
            if _next(subscription, LOOK_EVERY):
                ring()
                if _drained(subscription):
                    ring()


def _drained(subscription: Any) -> bool:
    """Take what has come meanwhile; whether anything had."""
    some = False
    while _next(subscription, 0.0):
        some = True
    return some


def _next(subscription: Any, timeout: float) -> bool:
    return subscription.get_message(timeout=timeout) is not None

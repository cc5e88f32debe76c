"""Rings for images: heard at once, also those of before, and by Celery's worker where nobody listens."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from service.queue import Publisher
from tests.conftest import running_redis
from worker import doorbell

Wait = Callable[..., None]


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def listeners(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.pubsub_numsub(doorbell.DOORBELL)[0][1])  # type: ignore[index] # no await


def test_a_ring_is_answered_without_a_message_and_several_are_one(
    redis_url: str, stopping: threading.Event, wait_until: Wait
) -> None:
    """Breaks when an image waits for a message's way through Celery, or each of many rings is answered."""
    rings: list[float] = []
    first = threading.Event()

    def ring() -> None:
        rings.append(time.monotonic())
        first.wait()

    thread = doorbell.answer(redis_url, ring, stopping)
    publisher = Publisher(redis_url)
    wait_until(lambda: len(rings) == 1, "the look at what was asked for before")
    for number in range(100):
        assert publisher.ring_for_images(f"img_{number}")
    first.set()
    wait_until(lambda: len(rings) >= 2, "the answer")
    time.sleep(0.3)
    assert len(rings) <= 3
    assert publisher.idle("atelier.sample"), "a message was sent as well"
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()
    assert publisher.ring_for_images("img_later")
    assert not publisher.idle("atelier.sample"), "nobody was told"
    publisher.close()


def test_a_redis_that_was_away_is_listened_to_again(stopping: threading.Event, wait_until: Wait) -> None:
    """Breaks when a restart of Redis leaves a worker deaf."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"redis://127.0.0.1:{port}/0"
    rings: list[None] = []
    for _ in range(2):
        with running_redis("--port", str(port), "--bind", "127.0.0.1"):
            if not rings:
                doorbell.answer(address, lambda: rings.append(None), stopping)
            wait_until(lambda: listeners(address), "somebody listens")
            count = len(rings)
            publisher = Publisher(address)
            assert publisher.ring_for_images("img_1")
            wait_until(lambda count=count: len(rings) > count, "an answer")
            publisher.close()

"""A worker tells that it runs for as long as it does, and no longer."""

import threading
from collections.abc import Callable

import pytest

from service.records import workers
from worker import presence
from worker.resources import Resources


def names(resources: Resources) -> list[str]:
    with resources.database.read() as session:
        return [row.name for row in workers.alive(session)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_is_listed_until_it_stops(resources: Resources, wait_until: Callable[..., None]) -> None:
    """Breaks when nobody can see which workers there are, or one that has stopped is still shown."""
    stopping = threading.Event()
    presence.start(resources, {"sample"}, stopping, lambda: [{"checkpoint_id": "c", "size_bytes": 1}])
    try:
        wait_until(lambda: names(resources), "the worker is listed")
        with resources.database.read() as session:
            assert workers.alive(session)[0].queues == ["sample"]
    finally:
        stopping.set()
    wait_until(lambda: not names(resources), "the worker has left")

"""Tells every few seconds that this worker runs, and what it has in memory."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from service.errors import AtelierError
from service.records import workers
from worker.devices import told_device
from worker.resources import Resources
from worker.supervisor import worker_name

logger = logging.getLogger(__name__)

Warm = Callable[[], Sequence[Mapping[str, Any]]]


def start(resources: Resources, queues: Collection[str], stopping: threading.Event, warm: Warm) -> None:
    """From a thread of its own until `stopping` is set; then the worker takes its leave."""
    arguments = (resources, sorted(queues), stopping, warm)
    threading.Thread(target=_tell, args=arguments, daemon=True, name="presence").start()


def _tell(resources: Resources, queues: list[str], stopping: threading.Event, warm: Warm) -> None:
    name, device = worker_name(), told_device(resources.settings.device)
    while True:
        try:
            with resources.database.transaction() as session:
                if stopping.is_set():
                    workers.leave(session, name)
                    return
                workers.tell(session, name, queues, device, warm())
        except AtelierError as error:
            logger.warning("nobody hears that this worker runs: %s", error)
            if stopping.is_set():
                return
        stopping.wait(workers.TELLS_EVERY)

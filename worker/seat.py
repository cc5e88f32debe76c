"""The place of a training worker's one job, which a message asks for or the idle worker finds by itself."""

import logging
import threading

from service.errors import AtelierError
from worker.resources import Resources
from worker.supervisor import StartTrainer, supervise, supervise_next

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
TURN_EVERY = 0.5  # seconds between two looks at whether to stop, of a message that waits for its turn


class Seat:
    """Trains one job at a time.

    While Redis is away, or has forgotten its messages, queued jobs are found in SQL. `look` costs one indexed
    query a second, and only while nothing is trained; behind a job it looks at once, so that one whose
    trainer was killed goes on without any message.
    """

    def __init__(self, resources: Resources, stopping: threading.Event, start: StartTrainer) -> None:
        self._resources = resources
        self._stopping = stopping
        self._start = start
        self._taken = threading.Lock()
        self._freed = threading.Event()

    def train(self, job_id: str) -> None:
        """Train the job of a message, or the one that has waited longest, once the seat is free."""
        while not self._stopping.is_set():
            if self._taken.acquire(timeout=TURN_EVERY):
                try:
                    if supervise(job_id, self._resources, self._stopping, self._start):
                        self._freed.set()
                finally:
                    self._taken.release()
                return

    def look(self) -> threading.Thread:
        """Look for waiting jobs in a thread of its own until `stopping` is set; the process waits for it."""
        thread = threading.Thread(target=self._look, name="seat")
        thread.start()
        return thread

    def _look(self) -> None:
        while not self._stopping.is_set():
            self._freed.wait(LOOK_EVERY)
            self._freed.clear()
            if not self._taken.acquire(blocking=False):
                continue
            try:
                if supervise_next(self._resources, self._stopping, self._start):
                    self._freed.set()
            except AtelierError as error:
                logger.warning("no job was looked for: %s", error)
            except Exception:
                logger.exception("a job that was found could not be trained")
            finally:
                self._taken.release()

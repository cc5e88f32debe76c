"""The lease of one attempt: renewed from a thread of its own, which also hears what is asked of the job."""

import logging
import threading
import time
from enum import StrEnum
from typing import Self

from service.errors import NotFound, Unavailable
from service.records import jobs, leases
from service.records.database import Database
from service.records.status import HELD, JobStatus

logger = logging.getLogger(__name__)

RENEW_EVERY = 3.0
LOOK_EVERY = 1.0
# Counted from before a renewal is sent, so this ends before the database's own 15 s do: whoever could not
# renew stops while the job is still its own.
HOLDS_FOR = 13.0


class Order(StrEnum):
    """What the record asks of the attempt that holds it."""

    GO_ON = "go_on"
    PAUSE = "pause"
    CANCEL = "cancel"
    LOST = "lost"


class Lease:
    """Keeps an attempt's claim alive while the `with` block runs; `order` says at any time what to do."""

    def __init__(self, database: Database, job_id: str, attempt: int) -> None:
        self._database = database
        self._job_id = job_id
        self._attempt = attempt
        self._order = Order.GO_ON
        self._renewed = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name=f"lease-{job_id}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=10)

    @property
    def order(self) -> Order:
        """LOST as well when no renewal has succeeded for so long that the lease may have run out."""
        if time.monotonic() - self._renewed > HOLDS_FOR:
            self._order = Order.LOST
        return self._order

    def _keep(self) -> None:
        while self._order is not Order.LOST and not self._closing.wait(LOOK_EVERY):
            asked_at = time.monotonic()
            try:
                if asked_at - self._renewed >= RENEW_EVERY - LOOK_EVERY / 2:
                    status = self._renew()
                    if self.order is not Order.LOST and status is not None:
                        self._renewed = asked_at
                else:
                    status = self._look()
            except Unavailable as error:
                logger.warning("job %s: the lease was not renewed: %s", self._job_id, error)
                continue
            self._obey(status)

    def _obey(self, status: JobStatus | None) -> None:
        if status is None:
            self._order = Order.LOST
        elif status is JobStatus.CANCELLING and self._order is not Order.LOST:
            self._order = Order.CANCEL
        elif status is JobStatus.PAUSING and self._order is Order.GO_ON:
            self._order = Order.PAUSE

    def _renew(self) -> JobStatus | None:
        with self._database.transaction() as session:
            return leases.renew(session, self._job_id, self._attempt)

    def _look(self) -> JobStatus | None:
        """The same answer as a renewal's, without a write."""
        with self._database.read() as session:
            try:
                job = jobs.get(session, self._job_id)
            except NotFound:
                return None
            return job.status if job.attempt == self._attempt and job.status in HELD else None

"""Keeps leases from a thread of its own, however long what is done under them takes."""

import logging
import threading
from collections.abc import Callable
from typing import Self

from service.errors import Unavailable

logger = logging.getLogger(__name__)

RENEW_EVERY = 3.0


class Renewal:
    """Calls `renew` every three seconds for as long as the `with` block runs, or until it answers False."""

    def __init__(self, what: str, renew: Callable[[], bool]) -> None:
        self._what = what
        self._renew = renew
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name=f"lease-{what}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._closing.wait(RENEW_EVERY):
            try:
                if not self._renew():
                    return
            except Unavailable as error:
                logger.warning("%s: the lease was not renewed: %s", self._what, error)

"""Ctrl-C, SIGTERM and a closed terminal as a question asked between two steps, so that no step is torn."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user asked to stop. Not an Exception: nothing but the end of the command may swallow it."""


class Interruption:
    """Counts the requests to stop while it is entered; outside it the signals do what they did before."""

    def __init__(self) -> None:
        self.requests = 0
        self._raising = False
        self._previous = dict.fromkeys(SIGNALS, signal.SIG_DFL)

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._heard) for number in SIGNALS}  # type: ignore[misc]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for."""
        if self.requests:
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise Interrupted as soon as a stop is asked for."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.05))
        self.check()

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Inside, a stop interrupts whatever is being done: for steps that leave nothing behind when torn."""
        self.check()
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1
        if self._raising:
            self._raising = False
            raise Interrupted

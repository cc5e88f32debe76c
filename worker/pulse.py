"""Tells that a trainer moves while it has nothing to tell: an evaluation or a first step may take minutes."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType

MOVES = "moves"
"""The event's type. It is for the watchdog alone, and is not recorded."""
EVERY = 1.0  # seconds


@contextmanager
def pulse(emit: Callable[[dict[str, str]], None]) -> Iterator[None]:
    """Inside, an event is emitted each second in which the calling thread has got on in its Python code."""
    ending = threading.Event()
    thread = threading.Thread(
        target=_tell, args=(threading.get_ident(), emit, ending), daemon=True, name="pulse"
    )
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _tell(thread: int, emit: Callable[[dict[str, str]], None], ending: threading.Event) -> None:
    last = position(thread)
    while not ending.wait(EVERY):
        now = position(thread)
        if now != last:
            emit({"type": MOVES})
        last = now


def position(thread: int) -> list[tuple[CodeType, int]]:
    """Where a thread is: each function it is in, and the instruction it is at there."""
    places, frame = [], sys._current_frames().get(thread)
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return places

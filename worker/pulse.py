"""Tells that a trainer moves while it has nothing to tell: an evaluation or a first step may take minutes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType

MOVES = "moves"
"""The event's type. It is for the watchdog alone, and is not recorded."""
TELL_EVERY = 1.0  # seconds
LOOK_EVERY = 0.2


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
    last, moved, told_at = position(thread), False, time.monotonic()
    while not ending.wait(LOOK_EVERY):
        now = position(thread)
        last, moved = now, moved or now != last
        if moved and time.monotonic() - told_at >= TELL_EVERY:
            emit({"type": MOVES})
            moved, told_at = False, time.monotonic()


def position(thread: int) -> list[tuple[CodeType, int]]:
    """Where a thread is: each function it is in, and the instruction it is at there."""
    places, frame = [], sys._current_frames().get(thread)
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return places

"""One trainer subprocess: its start, its events, its log, and its certain end."""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Protocol

from service.records.logs import Line

logger = logging.getLogger(__name__)

Event = dict[str, Any]

TRAINER = (sys.executable, "-m", "worker.trainer")
GROUP_PATIENCE = 2.0  # seconds for what the trainer had started to be gone, too
STACKS_SIGNAL = signal.SIGUSR1
STACKS_PATIENCE = 2.0
MAX_LINE_BYTES = 4 * 1024 * 1024
FIRST_LINES = 5000
LAST_LINES = 1000
TAIL_LINES = 20
LINE_CHARACTERS = 2000
WAITING_EVENTS = 4096  # when so many wait to be recorded, the trainer's next write blocks: it holds its work


class Child(Protocol):
    """A child of this process that leads a session of its own, and this side's ends of its pipes."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def wait(self) -> int:
        """Reap it; its exit status, or minus the number of the signal that ended it."""


def start_fresh(arguments: Sequence[str] = TRAINER) -> Child:
    """A trainer in a new interpreter, which first spends seconds on importing torch."""
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=trainer_environment(),
    )


def trainer_environment() -> dict[str, str]:
    """The service's settings and the store's keys, which are secrets, stay in this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "AWS_"))}


class TrainerLog:
    """What a trainer wrote to stderr, by line: the first as they come, and of a flood the last at its end."""

    def __init__(self, first: int = FIRST_LINES, last: int = LAST_LINES) -> None:
        self._room = first
        self._fresh: list[Line] = []
        self._held: deque[Line] = deque(maxlen=last)
        self._recent: deque[str] = deque(maxlen=TAIL_LINES)
        self._beyond = 0
        self._partial = b""
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        with self._lock:
            *whole, self._partial = (self._partial + chunk).split(b"\n")
            for line in whole:
                self._add(line)
            if len(self._partial) > 4 * LINE_CHARACTERS:  # not the way to fill this process's memory
                self._add(self._partial)
                self._partial = b""

    def take(self) -> list[Line]:
        """Those of the first lines that came since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
            return fresh

    def rest(self) -> list[Line]:
        """Once it has ended: what `take` has not given yet, and of lines beyond the first ones the last."""
        with self._lock:
            if self._partial:
                self._add(self._partial)
                self._partial = b""
            left_out = self._beyond - len(self._held)
            gap = [Line(self._held[0].at, f"[{left_out} lines left out]")] if left_out else []
            rest, self._fresh = [*self._fresh, *gap, *self._held], []
            self._held.clear()
            self._beyond = 0
            return rest

    def tail(self, characters: int = 2000) -> str:
        """The last lines, for the error of a trainer that crashed."""
        with self._lock:
            return "\n".join(self._recent)[-characters:].strip()

    def _add(self, raw: bytes) -> None:
        text = raw.decode("utf-8", errors="replace").rstrip("\r")[:LINE_CHARACTERS]
        line = Line(datetime.now(UTC), text)
        self._recent.append(text)
        if self._room:
            self._room -= 1
            self._fresh.append(line)
        else:
            self._beyond += 1
            self._held.append(line)


class TrainerProcess:
    """A trainer in a session of its own, so that it and whatever it started can be ended together.

    Its stdin stays open for as long as this process lives: a trainer whose supervisor is killed reads the end
    of it and exits. `command` is the first line.
    """

    def __init__(self, command: Mapping[str, Any], start: Callable[[], Child] = start_fresh) -> None:
        self._process = start()
        self._status: int | None = None
        self.log = TrainerLog()
        self._events: queue.Queue[Event | None] = queue.Queue(WAITING_EVENTS)
        self._ended = False
        if not (self._process.stdin and self._process.stdout and self._process.stderr):
            raise RuntimeError("The trainer has no pipes.")  # never so: it tells mypy that they are there
        self._readers = [
            threading.Thread(target=self._read_events, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._send(self._process.stdin, command)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True when every event it wrote has been taken by `next_event`, and no other can come."""
        return self._ended

    def next_event(self, timeout: float) -> Event | None:
        """The next event, or None when none came in time; `ended` tells silence from the end."""
        if self._ended:
            return None
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            if self._exited():
                self._kill_group()  # a child that kept the pipe open would hide the trainer's end
            return None
        self._ended = event is None
        return event

    def remaining_events(self) -> list[Event]:
        """What a trainer that has been stopped had written before; until it is taken, its reader may wait."""
        events = []
        while not self._ended and (event := self.next_event(timeout=1.0)) is not None:
            events.append(event)
        return events

    def stop(self, grace: float) -> int:
        """Ask it to end, make it end after `grace` seconds, and return its exit status once it is reaped."""
        if not self._exited():
            os.kill(self.pid, signal.SIGTERM)
            self._wait_until_exited(grace)
        return self.reap()

    def reap(self, patience: float = 0.0) -> int:
        """Give it `patience` seconds to exit, kill what is left of its group, and return its exit status."""
        self._wait_until_exited(patience)
        self._kill_group()
        if self._status is None:
            self._status = self._process.wait()
            self._wait_until_group_is_gone()
        for reader in self._readers[1:]:
            reader.join(timeout=2.0)
        if self._process.stdin:
            try:
                self._process.stdin.close()
            except OSError:
                logger.debug("trainer %d closed its stdin before it ended", self.pid)
        return self._status

    def tell_where_it_stands(self) -> None:
        """Have it write to its log what each of its threads is doing; it has two seconds."""
        if not self._exited():
            os.kill(self.pid, STACKS_SIGNAL)
            self._wait_until_exited(STACKS_PATIENCE)  # what ends it right behind this signal is served first

    def _send(self, stdin: IO[bytes], command: Mapping[str, Any]) -> None:
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            logger.warning("trainer %d ended before it read its command: %s", self.pid, error)

    def _exited(self) -> bool:
        # The zombie is left in place: until it is reaped, its process group cannot become another's.
        if self._status is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _wait_until_exited(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._exited() and time.monotonic() < deadline:
            # Its last events are taken by whoever records them; only a full pipe would keep it from exiting.
            time.sleep(0.02)

    def _kill_group(self) -> None:
        if self._status is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError) as error:  # all of it is gone already
                logger.debug("process group %d: %s", self.pid, error)

    def _wait_until_group_is_gone(self) -> None:
        """Killed with it, its children are ended by their own parents, or by whoever adopts them."""
        deadline = time.monotonic() + GROUP_PATIENCE
        while time.monotonic() < deadline:
            try:
                os.killpg(self.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.02)

    def _read_events(self, stdout: IO[bytes]) -> None:
        with stdout:
            while line := stdout.readline(MAX_LINE_BYTES):
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    event = None
                if isinstance(event, dict) and isinstance(event.get("type"), str):
                    self._events.put(event)
                else:
                    self.log.write(b"[not an event] " + line[:500] + b"\n")
        self._events.put(None)

    def _read_log(self, stderr: IO[bytes]) -> None:
        with stderr:
            while chunk := stderr.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader, typed as IO
                self.log.write(chunk)

"""The training subprocess: one command on stdin, one event a line on stdout, and an end when stdin closes."""

import ctypes
import faulthandler
import functools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from service.tether import PR_SET_PDEATHSIG
from worker.failures import failure
from worker.pace import Pace
from worker.process import STACKS_SIGNAL
from worker.pulse import pulse

if TYPE_CHECKING:
    from models.tensorboard import TensorBoardWriter  # brings torch

EXIT_ERROR = 1
PATHS = ("classifiers", "inception", "init", "resume")
EXIT_ORPHANED = 3
STDIN = 0
STDOUT = 1
STDERR = 2

one_at_a_time = threading.Lock()


def main() -> int:
    events = reserve_stdout()
    faulthandler.register(STACKS_SIGNAL, file=STDERR)
    command = json.loads(read_line(STDIN))
    die_with_the_worker()
    threading.Thread(target=exit_when_closed, args=(STDIN,), daemon=True, name="orphan-watch").start()
    try:
        with pulse(functools.partial(emit, events)):
            run(command, events)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job's error says it
        traceback.print_exc()
        said = failure(error, code="trainer_error", hint="GET /v1/jobs/{id}/logs has the traceback.")
        emit(events, {"type": "error", **said})
        return EXIT_ERROR
    return 0


def run(command: dict[str, Any], events: TextIO) -> None:
    """Train as the command says. torch comes in last: the end of the supervisor is watched by then."""
    from models.data.packed import PackedDataset
    from models.spec import load_spec
    from worker.devices import open_device

    dataset, spec = PackedDataset.open(Path(command["dataset"])), load_spec(command["spec"])
    dataset.check_content()
    device = open_device(command["device"], command["gpu_memory"])

    from models.tensorboard import TensorBoardWriter
    from models.training import Saved, event_to_json, train

    out, pace = Path(command["out"]), Pace(time.monotonic())
    known = {name: command[name] and Path(command[name]) for name in PATHS}
    board = TensorBoardWriter(out, resumed=int(command["step"]))
    try:
        for event in train(spec, dataset, out, device=device, stopping=asked_to_stop(), **known):
            board.add(event)  # before it is told: whoever hears of a picture moves it
            emit(events, event_to_json(event))
            if pace.due(time.monotonic()) or isinstance(event, Saved):
                emit(events, logged(board, out))
    finally:
        emit(events, logged(board, out))
        board.close()


def asked_to_stop() -> Callable[[], bool]:
    """From now on SIGTERM ends the run behind the step it is at, with a checkpoint."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return asked.is_set


def logged(board: "TensorBoardWriter", out: Path) -> dict[str, Any]:
    """The event that tells of the TensorBoard file; its first `size_bytes` are whole records."""
    size = board.flush()
    return {"type": "logged", "path": str(board.path.relative_to(out)), "size_bytes": size}


def reserve_stdout() -> TextIO:
    """A stream for the events alone: what a library prints to stdout goes to stderr, and into the log."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(STDOUT), "w", encoding="utf-8")
    os.dup2(STDERR, STDOUT)
    return events


def emit(events: TextIO, event: dict[str, Any]) -> None:
    line = json.dumps(event) + "\n"
    with one_at_a_time:  # the pulse tells as well
        events.write(line)
        events.flush()


def read_line(fd: int) -> bytes:
    """The first line, read byte by byte: a buffer would keep what follows from the watcher."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(fd, 1)):
        line += byte
    return bytes(line)


def die_with_the_worker() -> None:
    """On Linux the kernel ends this process with its parent: one that hangs may not read the end of stdin."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def exit_when_closed(fd: int) -> None:
    """End this process at once when nobody holds the other end: nobody is left to record what it does."""
    while os.read(fd, 4096):
        pass
    os._exit(EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())

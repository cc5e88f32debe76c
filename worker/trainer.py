"""The training subprocess: one command on stdin, one event a line on stdout, and an end when stdin closes."""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from worker.failures import failure

EXIT_ERROR = 1
EXIT_ORPHANED = 3
STDIN = 0
STDOUT = 1
STDERR = 2


def main() -> int:
    events = reserve_stdout()
    command = json.loads(read_line(STDIN))
    threading.Thread(target=exit_when_closed, args=(STDIN,), daemon=True, name="orphan-watch").start()
    try:
        run(command, events)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job's error says it
        traceback.print_exc()
        said = failure(error, code="trainer_error", hint="The job's trainer.log has the traceback.")
        emit(events, {"type": "error", **said})
        return EXIT_ERROR
    return 0


def run(command: dict[str, Any], events: TextIO) -> None:
    """Train as the command says. torch comes in last: the end of the supervisor is watched by then."""
    from models.data.packed import PackedDataset
    from models.spec import load_spec
    from worker.devices import resolve_device

    dataset, spec = PackedDataset.open(Path(command["dataset"])), load_spec(command["spec"])
    device = resolve_device(command["device"])

    from models.training import event_to_json, train

    for event in train(spec, dataset, Path(command["out"]), device=device):
        emit(events, event_to_json(event))


def reserve_stdout() -> TextIO:
    """A stream for the events alone: what a library prints to stdout goes to stderr, and into the log."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(STDOUT), "w", encoding="utf-8")
    os.dup2(STDERR, STDOUT)
    return events


def emit(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def read_line(fd: int) -> bytes:
    """The first line, read byte by byte: a buffer would keep what follows from the watcher."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(fd, 1)):
        line += byte
    return bytes(line)


def exit_when_closed(fd: int) -> None:
    """End this process at once when nobody holds the other end: nobody is left to record what it does."""
    while os.read(fd, 4096):
        pass
    os._exit(EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())

"""The trainer process: its pipe, its log and its end, with small scripts in the trainer's place."""

import functools
import os
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from service.records.logs import Line
from worker.process import LINE_CHARACTERS, TrainerLog, TrainerProcess, start_fresh

BOUND = 60.0


def script(text: str, command: dict[str, object] | None = None) -> TrainerProcess:
    return TrainerProcess(command or {}, functools.partial(start_fresh, [sys.executable, "-c", text]))


def all_events(trainer: TrainerProcess) -> list[dict[str, object]]:
    events = []
    deadline = time.monotonic() + BOUND
    while not trainer.ended:
        assert time.monotonic() < deadline, "the trainer's end was not seen"
        if (event := trainer.next_event(timeout=0.1)) is not None:
            events.append(event)
    return events


def test_events_come_in_order_and_other_lines_go_to_the_log() -> None:
    """Breaks when a stray print is taken for an event, or ends the run."""
    trainer = script(
        "import sys, json; command = json.loads(sys.stdin.readline())\n"
        "print('Downloading...')\n"
        "print('[1]'); print('{\"no\": \"type\"}'); sys.stdout.buffer.write(b'\\xff\\n')\n"
        "print('[' * 100_000)\n"
        "for step in range(3): print(json.dumps({'type': 'x', 'step': step, 'seed': command['seed']}))",
        {"seed": 7},
    )
    events = all_events(trainer)
    assert trainer.reap(BOUND) == 0
    assert events == [{"type": "x", "step": step, "seed": 7} for step in range(3)]
    assert "Downloading..." in trainer.log.tail()


def test_a_trainer_that_ignores_sigterm_is_killed_with_its_children(wait_until: Callable[..., None]) -> None:
    """Breaks when only the leader dies: a child would go on holding the GPU's memory."""
    trainer = script(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)'],"
        " stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        'print(\'{"type": "started", "child": %d}\' % child.pid, flush=True); time.sleep(600)'
    )
    event = trainer.next_event(timeout=BOUND)
    assert event is not None
    child = psutil.Process(event["child"])
    began = time.monotonic()
    assert trainer.stop(grace=0.5) == -9
    assert time.monotonic() - began >= 0.5
    assert not psutil.pid_exists(trainer.pid), "it was not reaped"
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child's end")


def test_a_child_that_keeps_the_pipe_open_does_not_hide_the_trainers_end() -> None:
    """Breaks when the end of the pipe alone is waited for: the job would be `running` for ever."""
    trainer = script(
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        'print(\'{"type": "finished"}\', flush=True)'
    )
    assert all_events(trainer) == [{"type": "finished"}]
    assert trainer.reap() == 0


def test_what_was_said_before_a_stop_is_not_lost() -> None:
    trainer = script('import time\nfor _ in range(50): print(\'{"type": "x"}\', flush=True)\ntime.sleep(600)')
    assert trainer.next_event(timeout=BOUND) is not None
    time.sleep(0.5)
    trainer.stop(grace=BOUND)
    assert len(trainer.remaining_events()) == 49


def test_stdin_closes_when_its_supervisor_is_gone() -> None:
    """Breaks when a trainer started at the same time inherits the pipe's end: orphans would live on."""
    first = script('import sys; sys.stdin.read(); print(\'{"type": "closed"}\', flush=True)')
    second = script("import time; time.sleep(600)")
    stdin = first._process.stdin
    assert stdin is not None
    stdin.close()
    assert all_events(first) == [{"type": "closed"}]
    first.reap(BOUND)
    second.stop(grace=BOUND)


def test_a_trainer_sees_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATABASE_URL", "postgresql://user:secret@host/name")
    trainer = script(
        "import json, os; print(json.dumps({'type': 'x', 'names': [n for n in os.environ if 'ATEL' in n]}))"
    )
    assert all_events(trainer) == [{"type": "x", "names": []}]
    trainer.reap(BOUND)
    assert os.environ["ATELIER_DATABASE_URL"]


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


def test_a_flood_without_a_line_end_fills_no_memory() -> None:
    """Breaks when a trainer's log grows without a bound, or loses the traceback at its end."""
    trainer = script(
        "import sys\nsys.stderr.write('first words\\n')\n"
        "for _ in range(40): sys.stderr.write('warning ' * 8000)\n"
        "sys.stderr.write('\\nlast words\\n')"
    )
    all_events(trainer)
    trainer.reap(BOUND)
    lines = texts(trainer.log.rest())
    assert (lines[0], lines[-1]) == ("first words", "last words")
    assert trainer.log.tail().endswith("last words")
    assert max(map(len, lines)) <= LINE_CHARACTERS
    assert sum(map(len, lines)) < 700_000


def test_the_first_lines_are_given_as_they_come_and_of_a_flood_the_last_at_the_end() -> None:
    log = TrainerLog(first=3, last=2)
    log.write(b"a\nb\xff\r\nhal")
    assert texts(log.take()) == ["a", "b\ufffd"]
    assert log.take() == []
    log.write(b"f\nd\ne\nf\ng\nend")
    assert texts(log.take()) == ["half"]
    assert texts(log.rest()) == ["[3 lines left out]", "g", "end"]
    assert log.rest() == []
    assert log.tail().splitlines()[-2:] == ["g", "end"]


def test_a_short_log_is_whole() -> None:
    log = TrainerLog()
    log.write(b"a\nb\n")
    assert texts(log.rest()) == ["a", "b"]


@pytest.mark.parametrize("count", [1, 5000])
def test_a_trainer_faster_than_the_database_is_held_back(count: int) -> None:
    """Breaks when unread events pile up in memory without a bound, or when holding back loses any."""
    trainer = script(f'for _ in range({count}): print(\'{{"type": "x"}}\')')
    time.sleep(0.5)
    assert trainer._events.qsize() <= 4096
    assert len(all_events(trainer)) == count
    assert trainer.reap(BOUND) == 0

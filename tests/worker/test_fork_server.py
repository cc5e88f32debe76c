"""Trainers that are forks: as fresh as a new interpreter's, as alone, and as surely ended."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.data import PackedDataset
from tests.models.training.specs import small
from tests.worker.conftest import Training
from tests.worker.trainers import children_named
from worker.fork_server import AVAILABLE, Fork, ForkServer
from worker.process import Child, TrainerProcess, start_fresh
from worker.pulse import MOVES
from worker.trainer import EXIT_ORPHANED

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="fork servers are for Linux")

BOUND = 120.0
ENDLESS = {"budget": {"steps": 100_000_000}, "log_every_steps": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    started = ForkServer()
    yield started
    started.stop()


@pytest.fixture
def command(packed_digits: PackedDataset, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(preset: str = "dcgan", out: str = "out", **changed: Any) -> dict[str, Any]:
        spec = small(preset, **{"evaluation": None, **changed}).model_dump(mode="json")
        paths = {"dataset": str(packed_digits.folder), "out": str(tmp_path / out)}
        nothing = dict.fromkeys(["inception", "init", "resume", "gpu_memory"])
        return {"spec": spec, **paths, **nothing, "device": "cpu", "classifiers": str(tmp_path), "step": 0}

    return make


def told(trainer: TrainerProcess, until: str | None = None) -> list[dict[str, Any]]:
    """Its events up to the first of this type, or all of them."""
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + BOUND
    while not trainer.ended and (until is None or until not in [event["type"] for event in events]):
        assert time.monotonic() < deadline, f"it told no more than {events}; its log: {trainer.log.tail()}"
        if (event := trainer.next_event(timeout=0.1)) is not None and event["type"] != MOVES:
            events.append(event)
    return events


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def comparable(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a repeated run repeats: no clock times, no memory, no names with a time in them."""
    kept = []
    for event in events:
        if event["type"] != "logged":
            event = {name: value for name, value in event.items() if "second" not in name}
            event["metrics"] = {
                name: value
                for name, value in event.get("metrics", {}).items()
                if not name.startswith("memory/")
            }
            kept.append(event)
    return kept


def test_a_fork_trains_to_the_same_last_bit_as_a_new_interpreter(
    server: ForkServer, command: Callable[..., dict[str, Any]]
) -> None:
    """Breaks when the server computes, hands down random numbers, or its threads: two would then hang."""
    runs = []
    for out, start in (
        ("forked", server.start_trainer),
        ("again", server.start_trainer),
        ("fresh", start_fresh),
    ):
        changed = {"batch_size": 64, "threads": 2, "log_every_steps": 1}
        trainer = TrainerProcess(command("ddpm", out, **changed), start)
        events = told(trainer)
        assert trainer.reap(BOUND) == 0, trainer.log.tail()
        runs.append(comparable(events))
    forked, again, fresh = runs
    assert [event["type"] for event in fresh][-2:] == ["saved", "finished"]
    assert len(fresh[-2]["sha256"]) == 64
    assert forked == fresh
    assert again == fresh


def test_a_fork_is_this_process_s_child_and_a_stranger_to_everything_else(
    command: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a password is handed down, ending one trainer hits another, or nothing is preloaded."""
    monkeypatch.setenv("ATELIER_DATABASE_URL", "postgresql://user:secret@host/name")
    server = ForkServer()
    try:
        trainers = [TrainerProcess(command(out=f"{n}", **ENDLESS), server.start_trainer) for n in range(2)]
        for trainer in trainers:
            told(trainer, until="progress")
        assert server.pid is not None
        for trainer in trainers:
            process = psutil.Process(trainer.pid)
            assert process.ppid() == os.getpid()
            assert "".join(process.cmdline()) == "worker.trainer (forked)"
            assert os.getsid(trainer.pid) == os.getpgid(trainer.pid) == trainer.pid
            assert not any("secret" in value for value in process.environ().values())
            descriptors = {str(link.readlink()) for link in Path(f"/proc/{trainer.pid}/fd").iterdir()}
            assert not [name for name in descriptors if name.startswith("socket:")], "the server's own socket"
        assert not any("secret" in value for value in psutil.Process(server.pid).environ().values())

        first, second = trainers
        os.kill(first.pid, signal.SIGKILL)
        told(first)
        assert first.reap(BOUND) == -signal.SIGKILL
        assert not psutil.pid_exists(first.pid)
        before = len(told(second, until="progress"))
        assert before
        assert psutil.Process(server.pid).is_running()

        second.stop(BOUND)
        types = [event["type"] for event in second.remaining_events()]
        assert {"saved", "stopped"} <= set(types), "SIGTERM is a checkpoint, as in a new interpreter"
    finally:
        server.stop()


def test_a_fork_exits_when_its_stdin_closes(
    server: ForkServer, command: Callable[..., dict[str, Any]]
) -> None:
    """Breaks when the server, or another fork, keeps the pipe open: an orphan would train on."""
    trainers = [
        TrainerProcess(command(out=f"{number}", **ENDLESS), server.start_trainer) for number in range(2)
    ]
    for trainer in trainers:
        told(trainer, until="progress")
    stdin = trainers[0]._process.stdin
    assert stdin is not None
    stdin.close()
    told(trainers[0])
    assert trainers[0].reap(BOUND) == EXIT_ORPHANED
    trainers[1].stop(0)


def test_a_dead_server_costs_no_trainer_and_is_replaced(
    server: ForkServer, command: Callable[..., dict[str, Any]], wait_until: Callable[..., None]
) -> None:
    """Breaks when a server that was killed takes runs of hours with it, or no trainer starts ever after."""
    trainer = TrainerProcess(command(out="first", **ENDLESS), server.start_trainer)
    told(trainer, until="progress")
    killed = server.pid
    assert killed is not None
    dead = psutil.Process(killed)
    dead.kill()
    wait_until(lambda: is_gone(dead), "the server's end")
    assert told(trainer, until="progress"), "the trainer went with its server"
    following = server.start_trainer()
    assert isinstance(following, Fork)
    assert server.pid != killed
    end(following)
    assert trainer.stop(BOUND) == 0


@pytest.mark.parametrize("program", ["import time; time.sleep(600)", "raise SystemExit('no torch')"])
def test_without_a_server_a_new_interpreter_trains(
    command: Callable[..., dict[str, Any]], program: str
) -> None:
    """Breaks when a server that hangs, or cannot be started, keeps every job waiting."""
    broken = ForkServer([sys.executable, "-c", program], patience=0.5)
    trainer = TrainerProcess(command(), broken.start_trainer)
    assert told(trainer)[-2]["type"] == "finished"
    assert trainer.reap(BOUND) == 0
    assert broken.pid is None, "the one that gave no trainer was left running"


def test_an_orphan_of_later_is_not_adopted(server: ForkServer) -> None:
    """Breaks when a worker collects the zombies of whatever its trainers leave behind."""
    end(server.start_trainer())
    leaves = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid)"
    parent = start_fresh([sys.executable, "-c", leaves])
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.wait()
    assert orphan.ppid() != os.getpid()
    for pipe in (parent.stdin, parent.stdout, parent.stderr):
        assert pipe is not None
        pipe.close()


def end(child: Child) -> None:
    """End a trainer that was told nothing: it reads the end of its stdin."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()
    assert child.wait() != 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_killed_worker_takes_its_server_and_even_a_stopped_trainer_with_it(
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database_url: str,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when an orphan holds a GPU for ever, or each killed worker leaves a server's memory behind."""
    monkeypatch.setenv("ATELIER_PRELOAD", "True")
    training: Training = request.getfixturevalue("training")
    (server,) = children_named("worker.fork_server", training.worker.process.pid)
    assert "".join(training.trainer.cmdline()) == "worker.trainer (forked)"
    training.trainer.send_signal(signal.SIGSTOP)  # it cannot read the end of its stdin
    training.worker.process.kill()
    wait_until(lambda: not training.alive, "the trainer's end")
    wait_until(lambda: is_gone(server), "the server's end")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_preloading_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database_url: str
) -> None:
    """Breaks when an operator who is short of memory has no way to say so."""
    monkeypatch.setenv("ATELIER_PRELOAD", "False")
    training: Training = request.getfixturevalue("training")
    assert children_named("worker.fork_server", training.worker.process.pid) == []
    assert training.trainer.cmdline()[1:] == ["-m", "worker.trainer"]

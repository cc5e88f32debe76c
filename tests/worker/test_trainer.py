"""The training subprocess by its protocol alone: a line in, lines out, and the end with its stdin."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from models.data import PackedDataset
from models.presets import plan
from models.spec.data import BUILTIN_DATASETS
from worker.pulse import MOVES
from worker.trainer import EXIT_ERROR, EXIT_ORPHANED

TINY: dict[str, Any] = {
    "preset": "dcgan",
    "seed": 1,
    "budget": {"steps": 2},
    "batch_size": 8,
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "evaluation": None,
}


@pytest.fixture
def command(packed_digits: PackedDataset, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(device: str = "cpu", **changed: Any) -> dict[str, Any]:
        spec = plan({**TINY, **changed}, BUILTIN_DATASETS.get).spec.model_dump(mode="json")
        return {
            "spec": spec,
            "dataset": str(packed_digits.folder),
            "out": str(tmp_path / "out"),
            "device": device,
            "gpu_memory": 0.5,
            "classifiers": str(tmp_path),
            "inception": None,
            "init": None,
            "resume": None,
            "step": 0,
        }

    return make


def start(program: str = "import runpy; runpy.run_module('worker.trainer', run_name='__main__')") -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def spoken(process: Any, command: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What it wrote to both pipes while its stdin was open, without its pulse."""
    process.stdin.write(json.dumps(command) + "\n")
    process.stdin.flush()
    lines = process.stdout.readlines()
    errors = process.stderr.read()
    process.stdin.close()
    process.wait(60)
    events = [json.loads(line) for line in lines]
    return [event for event in events if event["type"] != MOVES], errors


def test_nothing_but_events_reaches_stdout(command: Callable[..., dict[str, Any]]) -> None:
    """Breaks when a library's print, even from C, gets between two events."""
    noisy = (
        "import runpy, threading, os, time\n"
        "done = threading.Event()\n"
        "def shout():\n"
        "    while not done.is_set():\n"
        "        os.write(1, b'noise\\n'); print('more', flush=True); time.sleep(0.001)\n"
        "import worker.trainer as trainer\n"
        "reserve = trainer.reserve_stdout\n"
        "def reserve_then_shout():\n"
        "    events = reserve(); threading.Thread(target=shout).start(); return events\n"
        "trainer.reserve_stdout = reserve_then_shout\n"
        "status = trainer.main()\n"
        "done.set()\n"
        "raise SystemExit(status)"
    )
    process = start(noisy)
    events, errors = spoken(process, command())
    assert process.returncode == 0, errors[-2000:]
    assert events[0]["type"] == "started"
    assert [event["type"] for event in events[-2:]] == ["finished", "logged"]
    assert {"progress", "sampled", "saved"} <= {event["type"] for event in events}
    assert "noise" in errors


def test_the_tensorboard_file_is_told_at_each_checkpoint_and_at_the_end(
    command: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Breaks when a stored file lacks what the run had told by then."""
    process = start()
    events, errors = spoken(process, command(checkpoints={"every_steps": 1}, log_every_steps=1))
    assert process.returncode == 0, errors[-2000:]
    types = [event["type"] for event in events]
    behind = [types[index + 1] for index, kind in enumerate(types) if kind == "saved"]
    assert behind == ["logged"] * types.count("saved") != []
    sizes = [event["size_bytes"] for event in events if event["type"] == "logged"]
    assert sizes == sorted(sizes)
    file = tmp_path / "out" / events[-1]["path"]
    assert file.stat().st_size == sizes[-1]
    records = list(EventFileLoader(str(file)).Load())
    losses = [value.tag for record in records for value in record.summary.value if "loss/" in value.tag]
    assert sorted(losses) == ["loss/discriminator", "loss/discriminator", "loss/generator", "loss/generator"]


def test_a_run_that_fails_leaves_its_tensorboard_file(
    command: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Breaks when the curves of the runs that one most wants to see are lost."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "samples").write_text("no folder, so that no picture can be written")
    process = start()
    events, _ = spoken(process, command())
    assert process.returncode == EXIT_ERROR
    assert "progress" in [event["type"] for event in events]
    assert [event["type"] for event in events[-2:]] == ["logged", "error"]
    assert (tmp_path / "out" / events[-2]["path"]).stat().st_size == events[-2]["size_bytes"]


def test_it_exits_at_once_when_its_stdin_closes(command: Callable[..., dict[str, Any]]) -> None:
    """Breaks when a trainer outlives a killed worker, in the middle of a run."""
    process = start()
    process.stdin.write(json.dumps(command(budget={"steps": 100_000_000}, log_every_steps=1)) + "\n")
    process.stdin.flush()
    while json.loads(process.stdout.readline())["type"] != "progress":
        pass
    process.stdin.close()
    assert process.wait(30) == EXIT_ORPHANED
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"device": "cuda:99"}, "device_unavailable"), ({"dataset": "/nowhere"}, None), ({"spec": {}}, None)],
)
def test_a_bad_command_is_an_error_event(
    command: Callable[..., dict[str, Any]], changed: dict[str, Any], code: str | None
) -> None:
    process = start()
    events, errors = spoken(process, command() | changed)
    assert process.returncode == EXIT_ERROR
    event = events[-1]
    assert event["type"] == "error"
    assert {event["type"] for event in events[:-1]} <= {"logged"}
    assert event["message"]
    assert event["hint"]
    assert code in (None, event["code"])
    assert "Traceback" in errors


def test_an_event_is_a_line(tmp_path: Path) -> None:
    from worker.trainer import emit

    stream = io.StringIO()
    emit(stream, {"type": "alert", "message": "two\nlines"})
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["message"] == "two\nlines"

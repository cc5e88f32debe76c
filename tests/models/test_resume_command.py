"""`python -m models resume`: a run that is killed at any moment ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from models.__main__ import app

JOB: dict[str, Any] = {
    "preset": "dcgan",
    "seed": 3,
    "precision": "fp32",
    "budget": {"steps": 240},
    "batch_size": 16,
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "evaluation": {"every_steps": 60, "scores": []},
    "checkpoints": {"every_steps": 20},
    "samples": {"every_steps": 120, "count": 4},
    "log_every_steps": 7,
    "memory_format": "contiguous",
    "threads": 1,
}
TAKES_TIME = ("images_per_second", "seconds")
UNTOLD = ("started", "saved")
"""It is told twice; and once too seldom where the kill came between the file and its word."""


def told(out: Path) -> list[dict[str, Any]]:
    """All that a run told of its steps, but for what the machine decides."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    for event in events:
        metrics = event.get("metrics", {})
        event["metrics"] = {key: value for key, value in metrics.items() if not key.startswith("memory/")}
    return [
        {key: value for key, value in event.items() if key not in TAKES_TIME}
        for event in events
        if event["type"] not in UNTOLD and (event["type"] != "progress" or event["metrics"])
    ]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "models", *map(str, words)]


def test_killed_and_resumed_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Breaks when a checkpoint lacks anything, when one cut short is loaded, or a point is told twice."""
    job, killed, whole = tmp_path / "job.json", tmp_path / "killed", tmp_path / "whole"
    job.write_text(json.dumps(JOB))
    assert CliRunner().invoke(app, ["train", str(job), "--out", str(whole)]).exit_code == 0
    process = subprocess.Popen(command("train", job, "--out", killed), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((killed / "checkpoints").glob("*/manifest.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    subprocess.run(command("resume", killed), check=True, stderr=subprocess.DEVNULL)
    assert told(killed) == told(whole)
    for name in ("checkpoint.safetensors", "state.safetensors"):
        last = Path("checkpoints") / "00000240" / name
        assert (killed / last).read_bytes() == (whole / last).read_bytes()
    curves = EventAccumulator(str(killed / "tensorboard")).Reload()
    steps = [point.step for point in curves.Scalars("loss/generator")]
    assert steps == [*range(7, 240, 7), 240]


@pytest.mark.parametrize("left", ["nothing", "no checkpoint", "another run's"])
def test_without_a_checkpoint_of_the_run_that_is_said(tmp_path: Path, left: str) -> None:
    out = tmp_path / "out"
    job = tmp_path / "job.json"
    job.write_text(json.dumps(JOB | {"budget": {"steps": 2}}))
    if left != "nothing":
        assert CliRunner().invoke(app, ["train", str(job), "--out", str(out)]).exit_code == 0
    if left == "no checkpoint":
        (out / "checkpoints" / "00000002" / "manifest.json").unlink()
    if left == "another run's":
        spec = json.loads((out / "spec.json").read_text())
        (out / "spec.json").write_text(json.dumps(spec | {"seed": 4}))
    done = CliRunner().invoke(app, ["resume", str(out)])
    assert done.exit_code == 2, done.output
    assert ("spec.json" if left == "nothing" else "no checkpoint of this run") in done.stderr
    assert "Traceback" not in done.output

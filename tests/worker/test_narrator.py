"""What the log of a job says by itself, and how rarely."""

import itertools
from typing import Any

from worker.narrator import Narrator
from worker.pace import Pace

STARTED = {
    "type": "started",
    "steps": 4000,
    "device": "cpu",
    "parameters": {"generator": 1200, "discriminator": 900},
    "spec": {"precision": "fp32", "threads": 2, "batch_size": 64},
}


def progress(step: int, **metrics: float) -> dict[str, Any]:
    return {"type": "progress", "step": step, "images": step, "images_per_second": 1234.5, "metrics": metrics}


def test_a_file_that_grows_is_copied_ever_more_rarely() -> None:
    pace = Pace(began=100.0)
    copies = [second for second in range(7200) if pace.due(100.0 + second)]
    assert copies[:3] == [10, 20, 30]
    assert all(later - earlier >= later / 20 for earlier, later in itertools.pairwise(copies))
    assert len(copies) < 100


def test_a_run_is_told_from_its_start_to_its_end() -> None:
    """Breaks when the log of a healthy job is empty, or leaves out where an attempt began."""
    narrator = Narrator(began=0.0, resumed=200)
    saved = {"type": "saved", "step": 300, "interim": False, "size_bytes": 70_000}
    scored = {
        "type": "evaluated",
        "step": 300,
        "samples": 50,
        "scores": {"score/fid": 14.25, "evaluation/a": 1},
    }
    alert = {"type": "alert", "level": "warning", "message": "Half of it is gone."}
    told = [STARTED, progress(201, **{"loss/generator": 0.5, "rate/x": 3}), saved, scored, alert]
    told += [{"type": "stopped", "step": 301}, {"type": "finished", "step": 4000, "images": 256_000}]
    assert [narrator.line(event, 1.0) for event in told] == [
        "training on cpu in fp32, threads: 2; generator of 1,200 parameters, "
        "discriminator of 900 parameters; 4,000 steps of 64 images; from step 200 on",
        "step 201 of 4,000, 1,234 images a second: loss/generator 0.5",
        "step 300: checkpoint of 70,000 bytes",
        "Measured on 50 held-out images at step 300: fid 14.25.",
        "warning: Half of it is gone.",
        "stopped behind step 301, as asked",
        "finished: 4,000 steps, 256,000 images",
    ]


def test_how_a_long_run_goes_is_told_rarely() -> None:
    """Breaks when a run of days fills the database with a line for each step."""
    narrator = Narrator(began=0.0)
    narrator.line(STARTED, 0.0)
    told = [
        second
        for second in range(1, 7200)
        if narrator.line(progress(second, **{"loss/d": 1.0}), float(second))
    ]
    assert told[:3] == [1, 10, 20]
    assert len(told) < 100
    assert narrator.line(progress(7200), 7200.0) is None, "a step without metrics"
    assert narrator.line({"type": "sampled", "step": 1}, 9e9) is None

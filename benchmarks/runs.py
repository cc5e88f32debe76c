"""Trainings as results: each in a process of its own, appended to a JSON file, and made once."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from models.checkpoints import LoadedCheckpoint
from models.data import PackedDataset, default_cache, open_dataset
from models.metrics.classifier import classifier_key, train_classifier
from models.metrics.measurement import Measurement
from models.metrics.scorer import Scorer, open_extractor
from models.spec import JobSpec
from models.spec.evaluation import EvaluationSpec, ExtractorKind

Run = dict[str, Any]
T = TypeVar("T")

ONE_THREAD: dict[str, Any] = {"threads": 1}
"""In a job: it computes on one core, so that runs beside each other do not slow each other down."""


class Results:
    """A JSON list of runs; `key` fields identify one."""

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self._path, self._key = path, key
        self.runs: list[Run] = json.loads(path.read_text()) if path.exists() else []

    def find(self, **wanted: Any) -> Run | None:
        """The run with these fields, or None."""
        return next((run for run in self.runs if all(run[k] == wanted[k] for k in self._key)), None)

    def add(self, run: Run) -> None:
        """Append, and write at once: a script that is stopped goes on where it was."""
        self.runs.append(run)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.runs, indent=1, ensure_ascii=False) + "\n")


def side_by_side(run: Callable[[T], Run], wanted: Iterable[T]) -> Iterator[Run]:
    """The runs as they end: as many at once as there are cores (see `ONE_THREAD`)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in as_completed([pool.submit(run, each) for each in wanted]):
            yield future.result()


def trained(raw: dict[str, Any], folder: Path) -> Run:
    """Train by `python -m models train` into `folder`: its time, its last scores, and where its files are."""
    spec = folder / "job.json"
    spec.write_text(json.dumps(raw))
    command = [sys.executable, "-m", "models", "train", str(spec), "--out", str(folder)]
    began = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    seconds, cpu_seconds = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: {(folder / 'log').read_text()[-2000:]}")
    events = list(_events(folder))
    started, saved = _last(events, "started"), _last(events, "saved")
    if started is None or saved is None:
        raise RuntimeError(f"{folder}/events.jsonl tells of no start, or of no checkpoint")
    rates = [event["images_per_second"] for event in events if event["type"] == "progress"]
    evaluated = _last(events, "evaluated") or {"scores": {}, "details": {}}
    return {
        "parameters": started["parameters"],
        "seconds": round(seconds, 1),
        "cpu_minutes": round(cpu_seconds / 60, 2),
        "images_per_second": round(statistics.median(rates), 1),
        "images": saved["images"],
        "scores": {name: value for name, value in evaluated["scores"].items() if name.startswith("score/")},
        "details": evaluated["details"],
        "checkpoint": str(folder / saved["path"]),
        "date": time.strftime("%Y-%m-%d"),
    }


def workspace(name: str) -> Path:
    """Where the trainings' files lie; they are not kept."""
    folder = Path(tempfile.gettempdir()) / "atelier-benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scorer_of(spec: JobSpec, dataset: PackedDataset) -> Scorer:
    """The scorer of a spec with the classifier that the trainings have kept."""
    name = classifier_key(dataset)
    classifier = default_cache() / "classifiers" / name
    if not classifier.is_file():
        train_classifier(dataset, classifier)
    extractor = open_extractor(ExtractorKind.CLASSIFIER, classifier=classifier, inception=None, device="cpu")
    return Scorer(spec, dataset, extractor, ema=spec.ema is not None, device="cpu")


def measured(model: LoadedCheckpoint, evaluation: EvaluationSpec) -> Measurement:
    """The scores of a checkpoint's weights, of a built-in dataset, by the dataset's classifier."""
    channels, resolution, _ = model.spec.data.image_shape
    dataset = open_dataset(model.spec.dataset).at(resolution, channels)
    return scorer_of(model.spec.model_copy(update={"evaluation": evaluation}), dataset)(model.networks)


def _last(events: list[Run], kind: str) -> Run | None:
    return next((event for event in reversed(events) if event["type"] == kind), None)


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    for line in (folder / "events.jsonl").read_text().splitlines():
        yield json.loads(line)

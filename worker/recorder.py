"""The event pump's other end: a trainer's events become artifacts at once, and rows in fenced batches."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from models import checkpoint_folders
from service.artifacts import Artifacts
from service.errors import Unavailable
from service.event_files import event_file_key
from service.records import checkpoints, events, leases, logs, metrics, retention, samples
from service.records.events import EventType, Level
from service.records.logs import Line
from service.records.metrics import MetricRow
from worker import classifiers
from worker.narrator import Narrator, bare_scores, classifier_message, scores_message
from worker.process import Event
from worker.resuming import Start

logger = logging.getLogger(__name__)

FLUSH_EVERY = 0.5
FLUSH_AT = 200
STORE_FOR = 120.0  # seconds: so long a file waits for a store that does not answer, before its job fails
STORE_AGAIN = 2.0


@dataclass(frozen=True)
class Assignment:
    """What a claim gave to this worker: one attempt at one job."""

    job_id: str
    attempt: int
    spec: dict[str, Any]
    dataset_id: str


@dataclass
class Batch:
    """Rows that wait to be written in one transaction."""

    metric_rows: list[MetricRow] = field(default_factory=list)
    log_lines: list[Line] = field(default_factory=list)
    writes: list[Callable[[Session], object]] = field(default_factory=list)
    advanced: bool = False
    events: int = 0


class Recorder:
    """Takes the events of one attempt in order; files are stored at `add`, rows in batches.

    `finished` and `error` say how the trainer ended by its own account. A store that does not answer is
    waited for as long as the attempt is `wanted`.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        assignment: Assignment,
        folder: Path,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._artifacts = artifacts
        self._wanted = wanted
        self._assignment = assignment
        self._folder = folder.resolve()
        self._batch = Batch()
        self._tried_at = time.monotonic()
        self._narrator = Narrator(self._tried_at)
        self._position: dict[str, Any] = {"step": 0, "images": 0}
        self._total_steps = 0
        self._scored: dict[int, dict[str, Any]] = {}  # scores and details by step, for a later checkpoint
        self.finished = False
        self.error: dict[str, Any] | None = None

    @property
    def due(self) -> bool:
        waited = time.monotonic() - self._tried_at
        return self._batch.events >= FLUSH_AT or (self._batch.events > 0 and waited >= FLUSH_EVERY)

    def begin(self, session: Session, start: Start) -> bool:
        """Record where the attempt starts; False: it is over."""
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        self._position |= {"step": start.step, "images": start.images}
        self._narrator = Narrator(time.monotonic(), start.step)
        if not leases.begin(session, job_id, attempt, step=start.step, images=start.images):
            return False
        retention.pass_over(session, job_id, start.step)
        if start.damaged:
            where = f"step {start.step}" if start.step else "the beginning"
            steps = " and ".join(f"step {step}" for step in start.damaged)
            message = f"What was saved at {steps} is damaged: the job goes on from {where}."
            data = {"attempt": attempt, "damaged_steps": list(start.damaged)}
            events.add(session, job_id, EventType.ALERT, message, level="warning", data=data)
        return True

    def add(self, event: Event) -> None:
        handle = HANDLERS.get(event["type"])
        if handle is None:
            logger.warning(
                "job %s: a trainer's event of an unknown type %r", self._assignment.job_id, event["type"]
            )
            return
        handle(self, event)
        self._batch.events += 1
        if said := self._narrator.line(event, time.monotonic()):
            self.log([Line(datetime.now(UTC), said)])

    def log(self, lines: Sequence[Line]) -> None:
        """Lines of the job's log, to be written with the rows that wait."""
        self._batch.log_lines += lines
        self._batch.events += len(lines)

    def write(self, session: Session) -> bool:
        """The rows that wait, in the caller's transaction; False, and nothing, if the attempt is over.

        They wait on until `clear`, which belongs after the commit.
        """
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        self._tried_at = time.monotonic()
        if not leases.fence(session, job_id, attempt):
            return False
        if self._batch.advanced:
            leases.report(session, job_id, attempt, **self._position)
        metrics.add(session, job_id, self._batch.metric_rows, attempt=attempt)
        logs.add(session, job_id, attempt, self._batch.log_lines)
        for write in self._batch.writes:
            write(session)
        return True

    def clear(self) -> None:
        self._batch = Batch()

    def _started(self, event: Event) -> None:
        job_id, attempt, steps = self._assignment.job_id, self._assignment.attempt, event["steps"]
        self._total_steps = steps
        self._batch.writes.append(
            lambda session: leases.set_resolved(session, job_id, attempt, event["spec"], steps=steps)
        )

    def _progress(self, event: Event) -> None:
        step, images, rate = event["step"], event["images"], event["images_per_second"]
        self._advance(step, images)
        remaining_images = (self._total_steps - step) * images / step if step else 0.0
        self._position["images_per_second"] = rate
        self._position["eta_seconds"] = remaining_images / rate if rate > 0 else None
        self._measure(step, images, {**event["metrics"], "rate/images_per_second": rate})

    def _sampled(self, event: Event) -> None:
        job_id, attempt, step = self._assignment.job_id, self._assignment.attempt, event["step"]
        key = f"jobs/{job_id}/samples/{attempt}-{step:08d}.png"
        self._store(self._file(event["path"]), key)
        row = {"attempt": attempt, "step": step, "images": event["images"], "artifact": key}
        self._batch.writes.append(lambda session: samples.add(session, job_id, **row))

    def _saved(self, event: Event) -> None:
        job_id, attempt, step = self._assignment.job_id, self._assignment.attempt, event["step"]
        saved, folder = self._file(event["path"]), f"jobs/{job_id}/checkpoints/{attempt}-{step:08d}"
        for file in checkpoint_folders.files(saved.parent):
            self._store(file, f"{folder}/{file.name}")
        key = f"{folder}/{saved.name}"
        names = ("step", "images", "sha256", "size_bytes", "state_bytes", "interim")
        row = {name: event[name] for name in names}
        row |= {"attempt": attempt, "artifact": key, **self._scored.get(step, {})}
        self._batch.writes.append(lambda session: checkpoints.add(session, job_id, **row))
        self._batch.writes.append(lambda session: retention.tidy(session, job_id))

    def _classifier_trained(self, event: Event) -> None:
        classifiers.keep(self._artifacts, self._file(event["path"]))
        data = {name: event[name] for name in ("accuracy", "images", "key", "sha256")}
        # Of no step: an attempt that starts anew finds it stored, and does not tell of it again.
        self._note(EventType.CLASSIFIER, classifier_message(event), None, data)

    def _evaluated(self, event: Event) -> None:
        step, values, details = event["step"], event["scores"], event.get("details") or {}
        self._measure(step, event["images"], values)
        data = {"scores": values, "samples": event["samples"], "images": event["images"], "details": details}
        self._note(EventType.EVALUATION, scores_message(event), step, data)
        if not (scores := bare_scores(values)):
            return
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        self._scored[step] = {"scores": scores, "details": details}
        row = {"attempt": attempt, "step": step, **self._scored[step]}
        self._batch.writes.append(lambda session: checkpoints.set_scores(session, job_id, **row))

    def _alert(self, event: Event) -> None:
        level: Level = "error" if event["level"] == "error" else "warning"
        self._note(EventType.ALERT, event["message"], event["step"], event["data"], level)

    def _logged(self, event: Event) -> None:
        # The file still grows, so that it is not taken over; what comes behind its size may be half a record.
        with self._file(event["path"]).open("rb") as file:
            stored = event_file_key(self._assignment.job_id, self._assignment.attempt)
            self._artifacts.put_bytes(file.read(event["size_bytes"]), stored)

    def _stopped(self, event: Event) -> None:
        """Its checkpoint has been told already; the job waits for another worker."""
        self._advance(event["step"], event["images"])

    def _finished(self, event: Event) -> None:
        self._advance(event["step"], event["images"])
        self.finished = True

    def _failed(self, event: Event) -> None:
        self.error = {name: event.get(name) for name in ("code", "message", "hint")}
        if "step" in event:
            self.error["step"] = event["step"]

    def _store(self, file: Path, key: str) -> None:
        """Take a file over; it stays where it is until the store has it."""
        gives_up = time.monotonic() + STORE_FOR
        while True:
            try:
                self._artifacts.put_file(file, key)
            except Unavailable as error:
                if time.monotonic() > gives_up or not self._wanted():
                    raise
                logger.warning("job %s: %s waits: %s", self._assignment.job_id, file.name, error)
                time.sleep(STORE_AGAIN)
            else:
                return

    def _advance(self, step: int, images: int) -> None:
        self._position |= {"step": step, "images": images}
        self._batch.advanced = True

    def _measure(self, step: int, images: int, values: dict[str, float]) -> None:
        self._batch.metric_rows += [MetricRow(key, step, images, value) for key, value in values.items()]

    def _note(
        self, kind: EventType, message: str, step: int | None, data: dict[str, Any], level: Level = "info"
    ) -> None:
        job_id = self._assignment.job_id
        self._batch.writes.append(
            lambda session: events.add(session, job_id, kind, message, level=level, step=step, data=data)
        )

    def _file(self, path: str) -> Path:
        file = (self._folder / path).resolve()
        if not file.is_relative_to(self._folder):
            raise ValueError(f"The trainer named a file outside its folder: {path!r}.")
        return file


HANDLERS: dict[str, Callable[[Recorder, Event], None]] = {
    "started": Recorder._started,
    "progress": Recorder._progress,
    "sampled": Recorder._sampled,
    "saved": Recorder._saved,
    "classifier_trained": Recorder._classifier_trained,
    "evaluated": Recorder._evaluated,
    "alert": Recorder._alert,
    "logged": Recorder._logged,
    "stopped": Recorder._stopped,
    "finished": Recorder._finished,
    "error": Recorder._failed,
}

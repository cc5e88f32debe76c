"""What a training run tells, as frozen dataclasses that travel as JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, get_args


@dataclass(frozen=True)
class Started:
    """The run begins; `spec` is resolved for this device: posted again it repeats the run exactly."""

    type: ClassVar[str] = "started"
    spec: dict[str, Any]
    parameters: dict[str, int]
    steps: int
    device: str


@dataclass(frozen=True)
class Progress:
    """`step` updates are done, at this rate of training alone.

    `metrics` are means since they were told last; they are told every `log_every_steps`, and {} in between.
    """

    type: ClassVar[str] = "progress"
    step: int
    images: int
    images_per_second: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Sampled:
    """A grid of images was written to `path`, relative to the run's folder."""

    type: ClassVar[str] = "sampled"
    step: int
    images: int
    path: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written, whole, to `path`, relative to the run's folder.

    `size_bytes` are the weights', `state_bytes` those of what a run needs beside them to go on. It is
    `interim` where the spec asks for none at this step: it only keeps what was done so far from being lost.
    """

    type: ClassVar[str] = "saved"
    step: int
    images: int
    path: str
    sha256: str
    size_bytes: int
    state_bytes: int
    interim: bool = False


@dataclass(frozen=True)
class ClassifierTrained:
    """A classifier for the scores was trained, once for this dataset at this size, and written to `path`.

    `path` is relative to the run's folder, `key` names it in a cache; `accuracy` is of `images` images that
    it was not trained on.
    """

    type: ClassVar[str] = "classifier_trained"
    path: str
    key: str
    sha256: str
    accuracy: float
    images: int


@dataclass(frozen=True)
class Evaluated:
    """The networks were tried on `samples` images that they were never trained on, and their images scored.

    `scores` holds `evaluation/…` and `score/…`; `details` what has to be known to compare the latter.
    """

    type: ClassVar[str] = "evaluated"
    step: int
    images: int
    scores: dict[str, float]
    samples: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """Something about the run that a person should know; `level` is `warning` or `error`."""

    type: ClassVar[str] = "alert"
    step: int
    level: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The budget is spent; the last checkpoint is already told."""

    type: ClassVar[str] = "finished"
    step: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop; its checkpoint of this step is already told, and resumes it."""

    type: ClassVar[str] = "stopped"
    step: int
    images: int


Event = Started | Progress | Sampled | Saved | ClassifierTrained | Evaluated | Alert | Finished | Stopped
_EVENTS: dict[str, type[Event]] = {event.type: event for event in get_args(Event)}


def event_to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object with its `type`."""
    return {"type": event.type, **asdict(event)}


def event_from_json(data: dict[str, Any]) -> Event:
    """The event that `event_to_json` wrote; an unknown type raises KeyError, unknown fields TypeError."""
    fields = dict(data)
    return _EVENTS[fields.pop("type")](**fields)


class TrainingError(Exception):
    """A run that cannot go on: a stable code, what happened, what to try, and the step where it has one."""

    def __init__(self, code: str, message: str, hint: str, step: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.step = code, message, hint, step

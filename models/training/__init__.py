"""Training as a generator of events."""

from models.training.entry import train
from models.training.events import (
    Alert,
    ClassifierTrained,
    Evaluated,
    Event,
    Finished,
    Progress,
    Sampled,
    Saved,
    Started,
    Stopped,
    TrainingError,
    event_from_json,
    event_to_json,
)

__all__ = [
    "Alert",
    "ClassifierTrained",
    "Evaluated",
    "Event",
    "Finished",
    "Progress",
    "Sampled",
    "Saved",
    "Started",
    "Stopped",
    "TrainingError",
    "event_from_json",
    "event_to_json",
    "train",
]

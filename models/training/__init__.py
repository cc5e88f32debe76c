"""Training as a generator of events."""

from models.training.events import (
    Alert,
    Evaluated,
    Event,
    Finished,
    Progress,
    Sampled,
    Saved,
    Started,
    TrainingError,
    event_from_json,
    event_to_json,
)
from models.training.entry import train

__all__ = [
    "Alert",
    "Evaluated",
    "Event",
    "Finished",
    "Progress",
    "Sampled",
    "Saved",
    "Started",
    "TrainingError",
    "event_from_json",
    "event_to_json",
    "train",
]

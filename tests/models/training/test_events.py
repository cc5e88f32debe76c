"""Events cross the pipe between trainer and supervisor as JSON."""

import json

import pytest

from models.training import (
    Alert,
    Evaluated,
    Event,
    Finished,
    Progress,
    Sampled,
    Saved,
    Started,
    event_from_json,
    event_to_json,
)

EVENTS = [
    Started({"family": "gan"}, {"generator": 3}, 10, "cpu"),
    Progress(1, 64, 12.5, {"loss/generator": 0.5}),
    Sampled(1, 64, "samples/00000001.png"),
    Saved(1, 64, "checkpoints/00000001/checkpoint.safetensors", "ab", 3, 9, True),
    Evaluated(1, 64, {"evaluation/output_held_out": 0.1}, 5),
    Alert(1, "warning", "odd", {"a": 1}),
    Finished(1, 64, 0.5),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_events_survive_json(event: Event) -> None:
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(KeyError):
        event_from_json({"type": "hooked"})
    with pytest.raises(TypeError):
        event_from_json({"type": "finished", "surprise": 1})

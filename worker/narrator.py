"""A run in words: the lines that its log has of it, beside what the training process wrote itself."""

from collections.abc import Mapping

from worker.pace import Pace
from worker.process import Event


class Narrator:
    """Tells of a run's start and end, of what it saved and measured, and now and then of how it goes."""

    def __init__(self, began: float, resumed: int = 0) -> None:
        self._pace = Pace(began)
        self._resumed = resumed
        self._steps = 0
        self._told = False

    def line(self, event: Event, now: float) -> str | None:
        """What is to be said of the event at `now`, in seconds of the clock of `began`; mostly nothing."""
        match event["type"]:
            case "started":
                self._steps = event["steps"]
                return self._start(event)
            case "progress" if event["metrics"] and (not self._told or self._pace.due(now)):
                self._told = True
                return self._progress(event)
            case "saved":
                kind = "interim checkpoint" if event["interim"] else "checkpoint"
                return f"step {event['step']:,}: {kind} of {event['size_bytes']:,} bytes"
            case "classifier_trained":
                return classifier_message(event)
            case "evaluated":
                return scores_message(event)
            case "alert":
                return f"{event['level']}: {event['message']}"
            case "stopped":
                return f"stopped behind step {event['step']:,}, as asked"
            case "finished":
                return f"finished: {event['step']:,} steps, {event['images']:,} images"
        return None

    def _start(self, event: Event) -> str:
        spec = event["spec"]
        sizes = ", ".join(f"{name} of {count:,} parameters" for name, count in event["parameters"].items())
        where = f"training on {event['device']} in {spec['precision']}, threads: {spec['threads']}"
        origin = f"; from step {self._resumed:,} on" if self._resumed else ""
        return f"{where}; {sizes}; {event['steps']:,} steps of {spec['batch_size']:,} images{origin}"

    def _progress(self, event: Event) -> str:
        losses = ", ".join(
            f"{key} {value:.4g}" for key, value in event["metrics"].items() if key.startswith("loss/")
        )
        rate = f"{event['images_per_second']:,.0f} images a second"
        return f"step {event['step']:,} of {self._steps:,}, {rate}: {losses}"


def classifier_message(event: Event) -> str:
    return (
        f"A classifier for the scores was trained: {event['accuracy']:.1%} of {event['images']} images that "
        "it had never seen are told right."
    )


def scores_message(event: Event) -> str:
    scores = bare_scores(event["scores"])
    said = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores.items())
    message = f"Measured on {event['samples']} held-out images at step {event['step']}"
    return message + (f": {said}." if said else ".")


def bare_scores(values: Mapping[str, float]) -> dict[str, float]:
    """Of all measured values the scores of made images, by their own names: `fid` for `score/fid`."""
    return {key.removeprefix("score/"): value for key, value in values.items() if key.startswith("score/")}

"""Train without any service: `python -m models train SPEC.json --out DIR`."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models import tensorboard
from models.data import DatasetError, default_cache, open_dataset
from models.presets import expand, plan
from models.spec import JobSpec, SpecError
from models.spec.reference import reference
from models.training import Event, TrainingError, event_to_json, events, train

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train image generators, with no service.")


@app.command("train")
def train_command(
    spec: Annotated[
        Path, typer.Argument(help="A job spec as JSON: a preset with overrides, or a resolved one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the events, pictures and checkpoints.")],
    data: Annotated[
        str | None, typer.Option(help="A folder or archive of images, instead of the spec's dataset.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    inception: Annotated[
        Path | None,
        typer.Option(help="The file of Inception's weights, for scores by it.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Train by SPEC and write OUT/spec.json, events.jsonl, samples/, checkpoints/ and tensorboard/."""
    try:
        raw = json.loads(spec.read_text())
        dataset = open_dataset(data or str(expand(raw).get("dataset", "digits")))
        planned = plan(raw, lambda _: dataset.facts)
        console = Console(stderr=True)
        for warning in planned.warnings:
            _warn(console, warning)
        classifiers = default_cache() / "classifiers"
        run = train(planned.spec, dataset, out, device=device, classifiers=classifiers, inception=inception)
        _follow(run, planned.spec, out, classifiers, console)
    except (SpecError, json.JSONDecodeError, OSError) as error:
        raise _refused(f"{spec}: {error}") from None
    except (DatasetError, TrainingError) as error:
        raise _refused(f"{error.message} {error.hint}") from None


@app.command("reference")
def reference_command() -> None:
    """Print the job spec reference as Markdown."""
    typer.echo(reference(), nl=False)


def _follow(run: Iterator[Event], spec: JobSpec, out: Path, classifiers: Path, console: Console) -> None:
    """Write what the run tells, and show it."""
    out.mkdir(parents=True, exist_ok=True)
    for earlier in (out / tensorboard.FOLDER).glob("events.out.tfevents.*"):
        earlier.unlink()  # as events.jsonl begins anew: two runs' curves would be drawn as one
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        (out / "events.jsonl").open("w") as log,
        closing(tensorboard.TensorBoardWriter(out)) as board,
        Progress(*columns, console=console) as bar,
    ):
        task = bar.add_task(spec.name or spec.preset or spec.family, total=None)
        for event in run:
            board.add(event)
            log.write(json.dumps(event_to_json(event)) + "\n")
            match event:
                case events.Started():
                    (out / "spec.json").write_text(json.dumps(event.spec, indent=2) + "\n")
                    bar.update(task, total=event.steps)
                case events.Progress():
                    speed = f"{event.images_per_second:,.0f} images/s"
                    bar.update(task, completed=event.step, description=speed)
                case events.ClassifierTrained():
                    _keep(out / event.path, classifiers)
                    console.print(
                        f"A classifier for the scores: {event.accuracy:.1%} right on held-out images."
                    )
                case events.Evaluated() if scores := scores_line(event.scores):
                    console.print(f"{event.images:,} images: {scores}", highlight=False, soft_wrap=True)
                case events.Alert():
                    _warn(console, event.message)
    console.print(
        f"Done: {out}/samples holds the pictures, {out}/checkpoints the weights; "
        f"tensorboard --logdir {out}/tensorboard shows the curves.",
        highlight=False,
        markup=False,
        soft_wrap=True,  # paths are copied
    )


def scores_line(scores: Mapping[str, float]) -> str:
    """The scores in a line, the most telling first; empty without any."""
    names = {
        "fid": "FID",
        "kid": "KID",
        "precision": "precision",
        "recall": "recall",
        "inception_score": "Inception score",
        "modes": "classes covered",
        "class_kl": "class divergence",
    }
    told = [(name, scores.get(f"score/{key}")) for key, name in names.items()]
    return ", ".join(f"{name} {value:.3g}" for name, value in told if value is not None)


def _keep(trained: Path, classifiers: Path) -> None:
    """Copy a classifier to where the next run looks for it; it is there whole or not at all."""
    classifiers.mkdir(parents=True, exist_ok=True)
    partial = classifiers / f".{trained.name}.{os.getpid()}"
    shutil.copyfile(trained, partial)
    partial.replace(classifiers / trained.name)


def _warn(console: Console, message: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(message)}", soft_wrap=True)


def _refused(message: str) -> typer.Exit:
    Console(stderr=True).print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m models")

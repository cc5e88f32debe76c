"""Train without any service: `python -m models train SPEC.json --out DIR`."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models import checkpoint_folders, checkpoints, tensorboard
from models.data import DatasetError, default_cache, open_dataset
from models.presets import expand, plan
from models.spec import JobSpec, SpecError, load_spec
from models.spec.reference import reference
from models.spec.starting import misfits
from models.tensor_files import CheckpointError
from models.training import Event, TrainingError, event_to_json, events, train

_Data = Annotated[
    str | None, typer.Option(help="A folder or archive of images, instead of the spec's dataset.")
]
_Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
_Inception = Annotated[
    Path | None,
    typer.Option(help="The file of Inception's weights, for scores by it.", exists=True, dir_okay=False),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train image generators, with no service.")


@app.command("train")
def train_command(
    spec: Annotated[
        Path, typer.Argument(help="A job spec as JSON: a preset with overrides, or a resolved one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the events, pictures and checkpoints.")],
    data: _Data = None,
    device: _Device = "cpu",
    inception: _Inception = None,
) -> None:
    """Train by SPEC and write OUT/spec.json, events.jsonl, samples/, checkpoints/ and tensorboard/."""
    with _said_in_a_line(spec):
        raw = json.loads(spec.read_text())
        dataset = open_dataset(data or str(expand(raw).get("dataset", "digits")))
        planned = plan(raw, lambda _: dataset.facts)
        console = Console(stderr=True)
        for warning in planned.warnings:
            _warn(console, warning)
        init = None if planned.spec.init_from is None else Path(planned.spec.init_from)
        if init is not None:
            _refuse_misfits(planned.spec, init)
        run = train(
            planned.spec,
            dataset,
            out,
            device=device,
            classifiers=_classifiers(),
            inception=inception,
            init=init,
        )
        out.mkdir(parents=True, exist_ok=True)
        (out / "events.jsonl").unlink(missing_ok=True)
        for earlier in (out / tensorboard.FOLDER).glob("events.out.tfevents.*"):
            earlier.unlink()  # as events.jsonl begins anew: two runs' curves would be drawn as one
        _follow(run, planned.spec, out, console)


@app.command("resume")
def resume_command(
    out: Annotated[Path, typer.Argument(help="The folder that `train` was given as --out.")],
    data: _Data = None,
    device: _Device = "cpu",
    inception: _Inception = None,
) -> None:
    """Go on with a run that was stopped or killed, from its newest checkpoint that is whole."""
    stored = out / "spec.json"
    with _said_in_a_line(stored):
        spec = load_spec(json.loads(stored.read_text()))
        checkpoint = _newest_of(spec, out / "checkpoints")
        if checkpoint is None:
            raise _refused(f"{out}/checkpoints holds no checkpoint of this run that is whole: train anew.")
        dataset = open_dataset(data or spec.dataset)
        run = train(
            spec,
            dataset,
            out,
            device=device,
            classifiers=_classifiers(),
            inception=inception,
            resume=checkpoint,
        )
        step = int(checkpoint.name)
        _forget_events_after(step, out / "events.jsonl")
        _follow(run, spec, out, Console(stderr=True), resumed=step)


@app.command("reference")
def reference_command() -> None:
    """Print the job spec reference as Markdown."""
    typer.echo(reference(), nl=False)


def _refuse_misfits(spec: JobSpec, init: Path) -> None:
    if errors := misfits(spec, load_spec(checkpoints.read_metadata(init)["spec"])):
        raise SpecError(errors)


def _classifiers() -> Path:
    return default_cache() / "classifiers"


def _newest_of(spec: JobSpec, folder: Path) -> Path | None:
    """The newest checkpoint by this spec; the folder may hold those of earlier runs."""
    wanted = spec.model_dump(mode="json")
    return next(
        (
            found
            for found in checkpoint_folders.newest_first(folder)
            if checkpoints.read_metadata(found / checkpoints.FILE_NAME)["spec"] == wanted
        ),
        None,
    )


def _forget_events_after(step: int, path: Path) -> None:
    """The resumed run tells them again; a line that was cut short when the run was killed goes, too."""
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
    path.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except ValueError:
        return float("inf")


def _follow(run: Iterator[Event], spec: JobSpec, out: Path, console: Console, resumed: int = 0) -> None:
    """Write what the run tells, behind what it told before step `resumed`, and show it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        (out / "events.jsonl").open("a", buffering=1) as log,
        closing(tensorboard.TensorBoardWriter(out, resumed)) as board,
        Progress(*columns, console=console) as bar,
    ):
        task = bar.add_task(spec.name or spec.preset or spec.family, total=None)
        for event in run:
            board.add(event)
            board.flush()  # before the next checkpoint: a run that is killed and resumes there lacks nothing
            log.write(json.dumps(event_to_json(event)) + "\n")
            match event:
                case events.Started():
                    (out / "spec.json").write_text(json.dumps(event.spec, indent=2) + "\n")
                    bar.update(task, total=event.steps)
                case events.Progress():
                    speed = f"{event.images_per_second:,.0f} images/s"
                    bar.update(task, completed=event.step, description=speed)
                case events.ClassifierTrained():
                    _keep(out / event.path, _classifiers())
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


@contextmanager
def _said_in_a_line(source: Path) -> Iterator[None]:
    """What is wrong with a run ends the command with a line, not with a traceback."""
    try:
        yield
    except (DatasetError, TrainingError) as error:
        raise _refused(f"{error.message} {error.hint}") from None
    except CheckpointError as error:
        raise _refused(str(error)) from None
    except (SpecError, json.JSONDecodeError, OSError) as error:
        raise _refused(f"{source}: {error}") from None


def _warn(console: Console, message: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(message)}", soft_wrap=True)


def _refused(message: str) -> typer.Exit:
    Console(stderr=True).print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m models")

"""Train without any service: `python -m models train SPEC.json --out DIR`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.data import DatasetError, PackedDataset, open_dataset
from models.presets import expand, plan
from models.spec import DatasetFacts, JobSpec, SpecError
from models.spec.reference import reference
from models.training import Started, TrainingError, event_to_json, events, train

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
) -> None:
    """Train by SPEC and write OUT/spec.json, events.jsonl, samples/ and checkpoints/."""
    try:
        raw = json.loads(spec.read_text())
        dataset = open_dataset(data or str(expand(raw).get("dataset", "digits")))
        planned = plan(raw, lambda _: _facts(dataset))
        _run(planned.spec, planned.warnings, dataset, out, device)
    except (SpecError, json.JSONDecodeError, OSError) as error:
        raise _refused(f"{spec}: {error}") from None
    except (DatasetError, TrainingError) as error:
        raise _refused(f"{error.message} {error.hint}") from None


@app.command("reference")
def reference_command() -> None:
    """Print the job spec reference as Markdown."""
    typer.echo(reference(), nl=False)


def _run(spec: JobSpec, warnings: tuple[str, ...], dataset: PackedDataset, out: Path, device: str) -> None:
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (out / "events.jsonl").open("w") as log, Progress(*columns, console=console) as bar:
        task = bar.add_task(spec.name or spec.preset or spec.family, total=None)
        for event in train(spec, dataset, out, device=device):
            log.write(json.dumps(event_to_json(event)) + "\n")
            if isinstance(event, Started):
                (out / "spec.json").write_text(json.dumps(event.spec, indent=2) + "\n")
                bar.update(task, total=event.steps)
            elif isinstance(event, events.Progress):
                speed = f"{event.images_per_second:,.0f} images/s"
                bar.update(task, completed=event.step, description=speed)
    console.print(
        f"Done: {out}/samples holds the pictures, {out}/checkpoints the weights.",
        highlight=False,
        markup=False,
        soft_wrap=True,  # paths are copied
    )


def _facts(dataset: PackedDataset) -> DatasetFacts:
    return DatasetFacts(dataset.name, dataset.count, dataset.resolution, dataset.channels, dataset.classes)


def _refused(message: str) -> typer.Exit:
    Console(stderr=True).print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m models")

"""`atelier jobs`: submit, list, show, cancel, pause, resume, watch, events, logs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape

from service.commands.connection import connect
from service.commands.output import (
    Json,
    Limit,
    console,
    duration,
    errors,
    print_error,
    print_fields,
    print_json,
    print_table,
    say,
    steps,
    when,
)
from service.commands.progress import watch_job
from service.errors import AtelierError

if TYPE_CHECKING:
    from service.client import Client, Reply

app = typer.Typer(help="Submit, watch and cancel training jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of the job: job_…", show_default=False)]
SpecFile = Annotated[
    Path, typer.Argument(help="The job spec as a JSON file; - reads it from stdin.", allow_dash=True)
]


@app.command()
def submit(
    spec: SpecFile,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show the training.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve the spec, store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Queue a job, or see with --dry-run what it would be."""
    body = read_spec(spec)
    with connect() as client:
        if dry_run:
            show_plan(client.post("/v1/jobs", body, dry_run="true"), as_json=as_json)
            return
        job = client.post("/v1/jobs", body)
        if watch:
            follow(client, job["id"], as_json=as_json)
        elif as_json:
            print_json(job)
        else:
            say(f"{job['id']} is {job['status']}. See it train: [bold]atelier jobs watch {job['id']}[/]")


@app.command("list")
def list_jobs(
    *,
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only jobs on this dataset.")] = None,
    preset: Annotated[str | None, typer.Option(help="Only jobs that started from this preset.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List jobs."""
    with connect() as client:
        jobs = list(client.items("/v1/jobs", limit, status=status, dataset=dataset, preset=preset))
    if as_json:
        print_json(jobs)
        return
    rows = (
        (
            job["id"],
            job["name"],
            job["status"],
            job["dataset"],
            steps(job["progress"]),
            when(job["created_at"]),
        )
        for job in jobs
    )
    print_table(("id", "name", "status", "dataset", "steps", "created"), rows, empty="No jobs.")


@app.command()
def show(job: JobId, *, as_json: Json = False) -> None:
    """Show one job."""
    with connect() as client:
        reply = client.get(f"/v1/jobs/{job}")
    if as_json:
        print_json(reply)
    else:
        print_job(reply)


@app.command()
def cancel(job: JobId, *, as_json: Json = False) -> None:
    """Cancel a job, queued or running."""
    _ask(job, "cancel", as_json=as_json)


@app.command()
def pause(job: JobId, *, as_json: Json = False) -> None:
    """Let a running job save a checkpoint and stop."""
    _ask(job, "pause", as_json=as_json)


@app.command()
def resume(job: JobId, *, as_json: Json = False) -> None:
    """Let a paused, failed or cancelled job go on from its last checkpoint."""
    _ask(job, "resume", as_json=as_json)


@app.command()
def watch(job: JobId, *, as_json: Json = False) -> None:
    """Show a job as it trains; Ctrl-C stops the watching, not the job."""
    with connect() as client:
        follow(client, job, as_json=as_json)


@app.command()
def events(job: JobId, *, limit: Limit = 50, as_json: Json = False) -> None:
    """List what happened to a job."""
    with connect() as client:
        found = list(client.items(f"/v1/jobs/{job}/events", limit))
    if as_json:
        print_json(found)
        return
    rows = ((when(event["created_at"]), event["level"], event["type"], event["message"]) for event in found)
    print_table(("time", "level", "type", "message"), rows, empty="No events.")


def follow(client: "Client", job_id: str, *, as_json: bool) -> None:
    """Watch a job to its end; the exit status says whether it succeeded."""
    try:
        job = watch_job(client, job_id, errors if as_json else console)
    except KeyboardInterrupt:
        errors.print(f"The job goes on: atelier jobs watch {job_id}", soft_wrap=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(job)
    else:
        print_job(job)
    if job["status"] != "succeeded":
        raise typer.Exit(1)


def print_job(job: "Reply") -> None:
    progress = job.get("progress") or {}
    error = job.get("error") or {}
    speed = progress.get("images_per_second")
    print_fields(
        {
            "id": job["id"],
            "name": job["name"],
            "status": job["status"],
            "health": job.get("health"),
            "preset": job["spec"].get("preset"),
            "dataset": job["dataset"],
            "steps": steps(progress),
            "speed": f"{speed:,.0f} images/s" if speed else None,
            "left": duration(progress["eta_seconds"]) if progress.get("eta_seconds") else None,
            "attempt": job["attempt"],
            "created": when(job["created_at"]),
            "started": when(job["started_at"]),
            "finished": when(job["finished_at"]),
            "best checkpoint": job["best_checkpoint"],
            "last checkpoint": job["last_checkpoint"],
            "error": error.get("message"),
            "hint": error.get("hint"),
        }
    )


def show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    counts = plan["parameters"] or {}
    memory = plan["memory_bytes"]
    print_fields(
        {
            "steps": plan["steps"],
            "parameters": ", ".join(f"{name} {count:,}" for name, count in counts.items()),
            "memory": decimal(memory) if memory else None,
            "warnings": "\n".join(plan["warnings"]),
        }
    )
    console.print_json(json.dumps(plan["spec"]))


def read_spec(file: Path) -> object:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, ValueError) as error:
        message = f"{file} cannot be read as a job spec: {error}"
        hint = 'Expected a JSON object such as {"preset": "dcgan", "dataset": "digits"}.'
        print_error(AtelierError("bad_spec_file", message, hint=hint))
        raise typer.Exit(2) from None


@app.command()
def logs(
    job: JobId,
    *,
    attempt: Annotated[int | None, typer.Option(help="Only of this attempt.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Print the last lines of a job's log: how it goes, and what its training process wrote."""
    with connect() as client:
        found = list(client.items(f"/v1/jobs/{job}/logs", limit, attempt=attempt))
    if as_json:
        print_json(found)
        return
    for line in reversed(found):
        say(f"[dim]{line['attempt']} {when(line['created_at'])}[/dim] {escape(line['text'])}")


def _ask(job: str, what: str, *, as_json: bool) -> None:
    with connect() as client:
        reply = client.post(f"/v1/jobs/{job}/{what}")
    if as_json:
        print_json(reply)
    else:
        say(f"{reply['id']} is {reply['status']}.")

"""`atelier checkpoints` and `atelier evaluate`: what was stored, and how good it is."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.connection import connect
from service.commands.images import resolve_checkpoint
from service.commands.output import Json, Limit, errors, print_fields, print_json, print_table, say, when

if TYPE_CHECKING:
    from service.client import Client, Reply


def checkpoints(
    job: Annotated[
        str | None, typer.Argument(help="Only those of this job: job_…", show_default=False)
    ] = None,
    *,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List checkpoints with their scores."""
    with connect() as client:
        path = "/v1/checkpoints" if job is None else f"/v1/jobs/{job}/checkpoints"
        found = list(client.items(path, limit))
    if as_json:
        print_json(found)
        return
    scores = sorted({name for checkpoint in found for name in checkpoint["scores"]})
    shown = ("id", "step") if job else ("id", "job_id", "step")
    rows = (
        (
            *(checkpoint[name] for name in shown),
            *(checkpoint["scores"].get(name) for name in scores),
            ", ".join(flag for flag in ("best", "last") if checkpoint[flag]),
            when(checkpoint["created_at"]),
        )
        for checkpoint in found
    )
    columns = (name.removesuffix("_id").replace("_", " ") for name in (*shown, *scores, "is", "created"))
    print_table(tuple(columns), rows, empty="No checkpoints.")


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="ckpt_…, or job_… for the best one of that job")],
    *,
    samples: Annotated[int | None, typer.Option(help="Images made for the scores.", min=1)] = None,
    score: Annotated[
        list[str] | None, typer.Option(help="What to measure: fid, kid, …; may be repeated. Default: all.")
    ] = None,
    extractor: Annotated[str | None, typer.Option(help="classifier or inception.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image.", min=0)] = None,
    wait: Annotated[bool, typer.Option(help="Wait until a worker has measured it.")] = True,
    as_json: Json = False,
) -> None:
    """Measure a stored checkpoint; what is not said is as its job measures."""
    asked = {"samples": samples, "scores": score or None, "extractor": extractor, "seed": seed}
    request = {name: value for name, value in asked.items() if value is not None}
    with connect() as client:
        path = f"/v1/checkpoints/{resolve_checkpoint(client, checkpoint)}/evaluations"
        evaluation = client.post(path, request)
        if wait:
            evaluation = finished(client, evaluation["id"])
    print_json(evaluation) if as_json else print_evaluation(evaluation)
    if evaluation["status"] == "failed":
        raise typer.Exit(1)


def finished(client: "Client", evaluation_id: str) -> "Reply":
    with errors.status(f"{evaluation_id} is being measured"):
        *_, last = client.follow(f"/v1/evaluations/{evaluation_id}", sleep=time.sleep, every=0.5)
    return last


def print_evaluation(evaluation: "Reply") -> None:
    result: dict[str, Any] = evaluation["result"] or {"scores": {}, "details": {}}
    error, reference = evaluation["error"] or {}, result["details"].get("reference") or {}
    print_fields(
        {
            "id": evaluation["id"],
            "checkpoint": evaluation["checkpoint_id"],
            "status": evaluation["status"],
            **{name.replace("_", " "): value for name, value in result["scores"].items()},
            "samples": evaluation["request"]["samples"],
            "against": f"{reference['images']:,} images" if reference else None,
            "extractor": evaluation["request"]["extractor"],
            "seed": str(evaluation["request"]["seed"]),
            "error": error.get("message"),
            "hint": error.get("hint"),
        }
    )
    if evaluation["status"] in ("queued", "running"):
        say(f"[dim]Ask again with GET /v1/evaluations/{evaluation['id']}[/]")

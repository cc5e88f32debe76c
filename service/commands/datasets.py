"""`atelier datasets`: upload, list, show."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.connection import connect
from service.commands.output import Json, Limit, errors, print_fields, print_json, print_table, when

if TYPE_CHECKING:
    from service.client import Reply

app = typer.Typer(help="Upload archives of images and look at what became of them.", no_args_is_help=True)

Archive = Annotated[
    Path,
    typer.Argument(
        help="A zip or tar of images; the folder of an image is its class.", exists=True, dir_okay=False
    ),
]


@app.command()
def upload(
    archive: Archive,
    *,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; default: the file's.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until a worker has packed it.")] = True,
    as_json: Json = False,
) -> None:
    """Upload an archive of images."""
    with connect() as client:
        dataset = client.upload_dataset(name or archive.name.split(".")[0], archive)
        while wait and dataset["status"] == "pending":
            with errors.status(f"{dataset['id']} is being packed"):
                time.sleep(0.5)
            dataset = client.get(f"/v1/datasets/{dataset['id']}")
    print_json(dataset) if as_json else print_dataset(dataset)
    if dataset["status"] == "failed":
        raise typer.Exit(1)


@app.command("list")
def list_datasets(*, limit: Limit = 20, as_json: Json = False) -> None:
    """List datasets."""
    with connect() as client:
        datasets = list(client.items("/v1/datasets", limit))
    if as_json:
        print_json(datasets)
        return
    rows = (
        (
            row["id"],
            row["name"],
            row["status"],
            row["count"],
            len(row["classes"] or {}),
            when(row["created_at"]),
        )
        for row in datasets
    )
    print_table(("id", "name", "status", "images", "classes", "created"), rows, empty="No datasets.")


@app.command()
def show(
    dataset: Annotated[str, typer.Argument(help="Id: ds_…, or digits")], *, as_json: Json = False
) -> None:
    """Show one dataset, with every file that was dropped."""
    with connect() as client:
        reply = client.get(f"/v1/datasets/{dataset}")
    print_json(reply) if as_json else print_dataset(reply)


def print_dataset(dataset: "Reply") -> None:
    error = dataset.get("error") or {}
    print_fields(
        {
            "id": dataset["id"],
            "name": dataset["name"],
            "status": dataset["status"],
            "images": dataset["count"],
            "channels": dataset["channels"],
            "resolution": dataset["resolution"],
            "classes": ", ".join(f"{name} {count:,}" for name, count in (dataset["classes"] or {}).items()),
            "content hash": dataset["content_hash"],
            "error": error.get("message"),
            "hint": error.get("hint"),
        }
    )
    if suspects := dataset.get("suspects"):
        rows = (
            (row["name"] or row["index"], row["given"], row["likely"], f"{row['confidence']:.1%}")
            for row in suspects
        )
        print_table(("label suspect", "given", "looks like", "sure"), rows, empty="")
    if dropped := dataset.get("dropped"):
        print_table(("dropped file", "reason"), ((row["name"], row["reason"]) for row in dropped), empty="")

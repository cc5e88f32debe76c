"""`atelier images`: make images from a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from service.commands.connection import connect
from service.commands.output import Json, print_json, say
from service.errors import AtelierError

if TYPE_CHECKING:
    from service.client import Client

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def images(
    checkpoint: Annotated[str, typer.Argument(help="ckpt_…, or job_… for the best one of that job")],
    *,
    n: Annotated[int, typer.Option("--n", help="How many images.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the first image; the next has the next one.")] = 0,
    label: Annotated[
        list[int] | None,
        typer.Option(help="Class to show, of a conditional model: one for all, or repeated, one an image."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="A picture file for a grid, or a folder for one file each.")
    ] = Path("images"),
    as_json: Json = False,
) -> None:
    """Make images from a stored checkpoint."""
    picture = out.suffix.lower() in FORMATS
    request = {
        "n": n,
        "seed": seed,
        "format": FORMATS[out.suffix.lower()] if picture else "png",
        "layout": "grid" if picture and n > 1 else "separate",
        **({"labels": label} if label else {}),
    }
    with connect() as client:
        batch = client.make_images(resolve_checkpoint(client, checkpoint), request)
        if picture:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(client.read(batch["grid_url"] or batch["data"][0]["url"]))
        else:
            out.mkdir(parents=True, exist_ok=True)
            for image in batch["data"]:
                (out / f"{image['seed']}.png").write_bytes(client.read(image["url"]))
    if as_json:
        print_json(batch)
    else:
        count = "1 image" if n == 1 else f"{n} images"
        say(escape(f"{count} in {out}") + ("" if picture else ", each named by its seed"))


def resolve_checkpoint(client: "Client", name: str) -> str:
    """A checkpoint's id as it is; for a job's id, its best checkpoint."""
    if not name.startswith("job_"):
        return name
    best = client.get(f"/v1/jobs/{name}")["best_checkpoint"]
    if not best:
        hint = f"Wait for the first one: atelier jobs watch {name}"
        raise AtelierError("no_checkpoint", f"{name} has no checkpoint yet", status=409, hint=hint)
    return str(best)

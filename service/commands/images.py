"""`atelier images`: make images from a checkpoint."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from service.commands.connection import connect
from service.commands.output import Json, print_json, say
from service.errors import AtelierError

if TYPE_CHECKING:
    from service.client import Client

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".npz": "npz", ".gif": "gif"}


def images(
    checkpoint: Annotated[str, typer.Argument(help="ckpt_…, or job_… for the best one of that job")],
    *,
    n: Annotated[int, typer.Option("--n", help="How many images.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the first image; the next has the next one.")] = 0,
    label: Annotated[
        list[int] | None,
        typer.Option(help="Class to show, of a conditional model: one for all, or repeated, one an image."),
    ] = None,
    to: Annotated[
        int | None,
        typer.Option(help="Interpolate: --n images on the way from --seed to this seed.", min=0),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Of a GAN: redraw noise further from 0 than this, at most 1.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="A PNG, JPEG or WebP file that a diffusion model begins with.", exists=True, dir_okay=False
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much --init is changed, above 0 and at most 1.")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Of a diffusion model: ddim, dpmpp, …")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler.", min=1)] = None,
    quality: Annotated[
        int | None, typer.Option(help="Of jpeg and webp files, 1 to 100; a webp is exact without.")
    ] = None,
    columns: Annotated[int | None, typer.Option(help="Images in a row of the grid.", min=1)] = None,
    padding: Annotated[int | None, typer.Option(help="Pixels of white around them.", min=0)] = None,
    milliseconds: Annotated[int, typer.Option(help="How long an animation shows each image.")] = 100,
    metadata: Annotated[
        bool, typer.Option(help="Whether each PNG says how it was made: seed, sampler and the like.")
    ] = True,
    out: Annotated[
        Path,
        typer.Option(
            help="A picture file for a grid, .gif or (with --to) .webp for an animation, .npz for numpy, "
            "or a folder for one file each."
        ),
    ] = Path("images"),
    as_json: Json = False,
) -> None:
    """Make images from a stored checkpoint."""
    kind = _kind(out)
    moves = kind == "gif" or (kind == "webp" and to is not None)
    request = {
        **({"n": n, "seed": seed} if to is None else {"interpolate": {"from": seed, "to": to, "steps": n}}),
        **_files(kind, n, milliseconds if moves else None),
        **_given(labels=label or None, truncation=truncation, strength=strength, quality=quality),
        **_given(init_image=None if init is None else base64.b64encode(init.read_bytes()).decode()),
        **_given(
            sampler=_given(kind=sampler, steps=steps) or None,
            grid=_given(columns=columns, padding=padding) or None,
        ),
        "metadata": metadata,
    }
    with connect() as client:
        batch = client.make_images(resolve_checkpoint(client, checkpoint), request)
        _write(client, batch, out, one_file=kind is not None)
    if as_json:
        print_json(batch)
    else:
        count = "1 image" if n == 1 else f"{n} images"
        named = "" if kind else ", each named by its " + ("seed" if to is None else "place on the way")
        say(escape(f"{count} in {out}") + named)


def _kind(out: Path) -> str | None:
    """The format that a file's name asks for; None for a folder."""
    kind = FORMATS.get(out.suffix.lower())
    if kind is None and out.suffix and not out.is_dir():
        raise typer.BadParameter(
            f"a file {out.suffix} is none that can be made; name one of {', '.join(FORMATS)}, or a folder "
            "without a dot in its name.",
            param_hint="--out",
        )
    return kind


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _files(kind: str | None, n: int, milliseconds: int | None) -> dict[str, Any]:
    """What to ask for so that a file of this kind comes back; with `milliseconds` an animation."""
    if milliseconds is not None:
        return {"animation": {"format": kind, "frame_milliseconds": milliseconds}}
    layout = "grid" if kind not in (None, "npz") and n > 1 else "separate"
    return {"format": kind or "png", "layout": layout}


def _write(client: "Client", batch: dict[str, Any], out: Path, *, one_file: bool) -> None:
    if one_file:
        whole = batch["animation_url"] or batch["archive_url"] or batch["grid_url"]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(client.read(whole or batch["data"][0]["url"]))
        return
    out.mkdir(parents=True, exist_ok=True)
    for image in batch["data"]:
        name = image["seed"] if image["position"] is None else f"{image['index']:04d}"
        (out / f"{name}.png").write_bytes(client.read(image["url"]))


def resolve_checkpoint(client: "Client", name: str) -> str:
    """A checkpoint's id as it is; for a job's id, its best checkpoint."""
    if not name.startswith("job_"):
        return name
    best = client.get(f"/v1/jobs/{name}")["best_checkpoint"]
    if not best:
        hint = f"Wait for the first one: atelier jobs watch {name}"
        raise AtelierError("no_checkpoint", f"{name} has no checkpoint yet", status=409, hint=hint)
    return str(best)

"""`atelier demo`: a DCGAN learns handwritten digits through the whole service, while you watch."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from service.commands.output import console, errors, say
from service.commands.progress import watch_job
from service.commands.stack import announce
from service.errors import AtelierError

if TYPE_CHECKING:
    from service.client import Client, Reply
    from service.interruption import Interruption

# The job that the demo posts: three minutes on two cores at most, and long enough for digits to be read.
SPEC = {"name": "demo", "preset": "dcgan", "dataset": "digits", "seed": 0, "budget": {"images": 200_000}}
SAMPLES = {"n": 64, "seed": 1000, "format": "png", "layout": "grid"}


def demo(
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures; the service's data goes to OUT/data.")
    ] = Path("demo"),
) -> None:
    """Train a DCGAN on handwritten digits and make images, all through the real service."""
    from service.interruption import Interrupted, Interruption

    with Interruption() as interruption:
        try:
            run(out, interruption)
        except Interrupted:
            errors.print("Stopped; nothing is left running.")
            raise typer.Exit(130) from None


def run(out: Path, interruption: "Interruption") -> None:
    from service.client import Client
    from service.local import Stack

    out.mkdir(parents=True, exist_ok=True)
    say("Starting Redis, the database, the API and the workers …")
    with ExitStack() as stack:
        local = stack.enter_context(Stack(out / "data", interruption, port=0))
        announce(local)
        client = stack.enter_context(Client(local.url, local.key_file.read_text().strip()))
        with interruption.immediate():
            job = train(client, interruption)
            written = keep(client, job, out, interruption)
        say("Shutting down …")
    report(job, out, written)


def train(client: "Client", interruption: "Interruption") -> "Reply":
    """Post the demo's job and show it until it has ended."""
    for left in client.items("/v1/jobs", 100, status=["queued", "running"]):  # by a demo that was interrupted
        client.post(f"/v1/jobs/{left['id']}/cancel")
    job = client.post("/v1/jobs", SPEC)
    say(f"Training preset {SPEC['preset']} on {SPEC['dataset']} as {job['id']}")
    job = watch_job(client, job["id"], console, sleep=interruption.sleep)
    if job["status"] != "succeeded":
        error = job["error"] or {}
        message = f"the training {job['status']}: {error.get('message', 'no reason was given')}"
        raise AtelierError("demo_failed", message, hint=error.get("hint"))
    return job


def keep(client: "Client", job: "Reply", out: Path, interruption: "Interruption") -> dict[str, str]:
    """Write the pictures and the job; returns what each file is."""
    batch = client.make_images(job["best_checkpoint"], SAMPLES, sleep=interruption.sleep)
    steps = sorted(sample["step"] for sample in client.items(f"/v1/jobs/{job['id']}/samples", 1000))
    pictures = {
        "samples.png": ("64 images of the best checkpoint", batch["grid_url"]),
        "metrics.png": ("its losses", f"/v1/jobs/{job['id']}/metrics.png"),
        "first.png": ("what it made at the start", f"/v1/jobs/{job['id']}/samples/{steps[0]}.png"),
        "last.png": ("the same noise at the end", f"/v1/jobs/{job['id']}/samples/{steps[-1]}.png"),
    }
    for name, (_, url) in pictures.items():
        (out / name).write_bytes(client.read(url))
    enlarge(out / "samples.png", times=4)
    (out / "job.json").write_text(json.dumps(job, indent=2) + "\n")
    return {name: what for name, (what, _) in pictures.items()} | {
        "job.json": "the job as the service reports it"
    }


def enlarge(picture: Path, times: int) -> None:
    """Digits of 16 pixels are too small to look at."""
    from PIL import Image

    with Image.open(picture) as small:
        large = small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST)
    large.save(picture)


def report(job: "Reply", out: Path, written: dict[str, str]) -> None:
    progress = job["progress"]
    say(f"\n[bold green]Done:[/] {progress['images']:,} images shown in {progress['total_steps']:,} steps.")
    for name, what in written.items():
        say(escape(f"  {out / name}   {what}"))
    again = escape(f"atelier up --data {out / 'data'}")
    say(f"Everything is kept: [bold]{again}[/] serves this model again.")

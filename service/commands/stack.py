"""`atelier up` and the parts it is made of: api, worker, reconcile, migrate, ready."""

import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape

from service.commands.connection import connect
from service.commands.output import say

if TYPE_CHECKING:
    from service.local import Stack
    from service.settings import Settings

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)]


class Kind(StrEnum):
    """The kinds of worker, each with a queue of its own."""

    TRAIN = "train"
    SAMPLE = "sample"
    PREPARE = "prepare"


# One training at a time; pictures and short questions beside each other; one packing at a time.
CONCURRENCY = {Kind.TRAIN: 1, Kind.SAMPLE: 4, Kind.PREPARE: 1}


def up(
    *,
    data: Annotated[Path, typer.Option(help="Folder for everything it keeps.")] = Path("atelier-data"),
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[str, typer.Option(help="How many of each kind.")] = "train=1,sample=1,prepare=1",
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from service.interruption import Interrupted, Interruption

    counts = parse_workers(workers)
    with Interruption() as interruption:
        try:
            from service.local import Stack

            say("Starting …")
            with Stack(data, interruption, host, port, counts) as stack:
                announce(stack)
                stack.watch()
        except Interrupted:
            say("Stopped.")


def api(*, host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Serve the HTTP API."""
    settings = checked_settings()
    replace_process(
        *("uvicorn", "service.api.app:create_app", "--factory", "--host", host, "--port", str(port)),
        *("--no-server-header", "--timeout-graceful-shutdown", "3"),
        *("--log-level", settings.log_level.lower()),
    )


def worker(
    kind: Annotated[Kind, typer.Argument(help="What it works on.")],
    *,
    name: Annotated[str | None, typer.Option(help="Its name on this host, if there are several.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only ask a running one whether it is well.")
    ] = False,
) -> None:
    """Run a worker: trainings, images, or datasets."""
    settings = checked_settings()
    node = f"{name or kind}@{socket.gethostname()}"
    if check:
        check_worker(node, settings.redis_url)
    if kind is Kind.SAMPLE:
        # Between two batches OpenMP's threads would spin on the cores that the API needs to fetch the next.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    replace_process(
        *("celery", "--app", "worker.app", "worker", "--queues", kind),
        *("--hostname", node, "--loglevel", settings.log_level),
        *("--pool", "threads", "--concurrency", str(CONCURRENCY[kind])),
        *("--without-mingle", "--without-gossip", "--without-heartbeat"),
    )


def check_worker(node: str, redis_url: str) -> NoReturn:
    """Become a ping of one worker over Redis; the exit status is 0 if it answers."""
    from service.queue import broker_url

    # The worker's own application reads nothing but tasks, so it would not hear the answer.
    os.environ["CELERY_BROKER_URL"] = broker_url(redis_url)
    replace_process("celery", "inspect", "ping", "--destination", node, "--timeout", "5")


def reconcile() -> None:
    """Bring back jobs whose worker or message was lost; run one or several."""
    checked_settings()
    replace_process("worker.reconciler")


def migrate() -> None:
    """Create or update the database's tables, and accept ATELIER_ADMIN_KEY if it is set."""
    from service.installation import install

    settings = checked_settings()
    new_key = install(
        settings.database_url, settings.admin_key.get_secret_value() if settings.admin_key else None
    )
    say(
        "The database is up to date."
        + (" ATELIER_ADMIN_KEY is a valid API key from now on." if new_key else "")
    )


def ready() -> None:
    """Say whether the service can serve; the exit status is 0 if so."""
    with connect() as client:
        say(f"{client.url} is {client.get('/readyz')['status']}.")


def announce(stack: "Stack") -> None:
    say(f"[bold green]Atelier is ready:[/] {stack.url}   (documentation: {stack.url}/docs)")
    if stack.key_is_new:
        say(f"New admin API key: {stack.key_file.read_text().strip()}")
    say(escape(f"API key in {stack.key_file}, logs in {stack.logs}"))
    say("Ctrl-C stops it.")


def parse_workers(text: str) -> dict[str, int]:
    """`train=2,sample=1` as counts; a kind that is not named gets one worker."""
    counts = {kind.value: 1 for kind in Kind}
    for part in text.split(","):
        name, _, count = part.strip().partition("=")
        if name not in counts or not count.isdecimal():
            message = f"{part!r} is not one of train=N, sample=N, prepare=N"
            raise typer.BadParameter(message, param_hint="--workers")
        counts[name] = int(count)
    return counts


def replace_process(module: str, *arguments: str) -> NoReturn:
    """Become `python -m module arguments`, in the environment that this command is installed in."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606  (no shell is wanted)


def checked_settings() -> "Settings":
    """The settings that the process which follows will read: what is wrong is said here, legibly."""
    from service.settings import load_settings

    return load_settings()

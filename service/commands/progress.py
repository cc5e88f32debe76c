"""A job as it trains: a live bar on a terminal, a line every few seconds anywhere else."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

from service.commands.output import duration

if TYPE_CHECKING:
    from service.client import Client, Reply

LINE_SECONDS = 3.0
SILENT_SECONDS = 15.0


class _Lines:
    """A line when the status changes, every few seconds while the facts do, and now and then anyway."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = self._facts = ""
        self._time = 0.0

    def show(self, status: str, facts: str) -> None:
        waited = time.monotonic() - self._time
        changed = status != self._status or (facts != self._facts and waited >= LINE_SECONDS)
        if changed or waited >= SILENT_SECONDS:
            self._status, self._facts, self._time = status, facts, time.monotonic()
            self._console.print(f"{status:<9} {escape(facts)}", soft_wrap=True)


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["facts"]))


def watch_job(
    client: "Client", job_id: str, console: Console, *, sleep: Callable[[float], None] = time.sleep
) -> "Reply":
    """Show the job until it has a final status; returns it as it ended."""
    bar = Progress(
        TextColumn("[bold]{task.description}"), BarColumn(), TaskProgressColumn(), _Facts(), console=console
    )
    live: AbstractContextManager[Any] = bar if console.is_terminal else nullcontext()
    row = bar.add_task("queued", total=None, facts="")
    lines = _Lines(console)
    job: Reply = {}
    with live:
        for job in client.follow(f"/v1/jobs/{job_id}", sleep=sleep):
            progress = job.get("progress") or {}
            facts = describe(progress, client.losses(job_id) if progress.get("step") else {})
            total = progress.get("total_steps")
            bar.update(
                row, description=job["status"], completed=progress.get("step") or 0, total=total, facts=facts
            )
            if not console.is_terminal:
                lines.show(job["status"], facts)
    return job


def describe(progress: dict[str, Any], losses: dict[str, float]) -> str:
    """`step 400/2,000  3,120 images/s  ETA 0:31  generator 1.02  discriminator 0.61`."""
    parts = []
    if progress.get("total_steps"):
        parts.append(f"step {progress.get('step') or 0:,}/{progress['total_steps']:,}")
    if progress.get("images_per_second"):
        parts.append(f"{progress['images_per_second']:,.0f} images/s")
    if progress.get("eta_seconds") is not None:
        parts.append(f"ETA {duration(progress['eta_seconds'])}")
    parts += [f"{name} {value:.3g}" for name, value in losses.items()]
    return "  ".join(parts)

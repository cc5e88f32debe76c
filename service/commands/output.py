"""How the `atelier` command shows things: tables for people, JSON for programs, errors on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.errors import AtelierError

Json = Annotated[bool, typer.Option("--json", help="Print the service's reply as JSON.")]
Limit = Annotated[int, typer.Option(help="How many to list, newest first.", min=1)]

STATUS_STYLES = {
    "succeeded": "green",
    "ready": "green",
    "running": "cyan",
    "failed": "red",
    "error": "red",
    "cancelled": "yellow",
    "warning": "yellow",
}
PIPE_WIDTH = 160  # a table in a pipe is not squeezed into 80 columns

console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def say(text: str = "") -> None:
    """A line for people; not wrapped, so that addresses and paths can be copied."""
    console.print(text, soft_wrap=True)


def print_json(reply: object) -> None:
    sys.stdout.write(json.dumps(reply, indent=2, ensure_ascii=False) + "\n")


def print_error(error: AtelierError) -> None:
    errors.print(f"[bold red]Error:[/] {escape(error.message)}", soft_wrap=True)
    if error.hint:
        errors.print(f"[dim]{escape(error.hint)}[/]", soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    if table.row_count:
        console.print(table)
    else:
        say(f"[dim]{empty}[/]")


def print_fields(fields: Mapping[str, object]) -> None:
    """One object, a field a line; fields without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            table.add_row(name, cell(value))
    console.print(table)


def cell(value: object) -> str:
    if value is None:
        return "[dim]–[/]"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = escape(str(value))
    style = STATUS_STYLES.get(text)
    return f"[{style}]{text}[/]" if style else text


def when(time: str | None) -> str | None:
    """An RFC 3339 time as this machine's clock shows it."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else None


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def steps(progress: Mapping[str, Any] | None) -> str:
    """How far a job is, for a table."""
    if not progress or not progress.get("total_steps"):
        return "–"
    done, total = progress.get("step") or 0, progress["total_steps"]
    return f"{done:,}/{total:,} ({done / total:.0%})"

"""The `atelier` command: runs the service and its parts, and is a client of it."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from service.commands import checkpoints, datasets, demo, images, jobs, keys, presets, stack
from service.commands.output import print_error, say
from service.errors import AtelierError

HERE = "On this machine"
PARTS = "Parts of a deployment"
CLIENT = "Use a service"

app = typer.Typer(
    name="atelier",
    help="Trains image generators behind a REST service, and makes images from every stored checkpoint.",
    epilog="The client commands speak with ATELIER_URL and ATELIER_API_KEY, or with the local stack in "
    "ATELIER_DATA (default: atelier-data). docs/configuration.md lists every variable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals hold keys
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(asked: bool) -> None:  # noqa: FBT001  (typer calls it with the option's value)
    if asked:
        say(f"atelier {version('atelier')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Take the options that come before a command."""


app.command("up", rich_help_panel=HERE)(stack.up)
app.command("demo", rich_help_panel=HERE)(demo.demo)
app.command("api", rich_help_panel=PARTS)(stack.api)
app.command("worker", rich_help_panel=PARTS)(stack.worker)
app.command("reconcile", rich_help_panel=PARTS)(stack.reconcile)
app.command("migrate", rich_help_panel=PARTS)(stack.migrate)
app.add_typer(keys.app, name="keys", rich_help_panel=PARTS)
app.add_typer(jobs.app, name="jobs", rich_help_panel=CLIENT)
app.add_typer(datasets.app, name="datasets", rich_help_panel=CLIENT)
app.command("checkpoints", rich_help_panel=CLIENT)(checkpoints.checkpoints)
app.command("evaluate", rich_help_panel=CLIENT)(checkpoints.evaluate)
app.command("images", rich_help_panel=CLIENT)(images.images)
app.add_typer(presets.app, name="presets", rich_help_panel=CLIENT)
app.command("ready", rich_help_panel=CLIENT)(stack.ready)


def main() -> None:
    try:
        app()
    except AtelierError as error:
        print_error(error)
        sys.exit(1)
    except BrokenPipeError:  # `atelier jobs list | head`
        sys.stderr.close()
        sys.exit(1)

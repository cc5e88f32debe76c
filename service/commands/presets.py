"""`atelier presets`: list and show the specs to start from."""

import json
from typing import Annotated

import typer

from service.commands.connection import connect
from service.commands.output import Json, console, print_json, print_table, say

app = typer.Typer(help="Complete specs to start from.", no_args_is_help=True)


@app.command("list")
def list_presets(*, as_json: Json = False) -> None:
    """List presets."""
    with connect() as client:
        presets = client.get("/v1/presets")["data"]
    if as_json:
        print_json(presets)
        return
    rows = ((preset["name"], preset["family"], preset["summary"]) for preset in presets)
    print_table(("name", "family", "summary"), rows, empty="No presets.")


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of the preset.")], *, as_json: Json = False) -> None:
    """Show one preset with its complete spec."""
    with connect() as client:
        preset = client.get(f"/v1/presets/{name}")
    if as_json:
        print_json(preset)
        return
    say(f"[bold]{preset['name']}[/]: {preset['summary']}")
    console.print_json(json.dumps(preset["spec"]))

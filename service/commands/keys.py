"""`atelier keys`: API keys, made directly in the database by whoever may reach it."""

from contextlib import closing
from typing import Annotated

import typer

from service.commands.output import Json, print_json, say

app = typer.Typer(help="Make API keys, directly in the database.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make API keys, directly in the database."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for the list of keys.")] = "admin",
    *,
    as_json: Json = False,
) -> None:
    """Make a key and print its secret, once: only its hash is stored."""
    from service.records import keys
    from service.records.database import Database
    from service.settings import load_settings

    with closing(Database(load_settings().database_url)) as database:
        database.check()  # a database without tables is told from one that does not answer
        with database.transaction() as session:
            key, secret = keys.create(session, name)
    if as_json:
        print_json({"id": key.id, "name": name, "secret": secret})
    else:
        say(secret)

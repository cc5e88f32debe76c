"""Migrations of the database, by Alembic: from nothing, or from any earlier version, to the newest."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def configuration(database_url: str) -> Config:
    """Alembic's configuration for a database, whatever the current folder is."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config


def migrate(database_url: str, revision: str = "head") -> None:
    """Brings the database to `revision` in one transaction; processes that do it at the same time take turns."""
    command.upgrade(configuration(database_url), revision)

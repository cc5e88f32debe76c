"""What Alembic runs: one transaction on the database it was pointed at."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import text

from service.records.columns import CleanText, UtcDateTime
from service.records.database import Database
from service.records.tables import Table
from service.settings import load_settings

# Any number will do that nothing else locks in this database.
LOCK = 7_250_917_366_121_038


def plain_type(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Writes the service's own column types as plain ones: a migration must not change when they do."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, CleanText):
        return "sa.String()"
    return False


def run(url: str) -> None:
    database = Database(url)
    try:
        with database.transaction() as session:
            connection = session.connection()
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            context.configure(
                connection=connection,
                target_metadata=Table.metadata,
                transactional_ddl=True,
                render_as_batch=connection.dialect.name == "sqlite",
                render_item=plain_type,
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        database.close()


if context.is_offline_mode():
    raise SystemExit("Migrations need a database to run on: leave out --sql.")
run(
    context.config.attributes.get("database_url")
    or context.get_x_argument(as_dictionary=True).get("url")
    or load_settings().database_url
)

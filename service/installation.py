"""Makes a database ready for the service: its tables, the built-in datasets, the operator's own key."""

from contextlib import closing

from service.records import datasets, keys
from service.records.database import Database, migrate


def install(database_url: str, admin_key: str | None) -> bool:
    """May be run again at any time, and is after every update; True if `admin_key` was not known before."""
    migrate(database_url)
    with closing(Database(database_url)) as database, database.transaction() as session:
        datasets.ensure_builtins(session)
        return admin_key is not None and keys.ensure_admin(session, admin_key)

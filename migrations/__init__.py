"""Migrations of the database, by Alembic; `service.records.database.migrate` runs them."""

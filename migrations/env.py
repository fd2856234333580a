"""Alembic's environment: migrates the connection it is given, else the database that the settings name."""

from alembic import context
from sqlalchemy import Connection

from worker.records.database import Base, create_ledger_engine
from worker.settings import Settings


def migrate(connection: Connection) -> None:
    """Run the migrations on this connection; a lock that isn't had soon is given up."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


def connect() -> None:
    """Use the caller's connection, or open one from the settings."""
    if (connection := context.config.attributes.get("connection")) is not None:
        migrate(connection)
        return
    url = Settings().database_url
    if url is None:
        raise SystemExit("set GLIOGRADE_DATABASE_URL to the database to migrate")
    with create_ledger_engine(url.get_secret_value()).connect() as connection:
        migrate(connection)


connect()

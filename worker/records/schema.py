"""The schema of the database, moved by Alembic and checked before anything writes."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parents[2] / "migrations"


class SchemaError(Exception):
    """The database has another schema than this program; the message says what to run."""


def upgrade_schema(engine: Engine) -> None:
    """Bring the database to this program's schema."""
    with engine.begin() as connection:
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def check_schema(engine: Engine) -> None:
    """Raise SchemaError unless the database has exactly this program's schema."""
    with engine.connect() as connection:
        _compare(MigrationContext.configure(connection).get_current_revision())


def readiness(engine: Engine) -> tuple[bool, str]:
    """Whether this program can work with the database, and a line that says so, for a probe."""
    try:
        check_schema(engine)
    except SchemaError as error:
        return False, str(error)
    except OperationalError:
        return False, "PostgreSQL can't be reached"
    return True, "the ledger can be read"


def readers_may_read(engine: Engine) -> bool:
    """Whether the role `gliograde_reader` exists and may read the views."""
    with engine.connect() as connection:
        return bool(
            connection.scalar(
                text(
                    "SELECT has_table_privilege(rolname, 'v_results', 'SELECT') "
                    "FROM pg_roles WHERE rolname = 'gliograde_reader'"
                )
            )
        )


def check_revision(session: Session) -> None:
    """Do as `check_schema`, in a transaction that is open: a process may outlive an upgrade."""
    _compare(session.scalar(text("SELECT version_num FROM alembic_version")))


def _compare(found: str | None) -> None:
    script = _script()
    expected = script.get_current_head()
    if found == expected:
        return
    known = found is None or found in {revision.revision for revision in script.walk_revisions()}
    if known:
        raise SchemaError(
            f"the database is at schema {found or 'none'}, this gliograde needs {expected}: "
            "run `gliograde migrate`"
        )
    raise SchemaError(
        f"the database is at schema {found}, which is newer than this gliograde: update gliograde"
    )


@cache
def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    return configuration

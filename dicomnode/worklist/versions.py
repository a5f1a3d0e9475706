"""The version of the tables: what the database is, what this program needs, and the way there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from dicomnode.errors import DatabaseNewerError, DatabaseOlderError

# Any number that no other program takes: "DICOM" on a telephone's keys.
_ADVISORY_LOCK = 34266


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    return configuration


def wanted() -> str:
    """Give the version that this program needs."""
    head = ScriptDirectory.from_config(_configuration()).get_current_head()
    if head is None:
        raise DatabaseNewerError("This installation is broken: it holds no migrations.")
    return head


def current(connection: Connection) -> str | None:
    """Give the version of the database, or None where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def check(connection: Connection) -> None:
    """Prove that the database is of this program's version.

    Raises
    ------
    DatabaseOlderError, DatabaseNewerError
    """
    found = current(connection)
    connection.rollback()
    if found == wanted():
        return
    _demand_known(found)
    raise DatabaseOlderError(
        f"The database is of version {found or 'none'}, this program needs {wanted()}; run: "
        "dicomnode db upgrade"
    )


def _demand_known(found: str | None) -> None:
    known = {
        script.revision for script in ScriptDirectory.from_config(_configuration()).walk_revisions()
    }
    if found is not None and found not in known:
        raise DatabaseNewerError(
            f"The database is of version {found}, which this program does not know: a newer "
            "program wrote it. Install that one again, or restore a backup."
        )


def upgrade(engine: Engine) -> bool:
    """Run the migrations that are missing, one process at a time; tell whether there were any.

    Raises
    ------
    DatabaseNewerError
    """
    # On SQLite the engine's BEGIN IMMEDIATE is the lock.
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(:number)")
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(lock, {"number": _ADVISORY_LOCK})
        found = current(connection)
        _demand_known(found)
        if found == wanted():
            return False
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    return True


def downgrade(connection: Connection) -> None:
    """Take every migration back: the tables are gone after."""
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    command.downgrade(configuration, "base")

"""The version of the tables: what the database is, what this program needs, and the way there.

A migration's file is named for its revision (``0001_first.py``): which versions there are is read
from the names. Alembic, which takes a quarter of a second to load, is loaded to change tables only.
"""

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from dicomnode.errors import DatabaseNewerError, DatabaseOlderError

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number that no other program takes: "DICOM" on a telephone's keys.
_ADVISORY_LOCK = 34266


@cache
def known() -> tuple[str, ...]:
    """Give every version that this program knows, the oldest first."""
    files = (MIGRATIONS / "versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def wanted() -> str:
    """Give the version that this program needs."""
    return known()[-1]


def current(connection: Connection) -> str | None:
    """Give the version of the database, or None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


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
    if found is not None and found not in known():
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
        _migrate(connection, to=wanted())
    return True


def downgrade(connection: Connection) -> None:
    """Take every migration back: the tables are gone after."""
    _migrate(connection, to="base")


def _migrate(connection: Connection, *, to: str) -> None:
    from alembic import command  # noqa: PLC0415  loads mako and every lexer of pygments
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    change = command.downgrade if to == "base" else command.upgrade
    change(configuration, to)

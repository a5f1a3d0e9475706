"""The `Worklist`: connections to the database, its version, its clock and its bell.

Each process opens its own; threads share one. On SQLite a transaction that writes has the file for
itself, so it must be short: no file, no network inside.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dicomnode.errors import DatabaseUnavailableError, WorklistError
from dicomnode.worklist import schema, versions
from dicomnode.worklist.engines import demand_durable, make_engines, parse_url
from dicomnode.worklist.rows import insert_named
from dicomnode.worklist.signals import Bell, Channel, take_signals, wake

Result = TypeVar("Result")

# How often SQLite is asked whether another process committed: it has no notification.
_POLL_S = 0.25
_POSTGRESQL_CHANNEL = "dicomnode"
_WRITER_TURN_S = 10.0
# What SQLite says of a file that only a backup mends.
_DAMAGED = ("file is not a database", "database disk image is malformed")
# A fault of ours, not of the database: never retried, never told as "does not answer".
_OUR_FAULT = ("no such table", "no such column", "syntax error", "has no column", "no such index")


def utc_ms() -> int:
    """Give this machine's clock as epoch milliseconds, UTC."""
    return time.time_ns() // 1_000_000


def _said(error: SQLAlchemyError) -> str:
    """Give what the driver said, without statement and values: those hold patients' names."""
    cause = getattr(error, "orig", None)
    return (str(cause or error).strip().splitlines() or [""])[0]


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that does not answer or is damaged into an error of the worklist."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        said = _said(error)
        if any(fault in said for fault in _OUR_FAULT):
            raise
        raise DatabaseUnavailableError(f"The database does not answer: {said}") from error
    except DatabaseError as error:
        said = _said(error)
        if any(damage in said for damage in _DAMAGED):
            raise WorklistError(f"The database is damaged: {said}") from error
        if not error.connection_invalidated:
            raise
        raise DatabaseUnavailableError(f"The database does not answer: {said}") from error


class Worklist:
    """Hands out connections to the one database; safe for several threads."""

    def __init__(
        self, url: str, *, now: Callable[[], int] | None = None, password: str | None = None
    ) -> None:
        self.url = parse_url(url, password)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._now = now
        self._writer, self._reader = make_engines(self.url)
        self._turn = threading.Lock()
        self._bell = Bell()
        self._closed = threading.Event()
        self._listening = threading.Lock()
        self._listener: threading.Thread | None = None
        self._checked = False
        self._node_id: str | None = None

    @classmethod
    def open(
        cls, url: str, *, now: Callable[[], int] | None = None, password: str | None = None
    ) -> "Worklist":
        """Give the worklist at an address, proved to answer and to keep what it acknowledges.

        Parameters
        ----------
        now
            A clock in epoch milliseconds, for tests. Without it: this machine's on SQLite, the
            database's on PostgreSQL, where several machines must agree.
        password
            Of a PostgreSQL role, read from its own file.

        Raises
        ------
        DatabaseUnavailableError, DatabaseUnsafeError, ConfigurationError
        """
        worklist = cls(url, now=now, password=password)
        try:
            with translated(), worklist._writer.begin() as connection:
                demand_durable(connection)
        except BaseException:
            worklist.close()
            raise
        return worklist

    def upgrade(self) -> bool:
        """Bring the tables to this program's version; tell whether anything was done.

        Raises
        ------
        DatabaseNewerError
            If a newer program wrote the database.
        """
        with translated():
            changed = versions.upgrade(self._writer)
        self._checked = False
        with self.write() as tx:
            values = {"id": 1, "node_id": str(uuid.uuid4()), "created_at": self.now()}
            insert_named(tx, schema.node, values)
        return changed

    def check(self) -> None:
        """Prove once that the tables are of this program's version.

        Raises
        ------
        DatabaseOlderError, DatabaseNewerError
        """
        if not self._checked:
            with translated(), self._writer.connect() as connection:
                versions.check(connection)
            self._checked = True

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction that writes; it is committed at the end, or undone by an error.

        Raises
        ------
        DatabaseUnavailableError
            If the database is away or stays locked; nothing was done, or, where the commit itself
            broke off, it is not known: every function here may be run again.
        """
        self.check()
        with translated():
            with self._my_turn(), self._writer.begin() as tx:
                take_signals(tx)
                yield tx
                channels = take_signals(tx)
                if channels and not self.is_sqlite:
                    told = text("SELECT pg_notify(:channel, :names)")
                    names = ",".join(sorted(channels))
                    tx.execute(told, {"channel": _POSTGRESQL_CHANNEL, "names": names})
            if channels:
                self._bell.ring(channels)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that only reads; it waits for no writer."""
        self.check()
        with translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        # SQLite's own lock is unfair and is waited for by polling: threads queue here first.
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=_WRITER_TURN_S):
            raise DatabaseUnavailableError("The database stayed locked by another thread.")
        try:
            yield
        finally:
            self._turn.release()

    def transact(self, work: Callable[[Connection], Result], *, patience_s: float = 30.0) -> Result:
        """Run a unit of work in one transaction, again while the database is away.

        Parameters
        ----------
        work
            Gets the transaction; must have no effect outside it.
        patience_s
            How long to go on trying.
        """
        deadline = time.monotonic() + patience_s
        pause_s = 0.05
        while True:
            try:
                with self.write() as tx:
                    return work(tx)
            except DatabaseUnavailableError:
                if time.monotonic() + pause_s > deadline or self._closed.wait(pause_s):
                    raise
                pause_s = min(2.0, pause_s * 2)

    def now(self) -> int:
        """Give the time in epoch milliseconds: one clock for all who share the database."""
        if self._now is not None:
            return self._now()
        if self.is_sqlite:
            return utc_ms()
        clock = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
        with translated(), self._reader.begin() as connection:
            return int(connection.execute(clock).scalar_one())

    @property
    def node_id(self) -> str:
        """Who this node is: the storage folder carries the same."""
        if self._node_id is None:
            with self.read() as tx:
                found = tx.execute(select(schema.node.c.node_id)).scalar_one_or_none()
            if found is None:
                raise WorklistError("The database holds no node; run: dicomnode db upgrade")
            self._node_id = str(found)
        return self._node_id

    @staticmethod
    def wake(tx: Connection, channel: Channel) -> None:
        """Tell who waits on a channel, when this transaction commits."""
        wake(tx, channel)

    def ring(self) -> None:
        """Wake every thread of this process that waits here, as when it has to stop."""
        self._bell.ring(frozenset())

    def wait(self, timeout_s: float, *channels: Channel) -> bool:
        """Wait until something happened on one of the channels (none named: on any).

        What happened since this thread last returned from here counts. On SQLite a commit of
        another process ends every wait. Waking for nothing is possible; sleeping past a row is
        bounded by ``timeout_s``.
        """
        self._start_listening()
        return self._bell.wait(timeout_s, tuple(channels))

    def _start_listening(self) -> None:
        with self._listening:
            if self._listener is None and not self._closed.is_set():
                target = self._watch_file if self.is_sqlite else self._listen
                self._listener = threading.Thread(target=target, name="worklist-bell", daemon=True)
                self._listener.start()

    def _watch_file(self) -> None:
        seen: int | None = None
        with self._reader.connect() as connection:
            while not self._closed.wait(_POLL_S):
                version = connection.execute(text("PRAGMA data_version")).scalar_one()
                connection.rollback()
                if seen is not None and version != seen:
                    self._bell.ring(frozenset())
                seen = version

    def _listen(self) -> None:
        from psycopg import Error  # noqa: PLC0415  a node on SQLite starts without it

        while not self._closed.is_set():
            try:
                self._listen_once()
            except (Error, OSError):
                # What was told meanwhile is not known, so everybody looks.
                self._bell.ring(frozenset())
                self._closed.wait(1.0)

    def _listen_once(self) -> None:
        import psycopg  # noqa: PLC0415

        _, arguments = self._reader.dialect.create_connect_args(self.url)
        with psycopg.connect(**arguments, autocommit=True, connect_timeout=5) as connection:
            connection.execute(f"LISTEN {_POSTGRESQL_CHANNEL}")
            self._bell.ring(frozenset())
            while not self._closed.is_set():
                for told in connection.notifies(timeout=_POLL_S):
                    self._bell.ring(frozenset(told.payload.split(",")))

    def optimise(self) -> None:
        """Let SQLite look how its rows are spread: without that it plans large tables wrongly."""
        if self.is_sqlite:
            with self.write() as tx:
                tx.execute(text("PRAGMA optimize"))

    def close(self) -> None:
        """End the listening thread and every connection."""
        self._closed.set()
        self._bell.ring(frozenset())
        with self._listening:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.join(timeout=10)
        self._writer.dispose()
        self._reader.dispose()

    def __enter__(self) -> "Worklist":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

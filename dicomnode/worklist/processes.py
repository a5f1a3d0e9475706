"""The running processes of the node: what each is, where, and its last sign of life."""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from dicomnode.worklist.rows import as_values, inserted, touched
from dicomnode.worklist.schema import processes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProcess:
    """A process that starts; ``kind`` is receive, dispatch, work, deliver, web or serve."""

    kind: str
    name: str
    host: str
    pid: int
    version: str
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """One process; ``now`` says in words what it does."""

    id: int
    kind: str
    name: str
    host: str
    pid: int
    device: str | None
    version: str
    started_at: int
    heartbeat_at: int
    now: str
    ended_at: int | None

    @property
    def owner(self) -> str:
        """What its leases say; no other process ever has the same."""
        return owner_of(self.id, self.kind, self.pid)


def owner_of(process_id: int, kind: str, pid: int) -> str:
    """Give the lease owner's name of a process."""
    return f"{kind}-{process_id}-{pid}"


def register(tx: Connection, new: NewProcess, now_ms: int) -> int:
    """Write down a process that starts, and give its id."""
    values = {
        "kind": new.kind,
        "name": new.name[:64],
        "host": new.host[:64],
        "pid": new.pid,
        "device": new.device,
        "version": new.version,
        "started_at": now_ms,
        "heartbeat_at": now_ms,
        "now": "",
    }
    return inserted(tx, processes, values)


def heartbeat(tx: Connection, process_id: int, now_ms: int, now: str = "") -> bool:
    """Give a sign of life and what the process does; False where no such process is known.

    Who beats lives, also where it was silent for so long that it was said to have ended: a machine
    that slept, a database that was away.
    """
    beat = {"heartbeat_at": now_ms, "now": now, "ended_at": None}
    return bool(touched(tx, update(processes).where(processes.c.id == process_id).values(**beat)))


def end(tx: Connection, process_id: int, now_ms: int) -> bool:
    """Write down that a process ended, as itself or as who watched it; False where it was known."""
    same = (processes.c.id == process_id, processes.c.ended_at.is_(None))
    return bool(touched(tx, update(processes).where(*same).values(ended_at=now_ms)))


def alive(tx: Connection, since_ms: int, kind: str | None = None) -> list[Process]:
    """Give processes that gave a sign of life since a time."""
    query = select(processes).where(
        processes.c.ended_at.is_(None), processes.c.heartbeat_at >= since_ms
    )
    if kind is not None:
        query = query.where(processes.c.kind == kind)
    return as_values(Process, tx.execute(query.order_by(processes.c.id)))


def silent(tx: Connection, since_ms: int) -> list[Process]:
    """Give processes that did not say that they ended and gave no sign of life since a time."""
    query = select(processes).where(
        processes.c.ended_at.is_(None), processes.c.heartbeat_at < since_ms
    )
    return as_values(Process, tx.execute(query.order_by(processes.c.id)))


def of_host(tx: Connection, host: str) -> list[Process]:
    """Give the processes of a machine that did not say that they ended."""
    query = select(processes).where(processes.c.ended_at.is_(None), processes.c.host == host)
    return as_values(Process, tx.execute(query.order_by(processes.c.id)))

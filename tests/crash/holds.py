"""Ways to hold a node at an exact point: nothing of the product knows of them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from dicomnode.worklist import Worklist
from tests import dcmtk
from tests.node import Node, is_alive

_TABLES = "studies, instances, jobs, results, deliveries, associations, events, attempts"


@contextmanager
def locked(worklist: Worklist) -> Iterator[None]:
    """Let nobody write: what is being written waits, what is read is read."""
    with worklist.write() as tx:
        if not worklist.is_sqlite:
            tx.execute(text(f"LOCK TABLE {_TABLES} IN EXCLUSIVE MODE"))
        yield


@contextmanager
def refused(worklist: Worklist, table: str, event: str, when: str = "1 = 1") -> Iterator[None]:
    """Let the database refuse one kind of change: who makes it gets an error, again and again.

    ``event`` is INSERT or UPDATE, ``when`` a condition on the row OLD and NEW.
    """
    if worklist.is_sqlite:
        made = (
            f"CREATE TRIGGER refused BEFORE {event} ON {table} WHEN {when} "
            "BEGIN SELECT RAISE(ABORT, 'refused by a test'); END",
        )
        dropped = ("DROP TRIGGER refused",)
    else:
        made = (
            "CREATE FUNCTION refuse() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'refused by a test'; END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER refused BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) "
            "EXECUTE FUNCTION refuse()",
        )
        dropped = (f"DROP TRIGGER refused ON {table}", "DROP FUNCTION refuse()")
    _execute(worklist, made)
    try:
        yield
    finally:
        _execute(worklist, dropped)


def _execute(worklist: Worklist, statements: tuple[str, ...]) -> None:
    with worklist.write() as tx:
        for statement in statements:
            tx.execute(text(statement))


@contextmanager
def injected(node: Node, kind: str, system_calls: str, fault: str) -> Iterator[int]:
    """Have system calls of a process fail or kill it, as `strace` says (``signal=KILL:when=2``).

    ``when`` counts in each thread by itself. Gives the process's id.
    """
    what = ("-e", f"trace={system_calls}", "-e", f"inject={system_calls}:{fault}")
    with traced(node, kind, Path("/dev/null"), *what) as pid:
        yield pid


@contextmanager
def traced(node: Node, kind: str, output: Path, *options: str) -> Iterator[int]:
    """Have `strace` write down what a process asks of the system. Gives the process's id."""
    pid = node.pid(kind)
    command = [dcmtk.program("strace"), "-f", "-p", str(pid), "-o", str(output), *options]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        node.wait(lambda: _is_traced(pid) or tracer.poll() is not None, 20.0, "strace attaching")
        if tracer.poll() is not None:
            pytest.skip("strace may not attach to a process here")
        yield pid
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(timeout=10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def _is_traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if "TracerPid:\t0\n" in (task / "status").read_text(encoding="ascii"):
                return False
    except OSError:
        return False
    return True


def wait_dead(node: Node, pid: int, timeout_s: float = 30.0) -> None:
    """Wait until a process has ended."""
    node.wait(lambda: not is_alive(pid), timeout_s, f"the end of process {pid}")

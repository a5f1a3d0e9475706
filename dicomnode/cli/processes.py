"""``serve``, the stages alone, ``reload`` and ``health``: the node as processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dicomnode.cli.output import FAILED, NOT_REACHABLE, Column
from dicomnode.cli.ports import why_port_is_taken
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    process_view,
)
from dicomnode.cli.words import (
    Reader,
)
from dicomnode.config import load
from dicomnode.errors import ConfigurationError
from dicomnode.rules.reasons import Group
from dicomnode.serve.opening import open_storage, open_worklist
from dicomnode.serve.proof import prove
from dicomnode.serve.supervisor import Supervisor, roles_of
from dicomnode.telemetry import configure_logging
from dicomnode.worklist import Worklist, events
from dicomnode.worklist import processes as process_rows
from dicomnode.worklist.events import Event
from dicomnode.worklist.processes import Process

AnchorOption = Annotated[Path | None, typer.Option(hidden=True)]
ParentOption = Annotated[int | None, typer.Option(hidden=True)]

_ALIVE_MS = 30_000
_RELOAD_LIMIT_S = 15.0
_COLUMNS = (
    Column("PROCESS"),
    Column("STATE"),
    Column("SINCE", drop_below=70),
    Column("BEAT", right=True, drop_below=60),
    Column("NOW"),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (serve, receive, dispatch, work, deliver):
        command(app)(function)
    command(app, "reload")(reload_node)
    command(app)(health)


def serve(session: Session) -> None:
    """Run the whole node: every stage as a process, watched and restarted."""
    settings = prove(session.settings)
    path = session.path
    configure_logging("serve", as_json=settings.log.format == "json", level=settings.log.level)
    listen = settings.listen
    taken = why_port_is_taken(listen.host, listen.port)
    if taken is not None:
        raise refuse(session, taken)
    with open_worklist(settings) as worklist:
        worklist.upgrade()
        open_storage(settings, worklist)
        supervisor = Supervisor(path, settings, worklist)
        signal.signal(signal.SIGTERM, lambda _number, _frame: supervisor.stop())
        signal.signal(signal.SIGINT, lambda _number, _frame: supervisor.stop())
        signal.signal(signal.SIGHUP, lambda _number, _frame: supervisor.reload())
        supervisor.run()


def receive(session: Session, anchor: AnchorOption = None, parent: ParentOption = None) -> None:
    """Run the DICOM door alone."""
    from dicomnode.serve import processes  # noqa: PLC0415  loads every stage with its libraries

    processes.receive(processes.Launch(session.path, anchor, parent))


def dispatch(session: Session, anchor: AnchorOption = None, parent: ParentOption = None) -> None:
    """Run completion, routing, notices and timers alone."""
    from dicomnode.serve import processes  # noqa: PLC0415  loads every stage with its libraries

    processes.dispatch(processes.Launch(session.path, anchor, parent))


def work(
    session: Session,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, cuda:1 …")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Workers that share this machine.")] = 1,
    anchor: AnchorOption = None,
    parent: ParentOption = None,
) -> None:
    """Run pipelines on one device alone."""
    from dicomnode.serve import processes  # noqa: PLC0415  loads every stage with its libraries

    processes.work(processes.Launch(session.path, anchor, parent), device, workers)


def deliver(session: Session, anchor: AnchorOption = None, parent: ParentOption = None) -> None:
    """Run the sending of results alone."""
    from dicomnode.serve import processes  # noqa: PLC0415  loads every stage with its libraries

    processes.deliver(processes.Launch(session.path, anchor, parent))


def reload_node(session: Session) -> None:
    """Have the running node read its configuration again; the file is checked first."""
    prove(load(session.path))
    with session.worklist() as worklist:
        pid = _serve_pid(session, worklist)
        with worklist.read() as tx:
            before = events.newest(tx)
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            raise refuse(session, "The node ended just now.", NOT_REACHABLE) from None
        except PermissionError:
            raise refuse(
                session, f"Process {pid} is another user's; call this as that one."
            ) from None
        answer = _awaited(worklist, before)
    if answer is None:
        raise refuse(
            session, f"The node did not answer within {_RELOAD_LIMIT_S:.0f} s; see its log."
        )
    if answer.what == "node.reload_refused":
        faults = (answer.data or {}).get("faults")
        told = [str(fault) for fault in faults] if isinstance(faults, list) else []
        raise ConfigurationError("The running node keeps its old settings:", *told)
    if session.output.as_json:
        session.output.items([{"reloaded": True, "pid": pid}])
    else:
        session.output.say("The node took the new settings.")


def _serve_pid(session: Session, worklist: Worklist) -> int:
    with worklist.read() as tx:
        here = process_rows.of_host(tx, socket.gethostname()[:64])
    since_ms = worklist.now() - _ALIVE_MS
    running = [one for one in here if one.kind == "serve" and one.heartbeat_at >= since_ms]
    if not running:
        raise refuse(session, "No dicomnode serve runs on this machine.", NOT_REACHABLE)
    return running[-1].pid


def _awaited(worklist: Worklist, after: int) -> Event | None:
    """Give the event that answers a reload, or None where none came in time."""
    deadline = time.monotonic() + _RELOAD_LIMIT_S
    while time.monotonic() < deadline:
        with worklist.read() as tx:
            new = events.after(tx, after)
        for event in new:
            if event.what in ("node.reloaded", "node.reload_refused"):
                return event
        worklist.wait(0.5)
    return None


def health(session: Session) -> None:
    """Tell whether every process of the node is up; exit 1 where one is not."""
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        known = process_rows.alive(tx, 0)
    alive = [one for one in known if one.heartbeat_at >= reader.now_ms - _ALIVE_MS]
    wanted = [role.name for role in roles_of(session.settings)]
    missing = [name for name in wanted if name not in {one.name for one in alive}]
    shown = [one for one in known if one in alive or one.name in missing]
    if session.output.as_json:
        views = [process_view(one, is_up=one in alive) for one in shown]
        views += [_down(name) for name in missing if name not in {one.name for one in shown}]
        session.output.items(views)
    else:
        rows = [_row(session, one, reader, is_up=one in alive) for one in shown]
        session.output.table(_COLUMNS, rows)
        said = f"Not running: {', '.join(missing)}." if missing else "Every process is up."
        session.output.say(said)
    if missing:
        raise typer.Exit(FAILED)


def _down(name: str) -> dict[str, object]:
    keys = ("host", "pid", "device", "version", "started_at", "heartbeat_at", "now")
    return {"process": name, "state": "down", **dict.fromkeys(keys)}


def _row(session: Session, process: Process, reader: Reader, *, is_up: bool) -> list[str | Text]:
    state = session.output.state(*(("up", Group.DONE) if is_up else ("silent", Group.HELD)))
    since, beat = reader.age(process.started_at), reader.age(process.heartbeat_at)
    return [process.name, state, since, beat, process.now]

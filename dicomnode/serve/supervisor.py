"""Starts the stages' processes, restarts those that die, drains them, and passes a reload on.

Knows processes, not work: everything that matters is in the worklist, so a process may be killed
and started at any time. The children read a copy of the configuration that was checked, so that a
file broken later neither stops a restart nor half of the node.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from dicomnode.config import Settings, load
from dicomnode.errors import ConfigurationError
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.serve.arrears import Arrears
from dicomnode.serve.presence import present
from dicomnode.serve.proof import prove
from dicomnode.stages.notices import Announcer
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist, events, notifications, processes, sending, work
from dicomnode.worklist.events import Act

_LOOK_S = 0.2
_STEADY_S = 30.0  # a process that lived so long has its back-off forgiven
_FIRST_BACK_OFF_S = 0.5
_LONGEST_BACK_OFF_S = 30.0
_MOST_DOUBLINGS = 6  # as many as lead past the longest; without a bound the number overflows
_DRAIN_S = 60.0
# Keys that a running node cannot change: each process opened them when it started.
_FIXED = ("node", "listen.host", "listen.port", "listen.tls", "worklist")


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running: its name, and the command line behind ``dicomnode``."""

    name: str
    arguments: tuple[str, ...]


@dataclass(slots=True)
class _Kept:
    """A role with the process that fills it now."""

    role: Role
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    leaving: bool = False  # asked to end; its end is no fault
    wanted: bool = True


def devices_of(settings: Settings) -> tuple[str, ...]:
    """Devices that get a worker each: those named, else every NVIDIA GPU, else the CPU."""
    if settings.analyse.devices != "auto":
        return settings.analyse.devices
    count = sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return tuple(f"cuda:{n}" for n in range(count)) or ("cpu",)


def roles_of(settings: Settings) -> tuple[Role, ...]:
    """Processes of a node with these settings, in the order in which they start."""
    devices = devices_of(settings)
    return (
        Role("receive", ("receive",)),
        Role("dispatch", ("dispatch",)),
        *(
            Role(f"work:{device}", ("work", "--device", device, "--workers", str(len(devices))))
            for device in devices
        ),
        Role("deliver", ("deliver",)),
    )


class Supervisor:
    """One ``dicomnode serve``.

    Parameters
    ----------
    path
        The configuration file; read again by `reload`.
    settings
        What it held when it was checked.
    worklist
        Open; used for events and for the leases of processes that died.
    """

    def __init__(self, path: Path, settings: Settings, worklist: Worklist) -> None:
        self._path = path.resolve()
        self._settings = settings
        self._worklist = worklist
        self._accepted = settings.node.storage / "run" / "accepted.toml"
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._kept: dict[str, _Kept] = {}
        self._arrears = Arrears(worklist)
        self._log = logger("serve")

    def run(self) -> None:
        """Keep the node running until `stop` is called; returns when every process has ended."""
        self._accept()
        self._kept = {role.name: _Kept(role) for role in roles_of(self._settings)}
        self._bury_the_dead()
        with present(self._worklist, "serve", "serve") as presence:
            try:
                while not self._stop.is_set():
                    self._look()
                    presence.say(self._in_words())
                    self._stop.wait(_LOOK_S)
            finally:
                self._drain()

    def stop(self) -> None:
        """Drain every process and end; safe in a signal handler."""
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration again soon; safe in a signal handler."""
        self._reload.set()

    def _accept(self) -> None:
        """Keep the checked file where the children read it, in one rename."""
        self._accepted.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft = self._accepted.with_suffix(".draft")
        shutil.copyfile(self._path, draft)
        draft.replace(self._accepted)

    def _command(self, role: Role) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            "dicomnode",
            *role.arguments,
            "--config",
            str(self._accepted),
            "--anchor",
            str(self._path.parent),
            "--parent",
            str(os.getpid()),
        )

    def _look(self) -> None:
        """Look once after everything: a reload, each process, and what is still to be written."""
        if self._reload.is_set():
            self._reload.clear()
            self._reload_now()
        for kept in list(self._kept.values()):
            self._look_after(kept)
        self._arrears.settle()

    def _look_after(self, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.process is None:
            if not kept.wanted:
                # A reload took its role away while it waited to start again.
                del self._kept[kept.role.name]
            elif now >= kept.not_before:
                kept.process = subprocess.Popen(self._command(kept.role))  # noqa: S603  our own command
                kept.started, kept.leaving = now, False
                self._log.info("process_started", name=kept.role.name, pid=kept.process.pid)
            return
        status = kept.process.poll()
        if status is None:
            if kept.failures and now - kept.started > _STEADY_S:
                kept.failures = 0
            return
        self._mourn(kept, status)

    def _mourn(self, kept: _Kept, status: int) -> None:
        """Free what a dead process held and decide when its successor starts."""
        pid = kept.process.pid if kept.process else 0
        kept.process = None
        self._arrears.add(lambda tx, at_ms: self._free(tx, pid, at_ms))
        if not kept.wanted:
            del self._kept[kept.role.name]
        if kept.leaving:
            return
        wait_s = back_off_s(kept.failures)
        kept.failures += 1
        kept.not_before = time.monotonic() + wait_s
        name, n = kept.role.name, kept.failures
        self._log.error("process_died", name=name, pid=pid, status=status, wait_s=wait_s)

        def told(tx: Connection, at_ms: int) -> None:
            next_at = at_ms + round(wait_s * 1000)
            known: dict[str, Parameter] = {"process": name, "n": n, "next_at": next_at}
            events.add(tx, Reason("node.process_down", known), Act(now_ms=at_ms))

        self._arrears.add(told)

    def _free(self, tx: Connection, pid: int, at_ms: int) -> int:
        """Write down that a process ended, and take what it held."""
        freed = 0
        announcer = Announcer(self._settings.notify, self._settings.node.ae_title)
        for row in processes.of_host(tx, socket.gethostname()[:64]):
            if row.pid == pid:
                processes.end(tx, row.id, at_ms)
                freed += work.release_owner(tx, row.owner, at_ms, announcer.parked)
                freed += sending.release_owner(tx, row.owner, at_ms)
                freed += notifications.release_owner(tx, row.owner)
        return freed

    def _bury_the_dead(self) -> None:
        """Free what processes of an earlier run held that were killed with the one above them.

        Without this their deliveries would wait for leases of minutes to run out.
        """
        with self._worklist.read() as tx:
            rows = processes.of_host(tx, socket.gethostname()[:64])
        for pid in {row.pid for row in rows if not is_alive(row.pid)}:
            self._bury(pid)

    def _bury(self, pid: int) -> None:
        now_ms = self._worklist.now()
        freed = self._worklist.transact(lambda tx: self._free(tx, pid, now_ms))
        self._log.info("process_buried", pid=pid, freed=freed)

    def _reload_now(self) -> None:
        """Check the file first; on a fault the old settings stay, everywhere."""
        try:
            fresh = prove(reloadable(self._settings, load(self._path)))
            self._accept()
        except ConfigurationError as fault:
            self._refuse(fault.faults)
            return
        except OSError as fault:
            self._refuse((f"{self._accepted} cannot be written: {fault.strerror}",))
            return
        self._settings = fresh
        wanted = {role.name: role for role in roles_of(fresh)}
        for name, role in wanted.items():
            # The same name may stand for another command line now.
            self._kept.setdefault(name, _Kept(role)).role = role
        for name, kept in self._kept.items():
            kept.wanted = name in wanted
            self._pass_on(kept)
        self._log.info("reload_done")
        self._note(Reason("node.reloaded"))

    def _refuse(self, faults: Sequence[str]) -> None:
        self._log.error("reload_refused", faults=list(faults))
        self._note(Reason("node.reload_refused", {"n": len(faults)}), faults)

    def _pass_on(self, kept: _Kept) -> None:
        """Let a process take the new settings.

        The receiver takes them in place, so that open associations live on. The others end once
        what they do is done, and start again with the new file.
        """
        if kept.process is None:
            return
        kept.leaving = kept.role.name != "receive"
        kept.process.send_signal(signal.SIGHUP)

    def _drain(self) -> None:
        """End the door first, then the rest; what does not end in time is killed."""
        running = [kept for kept in self._kept.values() if kept.process is not None]
        for kept in running:
            if kept.process is not None:
                kept.leaving = True
                kept.process.terminate()
        deadline = time.monotonic() + _DRAIN_S
        for kept in running:
            if kept.process is None:
                continue
            try:
                status = kept.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._log.error("process_killed", name=kept.role.name, pid=kept.process.pid)
                kept.process.kill()
                status = kept.process.wait()
            self._mourn(kept, status)
        self._arrears.settle(is_last=True)
        if self._arrears:
            self._log.warning("events_lost", n=len(self._arrears))

    def _in_words(self) -> str:
        down = [name for name, kept in self._kept.items() if kept.process is None]
        return f"waiting to start {', '.join(down)}" if down else "all processes are up"

    def _note(self, what: Reason, faults: Sequence[str] = ()) -> None:
        data = {"faults": list(faults)} if faults else None
        self._arrears.add(lambda tx, at_ms: events.add(tx, what, Act(now_ms=at_ms), data=data))


def is_alive(pid: int) -> bool:
    """Tell whether another process of this machine lives.

    One that only waits to be buried does not: in a container nobody may ever do that. Neither does
    one of an earlier run under this process's own number, which a container gives to each run.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    # The state stands behind the name, which is in brackets and may hold any (proc(5)).
    return pid != os.getpid() and status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def back_off_s(failures: int) -> float:
    """Give how long a process that died waits to start; ``failures`` are those in a row before."""
    if not failures:
        return 0.0
    doubled: float = _FIRST_BACK_OFF_S * 2 ** min(failures, _MOST_DOUBLINGS)
    return min(_LONGEST_BACK_OFF_S, doubled)


def reloadable(old: Settings, new: Settings) -> Settings:
    """Give ``new`` if a running node can take it, else raise ConfigurationError saying why."""

    def value(settings: Settings, key: str) -> object:
        found: object = settings
        for part in key.split("."):
            found = getattr(found, part)
        return found

    fixed = [key for key in _FIXED if value(old, key) != value(new, key)]
    if fixed:
        raise ConfigurationError(
            *(f"{key} changed: that takes a restart of the node" for key in fixed)
        )
    return new

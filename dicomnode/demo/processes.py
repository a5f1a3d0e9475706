"""The demonstration's own node and PACS: a folder that is deleted, and processes that are ended."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dicomnode.demo import pacs, sender
from dicomnode.demo.screen import DemoError
from dicomnode.errors import PeerError
from dicomnode.network import client
from dicomnode.network.connect import Remote

AE_TITLE = "DICOMNODE"
HOST = "127.0.0.1"
_START_S = 60.0
_END_S = 20.0
_LOOK_S = 0.2
_LAST_LINES = 5

_BOUND = "dicomnode.demo.bound"  # not imported: it is a program

_CONFIGURATION = """\
[node]
ae_title = "{ae_title}"
storage = "storage"
[listen]
host = "{host}"
port = {node_port}
[complete]
quiet = "2s"
[retention]
free = "0%"
[worklist]
url = "sqlite:///worklist.db"
[analyse]
devices = ["cpu"]
[peers.scanner]
ae_title = "{scanner}"
addresses = ["127.0.0.0/8"]
receives_from = true
[peers.pacs]
ae_title = "{pacs}"
host = "{host}"
port = {pacs_port}
sends_to = true
presents = ["seg", "sr"]
confirm = "find"
"""


class Workplace:
    """The folder in which node and PACS run, and their processes.

    Use as ``with workplace() as place``: however the block ends, every process has ended and the
    folder is gone afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received = folder / "pacs"
        self.node_port = 0
        self.pacs_port = 0
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def worklist_url(self) -> str:
        """Address of the node's database."""
        return f"sqlite:///{self.folder / 'worklist.db'}"

    def start(self) -> None:
        """Start the small PACS and the node; `wait_until_up` says when they answer."""
        modules = (sys.executable, "-m")
        started = self._start(
            "pacs", (*modules, pacs.__name__, str(self.received), str(os.getpid())), is_read=True
        )
        self.pacs_port = self._said_port(started)
        self.node_port = _free_port()
        configuration = self.folder / "dicomnode.toml"
        configuration.write_text(
            _CONFIGURATION.format(
                ae_title=AE_TITLE,
                host=HOST,
                node_port=self.node_port,
                scanner=sender.AE_TITLE,
                pacs=pacs.AE_TITLE,
                pacs_port=self.pacs_port,
            ),
            encoding="utf-8",
        )
        serve = (*modules, "dicomnode", "serve", "--config", str(configuration))
        self._start("node", (*modules, _BOUND, str(os.getpid()), *serve))

    def wait_until_up(self) -> None:
        """Return when the node answers C-ECHO.

        Raises
        ------
        DemoError
            A process ended, or the node did not answer in time.
        """
        remote = Remote(HOST, self.node_port, AE_TITLE, sender.AE_TITLE, timeout_s=5.0)
        deadline = time.monotonic() + _START_S
        while True:
            self.check()
            try:
                client.echo(remote)
            except PeerError as fault:
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"the node does not answer: {fault}{self._log('node')}"
                    ) from fault
                time.sleep(_LOOK_S)
            else:
                return

    def check(self) -> None:
        """Raise DemoError if the node or the PACS ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                status = process.returncode
                raise DemoError(f"the {name} ended with status {status}{self._log(name)}")

    def send(self, paths: Sequence[Path], associations: int) -> str:
        """Send files from a process of its own; give "121 of 121": how many were kept.

        Raises
        ------
        DemoError
            Not every file was kept.
        """
        process = subprocess.Popen(  # noqa: S603  our own module
            (
                *(sys.executable, "-m", sender.__name__),
                *(HOST, str(self.node_port), AE_TITLE, str(associations)),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, errors = process.communicate("\n".join(map(str, paths)))
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            last = " · ".join(errors.splitlines()[-_LAST_LINES:])
            raise DemoError(f"the scanner sent {said.strip() or 'nothing'}: {last}")
        return said.strip()

    def stop(self) -> None:
        """End all processes, the node first; what does not end in time is killed."""
        for process in reversed(self._running.values()):
            process.terminate()
        deadline = time.monotonic() + _END_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                # The node's own processes die with it (PR_SET_PDEATHSIG).
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _start(
        self, name: str, command: Sequence[str], *, is_read: bool = False
    ) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches this process, which ends the others in order.
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  our own modules
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_read else log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def _said_port(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        line = process.stdout.readline() if ready else b""
        if not line.strip().isdigit():
            raise DemoError(f"the small PACS did not start{self._log('pacs')}")
        return int(line)

    def _log(self, name: str) -> str:
        """Last lines of a process's log, as the end of a sentence."""
        path = self.folder / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        return ": " + " · ".join(map(_event, lines)) if lines else ""


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Give a new place to work in; see `Workplace`."""
    with (
        _ended_by_signals(),
        tempfile.TemporaryDirectory(prefix="dicomnode-demo-") as folder,
    ):
        place = Workplace(Path(folder))
        try:
            yield place
        finally:
            place.stop()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDING = (signal.SIGTERM, signal.SIGHUP)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _event(line: str) -> str:
    """Shorten a line of a JSON log to what happened."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict):
        return line
    told = (str(event[key]) for key in ("event", "error", "exception") if event.get(key))
    return " ".join(told)[-300:]

"""A process's own row: who it is, that it lives, and what it does right now."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicomnode import __version__
from dicomnode.errors import WorklistError
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist, processes

_BEAT_S = 5.0
_END_PATIENCE_S = 5.0


class Presence:
    """The heartbeat of one process, from a thread of its own."""

    def __init__(self, worklist: Worklist, row_id: int, kind: str) -> None:
        self._worklist = worklist
        self._row_id = row_id
        self._kind = kind
        self._now = "started"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)
        self._log = logger("serve")

    @property
    def row_id(self) -> int:
        """Id of the process's row."""
        return self._row_id

    @property
    def owner(self) -> str:
        """Name under which this process claims rows; no other process ever has it."""
        return processes.owner_of(self._row_id, self._kind, os.getpid())

    def say(self, now: str) -> None:
        """Tell with the next beat what the process does."""
        self._now = now

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_S):
            try:
                self._worklist.transact(
                    lambda tx: processes.heartbeat(
                        tx, self._row_id, now_ms=self._worklist.now(), now=self._now
                    ),
                    patience_s=_BEAT_S,
                )
            except WorklistError as fault:
                self._log.warning("presence_unwritten", error=str(fault))

    def start(self) -> None:
        """Beat until `end`."""
        self._thread.start()

    def end(self) -> None:
        """Write that the process ended by itself, if the database answers; `sweep` does it else."""
        self._stop.set()
        # A beat after the end would say that the process lives.
        self._thread.join()
        try:
            self._worklist.transact(
                lambda tx: processes.end(tx, self._row_id, now_ms=self._worklist.now()),
                patience_s=_END_PATIENCE_S,
            )
        except WorklistError as fault:
            self._log.warning("presence_unwritten", error=str(fault))


@contextmanager
def present(
    worklist: Worklist, kind: str, name: str, device: str | None = None
) -> Iterator[Presence]:
    """Register this process for as long as the block runs."""
    row_id = worklist.transact(
        lambda tx: processes.register(
            tx,
            processes.NewProcess(
                kind=kind,
                name=name,
                host=socket.gethostname()[:64],
                pid=os.getpid(),
                device=device,
                version=__version__,
            ),
            now_ms=worklist.now(),
        )
    )
    presence = Presence(worklist, row_id, kind)
    presence.start()
    try:
        yield presence
    finally:
        presence.end()

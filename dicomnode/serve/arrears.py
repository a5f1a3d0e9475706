"""What a watcher of processes owes the worklist while the database does not answer.

A node without its database can still keep its processes up, so nothing here may end it: what is to
be written waits and is tried again. What is lost with this process is found at the next start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from dicomnode.errors import WorklistError
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist

# Short: the processes are not looked after meanwhile.
_PATIENCE_S = 0.5
_PAUSE_AFTER_FAULT_S = 2.0
# After a long outage the processes are looked after between the rows.
_AT_ONCE = 50

Write = Callable[[Connection, int], object]
"""Writes in a transaction what happened at a time in epoch ms; has no effect outside it."""


@dataclass(frozen=True, slots=True)
class _Owed:
    write: Write
    since: float  # by the monotonic clock: the database's own is away too


class Arrears:
    """Writes each thing once, in its order, as soon as the database answers."""

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist
        self._owed: deque[_Owed] = deque()
        self._not_before = 0.0
        self._log = logger("serve")

    def __len__(self) -> int:
        """Give how much is still to be written."""
        return len(self._owed)

    def add(self, write: Write) -> None:
        """Have something written that happened now; never raises because of the database."""
        self._owed.append(_Owed(write, time.monotonic()))
        self.settle()

    def settle(self, *, is_last: bool = False) -> None:
        """Write what is owed, or leave it for the next time, if this is not the last."""
        if time.monotonic() < self._not_before and not is_last:
            return
        for _ in range(min(len(self._owed), _AT_ONCE)):
            try:
                self._pay(self._owed[0])
            except WorklistError as fault:
                self._not_before = time.monotonic() + _PAUSE_AFTER_FAULT_S
                self._log.warning("events_unwritten", n=len(self._owed), cause=str(fault))
                return
            self._owed.popleft()

    def _pay(self, owed: _Owed) -> None:
        at_ms = self._worklist.now() - round((time.monotonic() - owed.since) * 1000)
        self._worklist.transact(lambda tx: owed.write(tx, at_ms), patience_s=_PATIENCE_S)

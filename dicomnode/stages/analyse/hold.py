"""Holding on to a claimed job while it runs: heartbeat, progress, and hearing that it was lost."""

from __future__ import annotations

import threading
from types import TracebackType

from sqlalchemy import Connection

from dicomnode.errors import DatabaseUnavailableError, LeaseLostError
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist, work
from dicomnode.worklist.work import ClaimedJob, Progress

_BEATS_PER_LEASE = 4
_LONGEST_BEAT_S = 5.0


class Hold:
    """Renews one lease from a thread of its own for as long as the block runs.

    `lost` is set once the row is another's: cancelled, superseded, retried or taken over. While
    the database is away the hold goes on trying; if the lease ends meanwhile, the fence decides.
    """

    def __init__(self, worklist: Worklist, claimed: ClaimedJob, lease_ms: int) -> None:
        self._worklist = worklist
        self._claimed = claimed
        self._lease_ms = lease_ms
        self._progress: Progress | None = None
        self._ended = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._log = logger("analyse")

    def tell(self, progress: Progress) -> None:
        """Write with the next beat where the job is."""
        self._progress = progress

    def __enter__(self) -> Hold:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        pause_s = min(_LONGEST_BEAT_S, self._lease_ms / 1000 / _BEATS_PER_LEASE)
        while not self._ended.wait(pause_s):
            try:
                self._worklist.transact(self._renew, patience_s=pause_s)
            except LeaseLostError:
                self.lost.set()
                return
            except DatabaseUnavailableError as fault:
                self._log.warning("lease_unwritten", job=self._claimed.job.id, cause=str(fault))

    def _renew(self, tx: Connection) -> None:
        until_ms = self._worklist.now() + self._lease_ms
        work.heartbeat(tx, self._claimed.job.id, self._claimed.fence, until_ms, self._progress)

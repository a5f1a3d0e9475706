"""Holding on to a delivery while it is sent: a large object may take longer than a lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from dicomnode.errors import DatabaseUnavailableError, LeaseLostError
from dicomnode.telemetry import logger
from dicomnode.worklist import sending
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.sending import ClaimedDelivery

LEASE_MS = 120_000
_BEAT_S = LEASE_MS / 1000 / 4


@contextmanager
def held(
    worklist: Worklist, claimed: ClaimedDelivery, lease_ms: int = LEASE_MS, beat_s: float = _BEAT_S
) -> Iterator[threading.Event]:
    """Renew a lease as long as the block runs; gives an event that is set once it was lost."""
    ended, lost = threading.Event(), threading.Event()
    log = logger("deliver")

    def renew(tx: Connection) -> None:
        until_ms = worklist.now() + lease_ms
        sending.heartbeat(tx, claimed.delivery.id, claimed.fence, until_ms)

    def beat() -> None:
        while not ended.wait(beat_s):
            try:
                worklist.transact(renew, patience_s=beat_s)
            except LeaseLostError:
                lost.set()
                return
            except DatabaseUnavailableError as fault:
                # If the lease runs out meanwhile, the fence decides.
                log.warning("lease_unwritten", delivery=claimed.delivery.id, cause=str(fault))

    thread = threading.Thread(target=beat, name="delivery-lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()

"""Rows whose time has come: leases that ran out, jobs that were held, decisions that waited."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from dicomnode.stages.notices import Announcer
from dicomnode.worklist import notifications, routes, sending, studies, work
from dicomnode.worklist.database import Worklist

# Each pass moves a batch in a short transaction; what is left over comes with the next tick.
_MOST_PASSES = 50


def free_leases(worklist: Worklist, announcer: Announcer, now_ms: int) -> int:
    """Give back what silent owners hold, and queue held jobs that are due; give how many rows."""
    passes: tuple[Callable[[Connection], int], ...] = (
        lambda tx: work.tend(tx, now_ms, announcer.parked),
        lambda tx: sending.free_expired(tx, now_ms),
        lambda tx: notifications.free_expired(tx, now_ms),
    )
    return sum(_until_none(worklist, one) for one in passes)


def _until_none(worklist: Worklist, one: Callable[[Connection], int]) -> int:
    total = 0
    for _ in range(_MOST_PASSES):
        moved = worklist.transact(one)
        total += moved
        if not moved:
            break
    return total


def end_waits(worklist: Worklist, now_ms: int) -> int:
    """Have studies routed again whose wait for a series is over; give how many."""
    with worklist.read() as tx:
        due = routes.due(tx, now_ms)
    for study_id in due:
        with worklist.write() as tx:
            studies.unroute(tx, study_id)
    return len(due)

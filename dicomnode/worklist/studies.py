"""Studies: the unit that is complete, that is routed, and that an admin looks for."""

from collections.abc import Iterable

from sqlalchemy import Connection, and_, select, text, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import PRIORITY_RANK, Decision, Priority, Role, StudyState
from dicomnode.worklist import events
from dicomnode.worklist.completion import (
    Completeness,
    Count,
    complete,
    completeness,
    due,
    expect,
    look_at,
    next_due_at,
    pending_count,
    wait_for,
)
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_values, touched
from dicomnode.worklist.schema import deliveries, jobs, routes, studies
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.study_rows import Study, find, get, lock, lock_if_free

__all__ = [
    "Completeness",
    "Count",
    "Study",
    "complete",
    "complete_by_hand",
    "completeness",
    "due",
    "expect",
    "find",
    "get",
    "hold",
    "lock",
    "lock_if_free",
    "look_at",
    "mark_routed",
    "next_due_at",
    "pending_count",
    "refresh_outcome",
    "refresh_waiting",
    "set_priority",
    "unroute",
    "unrouted",
    "wait_for",
    "waiting_on",
]

# Literal, as the partial index says it: with bound values SQLite does not use it.
_UNROUTED = text("studies.state = 'complete' AND studies.routed_generation < studies.generation")


def complete_by_hand(tx: Connection, study_id: int, act: Act) -> bool:
    """Close a receiving study, or end a complete one's wait for series that it has not.

    While arrivals are compared it closes as soon as that is done.

    Returns
    -------
    False where there is nothing to end.
    """
    found = lock(tx, study_id)
    if not found or found[0].role is not Role.SOURCE:
        return False
    if found[0].state is StudyState.COMPLETE:
        return _end_series_wait(tx, study_id, act)
    if not complete(tx, study_id, seen_generation=found[0].generation, by="hand", act=act):
        asked = update(studies).where(studies.c.id == study_id)
        tx.execute(asked.values(by_hand=True, due_at=act.now_ms))
    return True


def _end_series_wait(tx: Connection, study_id: int, act: Act) -> bool:
    waiting = (routes.c.study_id == study_id, routes.c.decision == Decision.WAITING)
    if tx.execute(select(routes.c.id).where(*waiting).limit(1)).first() is None:
        return False
    tx.execute(update(studies).where(studies.c.id == study_id).values(completed_by="hand"))
    events.add(tx, Reason("study.completed_by_hand"), act, Subject(study_id=study_id))
    unroute(tx, study_id)
    return True


def hold(tx: Connection, study_id: int, held: bool, act: Act) -> bool:
    """Keep a study from every purge and deletion, or let it go."""
    if not touched(tx, update(studies).where(studies.c.id == study_id).values(hold=held)):
        return False
    what = Reason("study.held" if held else "study.released")
    events.add(tx, what, act, Subject(study_id=study_id))
    return True


def set_priority(tx: Connection, study_id: int, priority: Priority, act: Act) -> bool:
    """Set how urgent a study is, with its jobs and deliveries that wait."""
    if not lock(tx, study_id):
        return False
    rank = PRIORITY_RANK[priority]
    tx.execute(update(studies).where(studies.c.id == study_id).values(priority=rank))
    waiting_job = and_(jobs.c.study_id == study_id, jobs.c.state.in_(("held", "queued")))
    tx.execute(update(jobs).where(waiting_job).values(priority=rank))
    waiting = and_(deliveries.c.study_id == study_id, deliveries.c.state == "queued")
    tx.execute(update(deliveries).where(waiting).values(priority=rank))
    what = Reason("study.priority_set", {"priority": priority.value})
    events.add(tx, what, act, Subject(study_id=study_id))
    wake(tx, Channel.JOBS)
    return True


def unrouted(tx: Connection, limit: int = 100) -> list[Study]:
    """Give complete studies that changed since they were routed, the most urgent first."""
    order = (studies.c.priority, studies.c.id)
    return as_values(
        Study, tx.execute(select(studies).where(_UNROUTED).order_by(*order).limit(limit))
    )


def mark_routed(tx: Connection, study_id: int, generation: int) -> bool:
    """Lock a study and say that it is routed as of ``generation``: first thing in route's write.

    Returns
    -------
    False where it moved on since it was read; then route writes nothing.
    """
    lock(tx, study_id)
    same = and_(
        studies.c.id == study_id,
        studies.c.state == StudyState.COMPLETE,
        studies.c.generation == generation,
    )
    return bool(touched(tx, update(studies).where(same).values(routed_generation=generation)))


def unroute(tx: Connection, study_id: int) -> None:
    """Have route decide about a study again, as when a wait of its is over."""
    lock(tx, study_id)
    again = {"generation": studies.c.generation + 1}
    tx.execute(update(studies).where(studies.c.id == study_id).values(**again))
    wake(tx, Channel.ROUTES)


def waiting_on(
    tx: Connection, *, pipeline: str | None = None, peer: str | None = None
) -> list[int]:
    """Give the ids of studies that have open jobs of a pipeline or open deliveries to a peer."""
    if pipeline is not None:
        open_jobs = and_(
            jobs.c.pipeline == pipeline, jobs.c.state.in_(("held", "queued", "running"))
        )
        query = select(jobs.c.study_id).where(open_jobs)
    else:
        open_deliveries = and_(
            deliveries.c.peer == peer, deliveries.c.state.in_(("queued", "sending"))
        )
        query = select(deliveries.c.study_id).where(open_deliveries)
    return sorted(int(row.study_id) for row in tx.execute(query.distinct()))


def refresh_waiting(tx: Connection, study_ids: Iterable[int], now_ms: int | None = None) -> None:
    """Compute outcomes again, after a switch that many studies wait on; locks them all."""
    for study in lock(tx, *study_ids):
        refresh_outcome(tx, study.id, now_ms)

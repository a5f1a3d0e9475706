"""What route decided about a study and a pipeline, and why, rule by rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Decision
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_values, reason_columns
from dicomnode.worklist.schema import routes

_WAITING = text("routes.decision = 'waiting'")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRoute:
    """One decision; ``trace`` holds {keyword, found, wanted, ok} of each condition."""

    pipeline: str
    version: str
    decision: Decision
    reason: Reason | None = None
    trace: Sequence[Mapping[str, Any]] = ()
    series_id: int | None = None
    job_id: int | None = None
    due_at: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One decision as it stands."""

    id: int
    study_id: int
    series_id: int | None
    pipeline: str
    version: str
    generation: int
    decision: Decision
    reason: Reason | None
    trace: tuple[Mapping[str, Any], ...]
    job_id: int | None
    due_at: int | None
    decided_at: int


def replace(
    tx: Connection, study_id: int, generation: int, new: Sequence[NewRoute], now_ms: int
) -> None:
    """Put a study's decisions in place of those before; after `studies.mark_routed`.

    The order is kept: of those without a route the nearest comes first.
    """
    tx.execute(delete(routes).where(routes.c.study_id == study_id))
    rows = [
        {
            "study_id": study_id,
            "series_id": one.series_id,
            "pipeline": one.pipeline,
            "version": one.version,
            "generation": generation,
            "decision": one.decision,
            "trace": [dict(condition) for condition in one.trace],
            "job_id": one.job_id,
            "due_at": one.due_at,
            "decided_at": now_ms,
            **reason_columns(one.reason),
        }
        for one in new
    ]
    for row in rows:
        tx.execute(insert(routes).values(**row))
    refresh_outcome(tx, study_id, now_ms)


def of_study(tx: Connection, study_id: int) -> list[Route]:
    """Give a study's decisions in the order in which they were made."""
    query = select(routes).where(routes.c.study_id == study_id).order_by(routes.c.id)
    return as_values(Route, tx.execute(query))


def due(tx: Connection, now_ms: int, limit: int = 100) -> list[int]:
    """Give the studies that wait in a decision whose time is over: have them unrouted."""
    query = select(routes.c.study_id).where(_WAITING, routes.c.due_at <= now_ms).distinct()
    return sorted(int(row.study_id) for row in tx.execute(query.limit(limit)))


def next_due_at(tx: Connection) -> int | None:
    """Give when the next waiting decision is due."""
    found = tx.execute(select(func.min(routes.c.due_at)).where(_WAITING)).scalar()
    return None if found is None else int(found)

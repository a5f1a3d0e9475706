"""Each try of a job or a delivery: a retry never hides the error before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.worklist.rows import as_values, chunks, reason_columns
from dicomnode.worklist.schema import attempts

# What a try came to where that is no state.
RETRY, LOST, DRAINED, OVERTAKEN = "retry", "lost", "drained", "overtaken"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try; ``stage_times`` holds seconds by stage."""

    id: int
    job_id: int | None
    delivery_id: int | None
    number: int
    fence: int
    owner: str
    started_at: int
    ended_at: int | None
    stage_times: Mapping[str, float] | None
    device: str | None
    outcome: str | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Tried:
    """Whose try it is: one of both ids is set."""

    job_id: int | None = None
    delivery_id: int | None = None

    def where(self) -> ColumnElement[bool]:
        """Give the condition on `attempts`."""
        if self.job_id is not None:
            return attempts.c.job_id == self.job_id
        return attempts.c.delivery_id == self.delivery_id


def start(tx: Connection, tried: Tried, fence: int, owner: str, now_ms: int) -> int:
    """Write down that a try began and give its number, from 1."""
    count = select(func.count()).select_from(attempts).where(tried.where())
    number = int(tx.execute(count).scalar_one()) + 1
    values = {
        "job_id": tried.job_id,
        "delivery_id": tried.delivery_id,
        "number": number,
        "fence": fence,
        "owner": owner,
        "started_at": now_ms,
    }
    tx.execute(insert(attempts).values(**values))
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class TryEnd:
    """How a try ended: the state it led to, or one of the words above."""

    outcome: str
    reason: Reason | None = None
    stage_times: Mapping[str, float] | None = None
    device: str | None = None


def end(tx: Connection, tried: Tried, now_ms: int, how: TryEnd) -> None:
    """Write down how the try that is open ended."""
    values: dict[str, Any] = {
        "ended_at": now_ms,
        "outcome": how.outcome,
        "stage_times": None if how.stage_times is None else dict(how.stage_times),
        "device": how.device,
        **reason_columns(how.reason),
    }
    open_one = (tried.where(), attempts.c.ended_at.is_(None))
    tx.execute(update(attempts).where(*open_one).values(**values))


def of_jobs(tx: Connection, job_ids: Sequence[int]) -> list[Attempt]:
    """Give the tries of jobs, the first one first."""
    return _of(tx, attempts.c.job_id, job_ids)


def of_deliveries(tx: Connection, delivery_ids: Sequence[int]) -> list[Attempt]:
    """Give the tries of deliveries, the first one first."""
    return _of(tx, attempts.c.delivery_id, delivery_ids)


def _of(tx: Connection, column: ColumnElement[int | None], ids: Sequence[int]) -> list[Attempt]:
    found: list[Attempt] = []
    for part in chunks(ids):
        query = select(attempts).where(column.in_(part)).order_by(attempts.c.id)
        found += as_values(Attempt, tx.execute(query))
    return found

"""One way to claim, hold and give back a row: jobs, deliveries, notifications, commitments.

A claim sets owner and lease and raises the fence. Every later write of the claimer names its fence;
whoever cancels, supersedes, retries or takes over raises it, so that the write of a claimer who
lost its row touches nothing and says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, TextClause, update

from dicomnode.errors import LeaseLostError
from dicomnode.rules.states import sources_of
from dicomnode.worklist.rows import touched

Condition = ColumnElement[bool] | TextClause

# How many candidates are read before a claim: others may take the first ones meanwhile.
CANDIDATES = 8
# What a row that nobody holds says of its lease.
FREE: Mapping[str, Any] = {"lease_owner": None, "lease_until": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who claims, when, and until when without a heartbeat."""

    owner: str
    now_ms: int
    lease_ms: int

    @property
    def until_ms(self) -> int:
        """When it runs out."""
        return self.now_ms + self.lease_ms


def take(
    tx: Connection, table: Table, row_id: int, running: StrEnum, lease: Lease
) -> Row[Any] | None:
    """Claim a waiting row that is due, or None where it is not to be had any more."""
    claimed = (
        update(table)
        .where(
            table.c.id == row_id,
            table.c.state.in_(sources_of(running)),
            table.c.due_at <= lease.now_ms,
        )
        .values(
            state=running,
            lease_owner=lease.owner,
            lease_until=lease.until_ms,
            fence=table.c.fence + 1,
            tries=table.c.tries + 1,
        )
        .returning(*table.c)
    )
    return tx.execute(claimed).first()


def held_by(table: Table, row_id: int, fence: int) -> ColumnElement[bool]:
    """Give the condition that a row is held under a fence."""
    return (table.c.id == row_id) & (table.c.fence == fence) & table.c.lease_owner.is_not(None)


def keep(tx: Connection, table: Table, row_id: int, fence: int, values: Mapping[str, Any]) -> None:
    """Write to a row that the caller holds, without moving it.

    Raises
    ------
    LeaseLostError
    """
    if not touched(tx, update(table).where(held_by(table, row_id, fence)).values(**values)):
        raise LeaseLostError(f"{table.name} {row_id} is not held under fence {fence} any more.")


def give_back(
    tx: Connection,
    table: Table,
    row_id: int,
    fence: int,
    state: StrEnum,
    values: Mapping[str, Any],
) -> None:
    """Move a row that the caller holds to its next state and end the lease.

    Raises
    ------
    LeaseLostError
    """
    ended = (
        update(table)
        .where(held_by(table, row_id, fence), table.c.state.in_(sources_of(state)))
        .values(state=state, **{**FREE, **values})
    )
    if not touched(tx, ended):
        raise LeaseLostError(f"{table.name} {row_id} is not held under fence {fence} any more.")


def move(
    tx: Connection,
    table: Table,
    where: Iterable[Condition],
    state: StrEnum,
    values: Mapping[str, Any],
) -> int:
    """Move rows from outside: whoever holds one loses it; give how many moved."""
    moved = (
        update(table)
        .where(*where, table.c.state.in_(sources_of(state)))
        .values(state=state, fence=table.c.fence + 1, **{**FREE, **values})
    )
    return touched(tx, moved)

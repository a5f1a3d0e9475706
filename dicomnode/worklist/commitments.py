"""Storage Commitments, asked by us or of us (PS3.4 Annex J): a row joins question and answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import CommitmentState, sources_of
from dicomnode.worklist.rows import as_value, as_values, inserted, reason_columns, touched
from dicomnode.worklist.schema import commitments


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommitment:
    """A request; ``objects`` hold SOP Class and Instance UIDs; ``due_at`` ends the wait."""

    transaction_uid: str
    peer: str
    asked_by_us: bool
    objects: Sequence[Mapping[str, Any]]
    due_at: int
    delivery_id: int | None = None


@dataclass(frozen=True, slots=True)
class Commitment:
    """One request and what was answered."""

    id: int
    transaction_uid: str
    delivery_id: int | None
    peer: str
    asked_by_us: bool
    state: CommitmentState
    objects: tuple[Mapping[str, Any], ...]
    reason: Reason | None
    due_at: int
    fence: int
    created_at: int
    answered_at: int | None


def ask(tx: Connection, new: NewCommitment, now_ms: int) -> int:
    """Write a request down before it is sent, and give its id."""
    values = {
        "transaction_uid": new.transaction_uid,
        "delivery_id": new.delivery_id,
        "peer": new.peer,
        "asked_by_us": new.asked_by_us,
        "state": CommitmentState.OPEN,
        "objects": [dict(entry) for entry in new.objects],
        "due_at": new.due_at,
        "created_at": now_ms,
    }
    return inserted(tx, commitments, values)


def find(tx: Connection, transaction_uid: str) -> Commitment | None:
    """Give the request that an answer names."""
    query = select(commitments).where(commitments.c.transaction_uid == transaction_uid)
    row = tx.execute(query).first()
    return None if row is None else as_value(Commitment, row)


def settle(
    tx: Connection,
    commitment_id: int,
    state: CommitmentState,
    objects: Sequence[Mapping[str, Any]],
    now_ms: int,
    reason: Reason | None = None,
) -> bool:
    """Write an answer down; False where the request was answered before."""
    values = {
        "state": state,
        "objects": [dict(entry) for entry in objects],
        "answered_at": now_ms,
        **reason_columns(reason),
    }
    where = (commitments.c.id == commitment_id, commitments.c.state.in_(sources_of(state)))
    return bool(touched(tx, update(commitments).where(*where).values(**values)))


def overdue(tx: Connection, now_ms: int, limit: int = 100) -> list[Commitment]:
    """Give open requests whose time is over."""
    query = select(commitments).where(
        commitments.c.state == CommitmentState.OPEN, commitments.c.due_at <= now_ms
    )
    return as_values(Commitment, tx.execute(query.order_by(commitments.c.due_at).limit(limit)))


def of_delivery(tx: Connection, delivery_id: int) -> list[Commitment]:
    """Give what was asked for a delivery, the oldest first."""
    query = select(commitments).where(commitments.c.delivery_id == delivery_id)
    return as_values(Commitment, tx.execute(query.order_by(commitments.c.id)))

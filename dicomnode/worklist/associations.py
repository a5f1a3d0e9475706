"""Who opened an association, what was proposed and accepted or refused, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, tuple_, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import AssociationState, sources_of
from dicomnode.worklist import studies
from dicomnode.worklist.keys import storable
from dicomnode.worklist.rows import as_value, as_values, inserted, reason_columns, touched
from dicomnode.worklist.schema import associations, instances

_OPEN = text("associations.state = 'open'")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAssociation:
    """An association as it was asked for.

    ``peer`` is a name of the TOML, None for a stranger; ``contexts`` hold what was proposed and
    what was accepted or why not; ``refused`` is the reason where it was not accepted.
    """

    calling_ae_title: str
    called_ae_title: str
    address: str
    peer: str | None = None
    contexts: Sequence[Mapping[str, Any]] = ()
    refused: Reason | None = None
    process_id: int | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """One association."""

    id: int
    process_id: int | None
    peer: str | None
    calling_ae_title: str
    called_ae_title: str
    address: str
    state: AssociationState
    accepted: bool
    reason: Reason | None
    contexts: tuple[Mapping[str, Any], ...]
    object_count: int
    refused_count: int
    byte_count: int
    opened_at: int
    last_at: int
    closed_at: int | None


def open_one(tx: Connection, new: NewAssociation, now_ms: int) -> int:
    """Write down an association, accepted or refused, and give its id."""
    accepted = new.refused is None
    values = {
        "process_id": new.process_id,
        "peer": new.peer,
        "calling_ae_title": storable(new.calling_ae_title)[:16],
        "called_ae_title": storable(new.called_ae_title)[:16],
        "address": new.address[:64],
        "state": AssociationState.OPEN if accepted else AssociationState.CLOSED,
        "accepted": accepted,
        "contexts": [dict(context) for context in new.contexts],
        "opened_at": now_ms,
        "last_at": now_ms,
        "closed_at": None if accepted else now_ms,
        **reason_columns(new.refused),
    }
    return inserted(tx, associations, values)


def progress(
    tx: Connection, association_id: int, *, objects: int, refused: int, byte_count: int, now_ms: int
) -> None:
    """Keep how many objects an association brought so far, and how many were refused."""
    values = {
        "object_count": objects,
        "refused_count": refused,
        "byte_count": byte_count,
        "last_at": now_ms,
    }
    tx.execute(update(associations).where(associations.c.id == association_id).values(**values))


def close(
    tx: Connection,
    association_id: int,
    state: AssociationState,
    now_ms: int,
    reason: Reason | None = None,
) -> bool:
    """End an association; what it sent is looked at anew: the quiet time starts now.

    Returns
    -------
    False where it had ended.
    """
    _look_at_studies(tx, [association_id], now_ms)
    return _end(tx, association_id, state, now_ms, reason)


def _look_at_studies(tx: Connection, association_ids: Sequence[int], now_ms: int) -> None:
    brought = select(instances.c.study_id).where(instances.c.association_id.in_(association_ids))
    study_ids = [int(row.study_id) for row in tx.execute(brought.distinct())]
    if study_ids:
        studies.look_at(tx, study_ids, now_ms)


def _end(
    tx: Connection,
    association_id: int,
    state: AssociationState,
    now_ms: int,
    reason: Reason | None,
) -> bool:
    values = {"state": state, "closed_at": now_ms, "last_at": now_ms, **reason_columns(reason)}
    where = (associations.c.id == association_id, associations.c.state.in_(sources_of(state)))
    return bool(touched(tx, update(associations).where(*where).values(**values)))


def lose_open(tx: Connection, now_ms: int, *, process_id: int | None = None) -> int:
    """End the associations that a receiver left open when it died; give how many.

    Parameters
    ----------
    process_id
        Only those of this process; without it all, as the only receiver does at its start.
    """
    query = select(associations.c.id).where(_OPEN)
    if process_id is not None:
        query = query.where(associations.c.process_id == process_id)
    lost = [int(row.id) for row in tx.execute(query)]
    _look_at_studies(tx, lost, now_ms)
    for association_id in lost:
        _end(tx, association_id, AssociationState.LOST, now_ms, Reason("association.lost"))
    return len(lost)


def get(tx: Connection, association_id: int) -> Association | None:
    """Give an association by its id."""
    row = tx.execute(select(associations).where(associations.c.id == association_id)).first()
    return None if row is None else as_value(Association, row)


def recent(
    tx: Connection, *, since_ms: int = 0, after: tuple[int, int] | None = None, limit: int = 50
) -> list[Association]:
    """Give associations, the newest first, from after the (opened_at, id) of the last one seen."""
    query = select(associations).where(associations.c.opened_at >= since_ms)
    if after is not None:
        query = query.where(tuple_(associations.c.opened_at, associations.c.id) < after)
    order = (associations.c.opened_at.desc(), associations.c.id.desc())
    return as_values(Association, tx.execute(query.order_by(*order).limit(limit)))

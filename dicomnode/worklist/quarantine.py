"""What came in and could not be taken, and why; an admin releases or deletes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, tuple_, update

from dicomnode.rules.reasons import Reason
from dicomnode.worklist import events
from dicomnode.worklist.arrivals import Arrival, Taken, TakenKind
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.keys import storable
from dicomnode.worklist.rows import as_value, as_values, inserted, touched
from dicomnode.worklist.schema import quarantine

HELD, RELEASED, DELETED = "held", "released", "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQuarantine:
    """Something that is set aside; ``arrival`` where it could be read."""

    reason: Reason
    byte_count: int
    path: str | None = None
    digest: str | None = None
    peer: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    association_id: int | None = None
    study_id: int | None = None
    arrival: Arrival | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing set aside; ``why`` and ``parameters`` are the reason's."""

    id: int
    at: int
    why: str
    parameters: Mapping[str, Any]
    peer: str
    calling_ae_title: str
    called_ae_title: str
    association_id: int | None
    path: str | None
    byte_count: int
    digest: str | None
    sop_instance_uid: str | None
    study_instance_uid: str | None
    study_id: int | None
    arrival: Mapping[str, Any] | None
    state: str
    settled_at: int | None

    @property
    def reason(self) -> Reason:
        """Why it was set aside."""
        return Reason(self.why, self.parameters)


def put(tx: Connection, new: NewQuarantine, act: Act) -> int:
    """Set something aside and give its row's id; the same file again gives the same row.

    What was released and cannot be taken after all is held again, for the reason that it has now.
    """
    found = None
    if new.path is not None:
        same_file = select(quarantine.c.id, quarantine.c.state)
        found = tx.execute(same_file.where(quarantine.c.path == new.path)).first()
    if found is not None and found.state == HELD:
        return int(found.id)
    values = _values(new, act)
    if found is None:
        number = inserted(tx, quarantine, values)
    else:
        number = int(found.id)
        tx.execute(update(quarantine).where(quarantine.c.id == number).values(**values))
    data = {"quarantine_id": number}
    events.add(tx, new.reason, act, Subject(study_id=new.study_id), data=data)
    return number


def _values(new: NewQuarantine, act: Act) -> dict[str, Any]:
    arrival = new.arrival
    return {
        "at": act.now_ms,
        "why": new.reason.code,
        "parameters": dict(new.reason.parameters),
        "peer": storable(new.peer)[:64],
        "calling_ae_title": storable(new.calling_ae_title)[:16],
        "called_ae_title": storable(new.called_ae_title)[:16],
        "association_id": new.association_id,
        "path": new.path,
        "byte_count": new.byte_count,
        "digest": new.digest,
        "sop_instance_uid": None if arrival is None else arrival.sop_instance_uid,
        "study_instance_uid": None if arrival is None else arrival.study_instance_uid,
        "study_id": new.study_id,
        "arrival": None if arrival is None else arrival.to_data(),
        "state": HELD,
        "settled_at": None,
    }


def recount(tx: Connection, quarantine_id: int, n: int) -> None:
    """Say in a row for how many objects it stands."""
    found = get(tx, quarantine_id)
    if found is not None:
        counted = {**found.parameters, "n": n}
        row = quarantine.c.id == quarantine_id
        tx.execute(update(quarantine).where(row).values(parameters=counted))


def holds(tx: Connection, digest: str, why: str) -> bool:
    """Tell whether the same bytes are set aside already for the same cause."""
    same = select(quarantine.c.id).where(
        quarantine.c.state == HELD, quarantine.c.digest == digest, quarantine.c.why == why
    )
    return tx.execute(same.limit(1)).first() is not None


def set_aside(
    tx: Connection, arrival: Arrival, reason: Reason, study_id: int | None, act: Act
) -> Taken:
    """Set an arrival aside; what stands there already with the same bytes is not kept twice."""
    same = select(quarantine).where(
        quarantine.c.state == HELD,
        quarantine.c.sop_instance_uid == arrival.sop_instance_uid,
        quarantine.c.digest == arrival.digest,
        quarantine.c.why == reason.code,
        quarantine.c.path != arrival.path,
    )
    row = tx.execute(same).first()
    if row is not None:
        return Taken(
            TakenKind.QUARANTINED, False, reason, study_id, None, row.id, standing=row.path
        )
    new = NewQuarantine(
        reason=reason,
        byte_count=arrival.byte_count,
        path=arrival.path,
        digest=arrival.digest,
        peer=arrival.peer,
        calling_ae_title=arrival.calling_ae_title,
        called_ae_title=arrival.called_ae_title,
        association_id=arrival.association_id,
        study_id=study_id,
        arrival=arrival,
    )
    return Taken(TakenKind.QUARANTINED, True, reason, study_id, None, put(tx, new, act))


def get(tx: Connection, quarantine_id: int) -> Quarantined | None:
    """Give one thing set aside."""
    row = tx.execute(select(quarantine).where(quarantine.c.id == quarantine_id)).first()
    return None if row is None else as_value(Quarantined, row)


def listed(
    tx: Connection,
    *,
    why: str | None = None,
    state: str = HELD,
    after: tuple[int, int] | None = None,
    limit: int = 50,
) -> list[Quarantined]:
    """Give what is set aside, the newest first, from after the (time, id) of the last one seen."""
    query = select(quarantine).where(quarantine.c.state == state)
    if why is not None:
        query = query.where(quarantine.c.why == why)
    if after is not None:
        query = query.where(tuple_(quarantine.c.at, quarantine.c.id) < after)
    order = (quarantine.c.at.desc(), quarantine.c.id.desc())
    return as_values(Quarantined, tx.execute(query.order_by(*order).limit(limit)))


def count(tx: Connection) -> int:
    """Give how many things are set aside and wait for an admin."""
    query = select(func.count()).select_from(quarantine).where(quarantine.c.state == HELD)
    return int(tx.execute(query).scalar_one())


def delete(tx: Connection, quarantine_id: int, act: Act) -> Quarantined | None:
    """Forget something set aside; its file is to be deleted after the commit.

    Returns
    -------
    The row as it was, or None where it is not held any more.
    """
    return settle(tx, quarantine_id, DELETED, act)


def settle(tx: Connection, quarantine_id: int, state: str, act: Act) -> Quarantined | None:
    """Move something that is held to released or deleted; None where it is not held."""
    found = get(tx, quarantine_id)
    moving = (
        update(quarantine)
        .where(quarantine.c.id == quarantine_id, quarantine.c.state == HELD)
        .values(state=state, settled_at=act.now_ms)
    )
    if found is None or not touched(tx, moving):
        return None
    what = Reason(f"quarantine.{state}", {"n": 1})
    data = {"quarantine_id": quarantine_id}
    events.add(tx, what, act, Subject(study_id=found.study_id), data=data)
    return found

"""Instances: what came in, and the one place that decides what becomes of an arrival.

Same SOP Instance UID and same bytes: nothing changes. Other bytes: kept as pending until they were
compared. Another patient, study or series than the number stands for: quarantine. Else it is new,
and its study, complete or not, is receiving again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import InstanceState, Role
from dicomnode.worklist import intake, quarantine, results
from dicomnode.worklist.arrivals import Arrival, Taken, TakenKind
from dicomnode.worklist.events import Act
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value, as_values, chunks
from dicomnode.worklist.schema import instances, studies
from dicomnode.worklist.signals import Channel, wake

__all__ = [
    "Arrival",
    "Instance",
    "Taken",
    "TakenKind",
    "get",
    "of_ids",
    "of_series",
    "of_study",
    "take_in",
]

_CURRENT = text("instances.state = 'current'")


@dataclass(frozen=True, slots=True)
class Instance:
    """One object, or one revision of it."""

    id: int
    study_id: int
    series_id: int
    sop_instance_uid: str
    revision: int
    state: InstanceState
    role: Role
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    byte_count: int
    digest: str
    is_image: bool
    peer: str
    calling_ae_title: str
    called_ae_title: str
    association_id: int | None
    received_at: int
    header: Mapping[str, Any]
    purged_at: int | None


def take_in(tx: Connection, arrival: Arrival, now_ms: int, *, trusted: bool = False) -> Taken:
    """Write the row of an object that came in, whatever it turns out to be.

    Its file must be durable before. Running it again with the same arrival changes nothing, so it
    may follow a commit whose answer was lost.

    Parameters
    ----------
    trusted
        An admin released it: the patient's identity is not compared.
    """
    arrival = arrival.storable()
    own = arrival.is_own or results.is_ours(tx, arrival.sop_instance_uid)
    role = Role.OWN if own else arrival.role
    study = intake.open_study(tx, arrival, role, now_ms)
    rows = _revisions(tx, arrival.sop_instance_uid)
    for row in rows:
        if row.path == arrival.path:
            is_pending = row.state is InstanceState.PENDING
            kind = TakenKind.PENDING if is_pending else TakenKind.NEW
            return Taken(kind, True, None, row.study_id, row.id)
    conflict = _conflict(arrival, study, rows, trusted=trusted or own)
    collides_with = rows[0].study_id if rows else study.id
    if conflict is None:
        found = intake.open_series(tx, study.id, arrival, role, now_ms)
        place = intake.Place(study, found, role)
        taken = None
        if found.study_id == study.id:
            taken = _taken_before(tx, arrival, place, rows, now_ms) or _add(
                tx, arrival, place, rows, now_ms
            )
        if taken is not None:
            return taken
        # The series stands in another study, or the number came there in this moment.
        conflict = Reason("quarantine.uid_conflict", {"keyword": "StudyInstanceUID"})
        first = _revisions(tx, arrival.sop_instance_uid)
        collides_with = first[0].study_id if first else found.study_id
    intake.forget_empty_study(tx, study.id)
    return quarantine.set_aside(tx, arrival, conflict, collides_with, Act(now_ms=now_ms))


def _revisions(tx: Connection, sop_instance_uid: str) -> list[Instance]:
    query = select(instances).where(instances.c.sop_instance_uid == sop_instance_uid)
    return as_values(Instance, tx.execute(query.order_by(instances.c.revision)))


def _conflict(
    arrival: Arrival, study: intake.OpenStudy, rows: Sequence[Instance], *, trusted: bool
) -> Reason | None:
    """Tell why an arrival is not what its numbers stand for, or None."""
    if not trusted and study.identity != arrival.identity:
        return Reason("quarantine.identity_conflict")
    for row in rows:
        if row.study_instance_uid != arrival.study_instance_uid:
            return Reason("quarantine.uid_conflict", {"keyword": "StudyInstanceUID"})
        if row.series_instance_uid != arrival.series_instance_uid:
            return Reason("quarantine.uid_conflict", {"keyword": "SeriesInstanceUID"})
    return None


def _taken_before(
    tx: Connection, arrival: Arrival, place: intake.Place, rows: Sequence[Instance], now_ms: int
) -> Taken | None:
    """Give what becomes of an arrival whose bytes came before, or None."""
    counting = [row for row in rows if row.state is not InstanceState.SUPERSEDED]
    if not counting:
        return None
    # Only the last one counts: after other bytes that are not compared yet, the first ones again
    # are a change too.
    last = counting[-1]
    if last.digest != arrival.digest and place.role is not Role.OWN:
        return None
    row = counting[0]
    keeps = row.purged_at is not None and last is row and row.digest == arrival.digest
    if keeps:
        kept = {"path": arrival.path, "byte_count": arrival.byte_count, "purged_at": None}
        tx.execute(update(instances).where(instances.c.id == row.id).values(**kept))
        _keep_again(tx, row, now_ms)
    if row.role is Role.PRIOR and place.role is Role.SOURCE:
        tx.execute(update(instances).where(instances.c.id == row.id).values(role=Role.SOURCE))
        intake.count(tx, arrival, place, row.received_at)
    stands = last.digest == arrival.digest and last.purged_at is None
    standing = last.path if stands and not keeps else None
    return Taken(TakenKind.SAME, keeps, None, row.study_id, row.id, standing=standing)


def _keep_again(tx: Connection, row: Instance, now_ms: int) -> None:
    """Have a study purged once more in its time, and routed when a series of it is whole again.

    What came late to a purged series could not be analysed without the rest.
    """
    values: dict[str, Any] = {"purged_at": None, "last_event_at": now_ms}
    gone = select(instances.c.id).where(
        _CURRENT, instances.c.series_id == row.series_id, instances.c.purged_at.is_not(None)
    )
    if row.role is Role.SOURCE and tx.execute(gone.limit(1)).first() is None:
        values["generation"] = studies.c.generation + 1
        wake(tx, Channel.ROUTES)
    tx.execute(update(studies).where(studies.c.id == row.study_id).values(**values))
    if "generation" in values:
        refresh_outcome(tx, row.study_id, now_ms)


def _add(
    tx: Connection, arrival: Arrival, place: intake.Place, rows: Sequence[Instance], now_ms: int
) -> Taken | None:
    """Add the row of an arrival; None where another study took the number meanwhile."""
    state = InstanceState.PENDING if rows else InstanceState.CURRENT
    revision = rows[-1].revision + 1 if rows else 1
    instance_id = intake.insert_instance(tx, arrival, place, state, revision, now_ms)
    if instance_id is None:
        return None
    study_id = place.study.id
    if state is InstanceState.PENDING:
        refresh_outcome(tx, study_id)
        wake(tx, Channel.PENDING)
        return Taken(
            TakenKind.PENDING, True, Reason("study.pending", {"n": 1}), study_id, instance_id
        )
    intake.count(tx, arrival, place, now_ms)
    return Taken(TakenKind.NEW, True, None, study_id, instance_id)


def get(tx: Connection, instance_id: int) -> Instance | None:
    """Give an instance by its id."""
    row = tx.execute(select(instances).where(instances.c.id == instance_id)).first()
    return None if row is None else as_value(Instance, row)


def of_ids(tx: Connection, instance_ids: Sequence[int]) -> list[Instance]:
    """Give instances in the order of their ids as given; what is gone is left out."""
    found: dict[int, Instance] = {}
    for part in chunks(instance_ids):
        query = select(instances).where(instances.c.id.in_(part))
        found.update({row.id: row for row in as_values(Instance, tx.execute(query))})
    return [found[instance_id] for instance_id in instance_ids if instance_id in found]


def of_series(tx: Connection, series_id: int) -> list[Instance]:
    """Give what counts of a series: current revisions, sorted by SOP Instance UID."""
    query = select(instances).where(_CURRENT, instances.c.series_id == series_id)
    return as_values(Instance, tx.execute(query.order_by(instances.c.sop_instance_uid)))


def of_study(tx: Connection, study_id: int, *, only_current: bool = True) -> list[Instance]:
    """Give a study's instances, or every revision and pending arrival too."""
    query = select(instances).where(instances.c.study_id == study_id)
    if only_current:
        query = query.where(_CURRENT)
    return as_values(Instance, tx.execute(query.order_by(instances.c.id)))

"""Arrivals under a number that was there with other bytes, until somebody compared the content."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, func, select, text, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import InstanceState, StudyState
from dicomnode.worklist import events, intake
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.instances import Instance
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value
from dicomnode.worklist.schema import instances, series, studies
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.studies import Study, lock

_PENDING = text("instances.state = 'pending'")
_CURRENT = text("instances.state = 'current'")


@dataclass(frozen=True, slots=True)
class Pending:
    """An arrival and what it is to be compared with."""

    arrival: Instance
    current: Instance


class SettledKind(StrEnum):
    """What became of a pending arrival."""

    EQUAL = "equal"  # dropped: delete its file
    REVISED = "revised"  # it is what counts now
    AGAIN = "again"  # what it was compared with was replaced meanwhile: compare again
    GONE = "gone"  # somebody else settled it


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a pending arrival; ``delete_path`` names a file that nothing needs."""

    kind: SettledKind
    study_id: int | None = None
    delete_path: str | None = None


def next_pending(tx: Connection, *, after_id: int = 0) -> Pending | None:
    """Give the oldest arrival that waits to be compared, or the oldest after one."""
    query = select(instances).where(_PENDING, instances.c.id > after_id)
    # The oldest of its own number: several are compared in the order in which they came.
    other = instances.alias("other")
    earlier = select(other.c.id).where(
        other.c.sop_instance_uid == instances.c.sop_instance_uid,
        text("other.state = 'pending'"),
        other.c.id < instances.c.id,
    )
    row = tx.execute(query.where(~earlier.exists()).order_by(instances.c.id).limit(1)).first()
    if row is None:
        return None
    arrival = as_value(Instance, row)
    current = _current(tx, arrival.sop_instance_uid)
    return None if current is None else Pending(arrival, current)


def settle_pending(
    tx: Connection, instance_id: int, *, equal: bool, compared_with: int, act: Act
) -> Settled:
    """Write down what the comparison of a pending arrival said.

    Parameters
    ----------
    compared_with
        Id of the instance that it was compared with; if that counts no longer, the answer is void.
    """
    where = select(instances.c.study_id).where(instances.c.id == instance_id)
    study_id = tx.execute(where).scalar()
    found = lock(tx, study_id) if study_id is not None else []
    row = tx.execute(select(instances).where(_PENDING, instances.c.id == instance_id)).first()
    if not found or row is None:
        return Settled(SettledKind.GONE)
    arrival, current = as_value(Instance, row), _current(tx, row.sop_instance_uid)
    if current is None or current.id != compared_with or _is_preceded(tx, arrival):
        return Settled(SettledKind.AGAIN, found[0].id)
    if equal:
        tx.execute(delete(instances).where(instances.c.id == instance_id))
        settled = Settled(SettledKind.EQUAL, found[0].id, arrival.path)
    else:
        _replace(tx, current, arrival)
        _count_revision(tx, found[0], current, arrival, act)
        settled = Settled(SettledKind.REVISED, found[0].id)
    _look_again(tx, found[0].id, act.now_ms)
    return settled


def _current(tx: Connection, sop_instance_uid: str) -> Instance | None:
    query = select(instances).where(_CURRENT, instances.c.sop_instance_uid == sop_instance_uid)
    row = tx.execute(query).first()
    return None if row is None else as_value(Instance, row)


def _is_preceded(tx: Connection, arrival: Instance) -> bool:
    query = select(func.count()).select_from(instances)
    earlier = query.where(
        _PENDING,
        instances.c.sop_instance_uid == arrival.sop_instance_uid,
        instances.c.id < arrival.id,
    )
    return bool(tx.execute(earlier).scalar_one())


def _replace(tx: Connection, current: Instance, arrival: Instance) -> None:
    # In this order: at no moment do two revisions count.
    for instance_id, state in (
        (current.id, InstanceState.SUPERSEDED),
        (arrival.id, InstanceState.CURRENT),
    ):
        tx.execute(update(instances).where(instances.c.id == instance_id).values(state=state))


def _count_revision(
    tx: Connection, study: Study, current: Instance, arrival: Instance, act: Act
) -> None:
    change = int(arrival.is_image) - int(current.is_image)
    raised = {
        "generation": studies.c.generation + 1,
        "image_count": studies.c.image_count + change,
        "byte_count": studies.c.byte_count + arrival.byte_count,
        "last_received_at": act.now_ms,
    }
    tx.execute(update(studies).where(studies.c.id == study.id).values(**raised))
    in_series = update(series).where(series.c.id == arrival.series_id)
    tx.execute(in_series.values(image_count=series.c.image_count + change))
    data = {"instance_id": arrival.id, "replaces": current.id, "revision": arrival.revision}
    events.add(tx, Reason("study.revision", {"n": 1}), act, Subject(study_id=study.id), data)
    if study.state is StudyState.COMPLETE:
        intake.reopen(tx, study.id, act.now_ms, since_ms=study.completed_at, changed=1)


def _look_again(tx: Connection, study_id: int, now_ms: int) -> None:
    receiving = (studies.c.id == study_id, studies.c.state == StudyState.RECEIVING)
    tx.execute(update(studies).where(*receiving).values(due_at=now_ms))
    refresh_outcome(tx, study_id, now_ms)
    wake(tx, Channel.STUDIES)

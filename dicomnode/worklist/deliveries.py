"""Deliveries: a job's results for one peer, and which set there the next one supersedes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select, text, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import OPEN_DELIVERY_STATES, DeliveryState, ResultKind
from dicomnode.worklist import claims, events, results
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.results import Result
from dicomnode.worklist.rows import as_value, as_values, inserted, reason_columns
from dicomnode.worklist.schema import deliveries
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.studies import lock

# Literal, as the partial indexes say it: with bound values SQLite does not use them.
_QUEUED = text("deliveries.state = 'queued'")
TO_CONFIRM = text("deliveries.state = 'sent' AND deliveries.confirm_at IS NOT NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStatus:
    """Where one object of a delivery stands at the peer.

    ``status`` is the peer's last answer as four hex digits, ``words`` what that means; ``unsure``
    that it took the object and did not answer; times are epoch ms.
    """

    result_id: int
    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    status: str | None = None
    words: str | None = None
    comment: str | None = None
    unsure: bool = False
    stored_at: int | None = None
    confirmed_at: int | None = None

    @property
    def may_be_there(self) -> bool:
        """Whether the peer has it, or may have it."""
        return self.stored_at is not None or self.unsure


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery; ``begun`` says that something of it is at the peer, or may be."""

    id: int
    job_id: int
    study_id: int
    line: str
    peer: str
    form: str
    after_id: int | None
    state: DeliveryState
    reason: Reason | None
    priority: int
    due_at: int
    lease_owner: str | None
    lease_until: int | None
    fence: int
    tries: int
    lost_leases: int
    begun: bool
    objects: tuple[Mapping[str, Any], ...]
    created_at: int
    sent_at: int | None
    confirm_at: int | None
    finished_at: int | None

    @property
    def statuses(self) -> tuple[ObjectStatus, ...]:
        """Where each object stands, in the order in which they are sent."""
        return tuple(
            ObjectStatus(**{**entry, "kind": ResultKind(entry["kind"])}) for entry in self.objects
        )


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The set that a new one supersedes at a peer; ``delivery_id`` is what the end guards."""

    delivery_id: int
    job_id: int
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A peer that gets a job's results of one form.

    ``predecessor_id`` is the delivery that the form was encoded against, or None.
    """

    peer: str
    form: str
    predecessor_id: int | None = None


def objects_data(objects: Iterable[ObjectStatus]) -> list[dict[str, Any]]:
    """Give what stands at the peer as JSON data."""
    return [asdict(entry) for entry in objects]


def predecessors(
    tx: Connection, line: str, peers: Sequence[str], *, job_id: int
) -> dict[str, Predecessor]:
    """Give, for each peer that has one, the set of a line that the results of a job follow.

    That is the newest one of another job that the peer got something of, or may have.
    """
    found: dict[str, Predecessor] = {}
    for peer in peers:
        before = _predecessor(tx, line, peer, job_id)
        if before is not None:
            sent = {entry.result_id for entry in before.statuses}
            objects = [one for one in results.of_job(tx, before.job_id) if one.id in sent]
            found[peer] = Predecessor(before.id, before.job_id, tuple(objects))
    return found


def _predecessor(tx: Connection, line: str, peer: str, job_id: int) -> Delivery | None:
    query = (
        select(deliveries)
        .where(
            deliveries.c.line == line,
            deliveries.c.peer == peer,
            deliveries.c.begun,
            deliveries.c.job_id != job_id,
        )
        .order_by(deliveries.c.id.desc())
        .limit(1)
    )
    row = tx.execute(query).first()
    return None if row is None else as_value(Delivery, row)


def has_moved(tx: Connection, line: str, new: NewDelivery, *, job_id: int) -> bool:
    """Tell whether the set that a form was encoded against is not the last one any more."""
    before = _predecessor(tx, line, new.peer, job_id)
    return (None if before is None else before.id) != new.predecessor_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The job that deliveries belong to."""

    job_id: int
    study_id: int
    line: str
    priority: int


def create(tx: Connection, parent: Parent, new: NewDelivery, act: Act) -> int:
    """Queue a job's results of a form for a peer; the study's lock is held."""
    made = [one for one in results.of_job(tx, parent.job_id) if one.form == new.form]
    objects = [
        ObjectStatus(
            result_id=one.id,
            kind=one.kind,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
        )
        for one in made
    ]
    query = select(deliveries).where(
        deliveries.c.job_id == parent.job_id, deliveries.c.peer == new.peer
    )
    row = tx.execute(query).first()
    if row is not None:
        return _extend(tx, as_value(Delivery, row), new, objects, act)
    reason = Reason("delivery.queued", {"peer": new.peer, "n": len(objects)})
    values = {
        "job_id": parent.job_id,
        "study_id": parent.study_id,
        "line": parent.line,
        "peer": new.peer,
        "form": new.form,
        "after_id": new.predecessor_id,
        "state": DeliveryState.QUEUED,
        "priority": parent.priority,
        "due_at": act.now_ms,
        "objects": objects_data(objects),
        "created_at": act.now_ms,
        **reason_columns(reason),
    }
    number = inserted(tx, deliveries, values)
    subject = Subject(study_id=parent.study_id, job_id=parent.job_id, delivery_id=number)
    what = Reason("delivery.created", {"peer": new.peer, "n": len(objects)})
    events.add(tx, what, act, subject)
    wake(tx, Channel.DELIVERIES)
    return number


def _extend(
    tx: Connection,
    delivery: Delivery,
    new: NewDelivery,
    objects: Sequence[ObjectStatus],
    act: Act,
) -> int:
    """Add objects to a delivery that the job had before it was tried again."""
    known = {entry.result_id for entry in delivery.statuses}
    added = [entry for entry in objects if entry.result_id not in known]
    if not added:
        return delivery.id
    values = {
        "form": new.form,
        "objects": objects_data([*delivery.statuses, *added]),
        "fence": deliveries.c.fence + 1,
        "state": DeliveryState.QUEUED,
        "due_at": act.now_ms,
        "tries": 0,
        "finished_at": None,
        "confirm_at": None,
        **claims.FREE,
        **reason_columns(Reason("delivery.queued", {"peer": new.peer, "n": len(added)})),
    }
    tx.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**values))
    wake(tx, Channel.DELIVERIES)
    return delivery.id


def get(tx: Connection, delivery_id: int) -> Delivery | None:
    """Give a delivery by its id."""
    row = tx.execute(select(deliveries).where(deliveries.c.id == delivery_id)).first()
    return None if row is None else as_value(Delivery, row)


def of_study(tx: Connection, study_id: int) -> list[Delivery]:
    """Give a study's deliveries, the oldest first."""
    query = select(deliveries).where(deliveries.c.study_id == study_id)
    return as_values(Delivery, tx.execute(query.order_by(deliveries.c.id)))


def of_job(tx: Connection, job_id: int) -> list[Delivery]:
    """Give a job's deliveries, the oldest first."""
    query = select(deliveries).where(deliveries.c.job_id == job_id)
    return as_values(Delivery, tx.execute(query.order_by(deliveries.c.id)))


def stored_count(tx: Connection, study_id: int, peer: str) -> int:
    """Give how many of our objects a peer has of a study: its own count has them in it."""
    query = select(deliveries).where(deliveries.c.study_id == study_id, deliveries.c.peer == peer)
    stored = {
        entry.sop_instance_uid
        for delivery in as_values(Delivery, tx.execute(query))
        for entry in delivery.statuses
        if entry.stored_at is not None
    }
    return len(stored)


def locked(tx: Connection, delivery_id: int) -> Delivery | None:
    """Lock a delivery's study and give the delivery as it then is."""
    query = select(deliveries.c.study_id).where(deliveries.c.id == delivery_id)
    study_id = tx.execute(query).scalar()
    if study_id is None:
        return None
    lock(tx, study_id)
    return get(tx, delivery_id)


def withdraw_unsent(tx: Connection, line: str, act: Act, *, but_job: int) -> int:
    """Withdraw what a line's older jobs did not send, failed or not yet tried; give how many.

    What a peer has a part of stays: it is sent to its end, and the new set follows it.
    """
    unsent = [
        deliveries.c.line == line,
        deliveries.c.job_id != but_job,
        deliveries.c.begun.is_(False),
        deliveries.c.state.in_((DeliveryState.QUEUED, DeliveryState.FAILED)),
    ]
    rows = tx.execute(select(deliveries.c.id, deliveries.c.peer).where(*unsent))
    moved = 0
    for row in list(rows):
        reason = Reason("delivery.withdrawn", {"peer": row.peer})
        values = {"finished_at": act.now_ms, **reason_columns(reason)}
        only = [deliveries.c.id == row.id]
        moved += claims.move(tx, deliveries, only, DeliveryState.WITHDRAWN, values)
    return moved


def resend(
    tx: Connection, delivery_id: int, act: Act, *, only_missing: bool = True, try_now: bool = False
) -> bool:
    """Queue a delivery again that is not being sent: what is missing, or every object.

    Returns
    -------
    False where it is being sent, was withdrawn, nothing is missing, its files are purged, or the
    peer has something of a newer set: no old report goes after a new one.
    """
    delivery = locked(tx, delivery_id)
    if delivery is None or delivery.state in {DeliveryState.SENDING, DeliveryState.WITHDRAWN}:
        return False
    if _is_followed(tx, delivery):
        return False
    objects = delivery.statuses
    kept = results.of_ids(tx, [entry.result_id for entry in objects])
    if any(one.purged_at is not None for one in kept):
        return False
    if not only_missing:
        objects = tuple(
            replace(entry, status=None, words=None, comment=None, stored_at=None, confirmed_at=None)
            for entry in objects
        )
    missing = sum(entry.stored_at is None for entry in objects)
    if not missing:
        return False
    values = {
        "objects": objects_data(objects),
        "state": DeliveryState.QUEUED,
        "due_at": act.now_ms,
        "tries": 0,
        "fence": deliveries.c.fence + 1,
        "confirm_at": None,
        "finished_at": None,
        **claims.FREE,
        **reason_columns(Reason("delivery.queued", {"peer": delivery.peer, "n": missing})),
    }
    tx.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))
    code = "delivery.tried_now" if try_now else "delivery.resent"
    what = Reason(code, {"peer": delivery.peer, "n": missing})
    subject = Subject(study_id=delivery.study_id, job_id=delivery.job_id, delivery_id=delivery_id)
    events.add(tx, what, act, subject)
    refresh_outcome(tx, delivery.study_id, act.now_ms)
    wake(tx, Channel.DELIVERIES)
    return True


def _is_followed(tx: Connection, delivery: Delivery) -> bool:
    """Tell whether the peer has something of a newer set of the line, or may have."""
    newer = select(deliveries.c.id).where(
        deliveries.c.line == delivery.line,
        deliveries.c.peer == delivery.peer,
        deliveries.c.id > delivery.id,
        deliveries.c.begun,
    )
    return tx.execute(newer.limit(1)).first() is not None


def waiting_count(tx: Connection, peer: str) -> int:
    """Give how many deliveries wait for a peer."""
    query = select(func.count()).select_from(deliveries)
    return int(tx.execute(query.where(_QUEUED, deliveries.c.peer == peer)).scalar_one())


def open_peers(tx: Connection) -> list[str]:
    """Give the peers that something is to be sent to, or was sent and not confirmed."""
    open_states = text("deliveries.state IN ('queued','sending')")
    assert len(OPEN_DELIVERY_STATES) == 2, "the text above names every open state"
    found = {
        str(row.peer)
        for which in (open_states, TO_CONFIRM)
        for row in tx.execute(select(deliveries.c.peer).where(which).distinct())
    }
    return sorted(found)


def waiting_for(tx: Connection, peer: str, limit: int = 50) -> list[Delivery]:
    """Give what waits for a peer, to be sent or to be confirmed, whenever it is due."""
    found: list[Delivery] = []
    for which in (_QUEUED, TO_CONFIRM):
        query = select(deliveries).where(which, deliveries.c.peer == peer)
        found += as_values(Delivery, tx.execute(query.order_by(deliveries.c.id).limit(limit)))
    return found

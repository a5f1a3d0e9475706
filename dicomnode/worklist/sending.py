"""A sender's side of deliveries: claim, keep what each object came to, end, and confirm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, text, update

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import DeliveryState
from dicomnode.worklist import attempts, claims, events
from dicomnode.worklist.attempts import Tried, TryEnd
from dicomnode.worklist.claims import CANDIDATES, Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.deliveries import (
    TO_CONFIRM,
    Delivery,
    ObjectStatus,
    locked,
    objects_data,
)
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value, reason_columns
from dicomnode.worklist.schema import deliveries, peers
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.studies import lock, lock_if_free

# Literal, as the partial indexes say it: with bound values SQLite does not use them.
_QUEUED = text("deliveries.state = 'queued'")
_SENDING = text("deliveries.state = 'sending'")


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that the caller may send or confirm, as it then is."""

    delivery: Delivery
    attempt: int
    claimed_at: int

    @property
    def fence(self) -> int:
        """What every later write of this claim names."""
        return self.delivery.fence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEnd:
    """How a delivery ended: sent or failed; confirmed, where the peer said so at once.

    ``confirm_at`` is when the peer is asked whether it keeps the objects; None: never.
    """

    state: DeliveryState
    reason: Reason
    objects: Sequence[ObjectStatus]
    confirm_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRetry:
    """A try that did not get everything stored.

    ``counts`` False: the peer as a whole did not answer, which uses up no try.
    """

    at_ms: int
    reason: Reason
    objects: Sequence[ObjectStatus]
    counts: bool = True


def claim_next(
    worklist: Worklist, peer: str, *, owner: str, lease_ms: int
) -> ClaimedDelivery | None:
    """Claim the best delivery to a peer that is due, or None; an idle look takes no lock."""
    now_ms = worklist.now()
    with worklist.read() as tx:
        expired = tx.execute(_expired(now_ms).limit(1)).first()
        waiting = tx.execute(_claimable(peer, now_ms).limit(1)).first()
    if expired is not None:
        worklist.transact(lambda tx: free_expired(tx, now_ms))
    elif waiting is None:
        return None
    lease = Lease(owner=owner, now_ms=worklist.now(), lease_ms=lease_ms)
    return worklist.transact(lambda tx: claim(tx, peer, lease))


def claim(tx: Connection, peer: str, lease: Lease) -> ClaimedDelivery | None:
    """Claim the best delivery to a peer that is due and whose predecessor there is settled."""
    rows = list(tx.execute(_claimable(peer, lease.now_ms).limit(CANDIDATES)))
    held = False
    for candidate in rows:
        # The first lock may be waited for; with one in hand a second would be a ring.
        if not held:
            lock(tx, candidate.study_id)
        elif not lock_if_free(tx, candidate.study_id):
            continue
        held = True
        # Again under the lock: the peer, or the delivery before, may have moved.
        still = tx.execute(_claimable(peer, lease.now_ms).where(deliveries.c.id == candidate.id))
        if still.first() is None:
            continue
        row = claims.take(tx, deliveries, candidate.id, DeliveryState.SENDING, lease)
        if row is not None:
            return _started(tx, as_value(Delivery, row), lease)
    return None


def _claimable(peer: str, now_ms: int) -> Select[Any]:
    before = deliveries.alias("before")
    unsettled = select(before.c.id).where(
        before.c.id == deliveries.c.after_id,
        before.c.state.in_((DeliveryState.QUEUED, DeliveryState.SENDING)),
    )
    return (
        select(deliveries.c.id, deliveries.c.study_id)
        .where(
            _QUEUED,
            deliveries.c.peer == peer,
            deliveries.c.due_at <= now_ms,
            ~unsettled.exists(),
            ~_kept_back(now_ms),
        )
        .order_by(deliveries.c.priority, deliveries.c.due_at, deliveries.c.id)
    )


def _kept_back(now_ms: int) -> ColumnElement[bool]:
    """Give the condition that a peer is suspended, or silent and not to be tried yet."""
    return (
        select(peers.c.name)
        .where(
            peers.c.name == deliveries.c.peer,
            or_(peers.c.suspended, peers.c.next_try_at > now_ms),
        )
        .exists()
    )


def _started(tx: Connection, delivery: Delivery, lease: Lease) -> ClaimedDelivery:
    objects = delivery.statuses
    told: dict[str, Parameter] = {
        "peer": delivery.peer,
        "n": sum(entry.stored_at is not None for entry in objects),
        "m": len(objects),
    }
    values = {"begun": True, **reason_columns(Reason("delivery.sending", told))}
    tx.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**values))
    tried = Tried(delivery_id=delivery.id)
    number = attempts.start(tx, tried, delivery.fence, lease.owner, lease.now_ms)
    refresh_outcome(tx, delivery.study_id, lease.now_ms)
    return ClaimedDelivery(delivery, number, lease.now_ms)


def heartbeat(tx: Connection, delivery_id: int, fence: int, until_ms: int) -> None:
    """Keep a delivery until a time.

    Raises
    ------
    LeaseLostError
    """
    claims.keep(tx, deliveries, delivery_id, fence, {"lease_until": until_ms})


def record(tx: Connection, delivery_id: int, fence: int, objects: Sequence[ObjectStatus]) -> None:
    """Keep what each object came to so far: after a crash only the others go again.

    Raises
    ------
    LeaseLostError
    """
    claims.keep(tx, deliveries, delivery_id, fence, {"objects": objects_data(objects)})


def finish(tx: Connection, delivery_id: int, fence: int, end: DeliveryEnd, now_ms: int) -> None:
    """End a delivery; running it again after a commit whose answer was lost changes nothing.

    Raises
    ------
    LeaseLostError
    """
    delivery = _demand(tx, delivery_id, fence, end.state)
    if delivery is None:
        return
    values: dict[str, Any] = {
        "objects": objects_data(end.objects),
        "begun": _is_begun(end.objects),
        "confirm_at": end.confirm_at if end.state is DeliveryState.SENT else None,
        **reason_columns(end.reason),
    }
    if end.state is DeliveryState.SENT:
        values["sent_at"] = now_ms
    is_final = end.state is not DeliveryState.SENT or end.confirm_at is None
    values["finished_at"] = now_ms if is_final else None
    claims.give_back(tx, deliveries, delivery_id, fence, end.state, values)
    _set_aside_outdated(tx, delivery)
    _tell(tx, delivery, end.reason, end.state, now_ms)


def _set_aside_outdated(tx: Connection, delivery: Delivery) -> None:
    """Withdraw what failed of a line's older sets once a newer one arrived at the peer.

    Nobody is to mend that any more: sent now, an old report would stand above the new one.
    """
    of_line = (deliveries.c.line == delivery.line, deliveries.c.peer == delivery.peer)
    arrived = select(func.max(deliveries.c.id)).where(*of_line, deliveries.c.sent_at.is_not(None))
    failed = (
        *of_line,
        deliveries.c.state == DeliveryState.FAILED,
        deliveries.c.id < arrived.scalar_subquery(),
    )
    reason = reason_columns(Reason("delivery.outdated", {"peer": delivery.peer}))
    claims.move(tx, deliveries, failed, DeliveryState.WITHDRAWN, reason)


def _is_begun(objects: Sequence[ObjectStatus]) -> bool:
    return any(entry.may_be_there for entry in objects)


def _demand(
    tx: Connection, delivery_id: int, fence: int, ended: DeliveryState | None = None
) -> Delivery | None:
    """Lock and give a delivery that is held under a fence; None where it ended so already."""
    delivery = locked(tx, delivery_id)
    if delivery is not None and delivery.fence == fence:
        if delivery.lease_owner is not None:
            return delivery
        if delivery.state is ended:
            return None
    raise LeaseLostError(f"Delivery {delivery_id} is not held under fence {fence} any more.")


def _tell(tx: Connection, delivery: Delivery, reason: Reason, outcome: str, now_ms: int) -> None:
    how = TryEnd(outcome=outcome, reason=reason)
    attempts.end(tx, Tried(delivery_id=delivery.id), now_ms, how)
    subject = Subject(study_id=delivery.study_id, job_id=delivery.job_id, delivery_id=delivery.id)
    events.add(tx, reason, Act(now_ms=now_ms), subject)
    refresh_outcome(tx, delivery.study_id, now_ms)
    wake(tx, Channel.DELIVERIES)


def retry_later(
    tx: Connection, delivery_id: int, fence: int, again: DeliveryRetry, now_ms: int
) -> None:
    """End a try; what is missing goes again at a time.

    Raises
    ------
    LeaseLostError
    """
    delivery = _demand(tx, delivery_id, fence)
    assert delivery is not None, "without an end there is nothing that was done already"
    values: dict[str, Any] = {
        "objects": objects_data(again.objects),
        "begun": _is_begun(again.objects),
        "due_at": again.at_ms,
        **reason_columns(again.reason),
    }
    if not again.counts:
        values["tries"] = deliveries.c.tries - 1
    claims.give_back(tx, deliveries, delivery_id, fence, DeliveryState.QUEUED, values)
    _tell(tx, delivery, again.reason, attempts.RETRY, now_ms)


def release(
    tx: Connection, delivery_id: int, fence: int, objects: Sequence[ObjectStatus], now_ms: int
) -> None:
    """Give a delivery back, as a sender does that is being stopped: no try is used up.

    Raises
    ------
    LeaseLostError
    """
    delivery = _demand(tx, delivery_id, fence)
    assert delivery is not None, "without an end there is nothing that was done already"
    missing = sum(entry.stored_at is None for entry in objects)
    values = {
        "objects": objects_data(objects),
        "begun": _is_begun(objects),
        "due_at": now_ms,
        "tries": deliveries.c.tries - 1,
        **reason_columns(Reason("delivery.queued", {"peer": delivery.peer, "n": missing})),
    }
    claims.give_back(tx, deliveries, delivery_id, fence, DeliveryState.QUEUED, values)
    how = TryEnd(outcome=attempts.DRAINED)
    attempts.end(tx, Tried(delivery_id=delivery_id), now_ms, how)
    refresh_outcome(tx, delivery.study_id, now_ms)
    wake(tx, Channel.DELIVERIES)


def next_due_at(tx: Connection, peer: str) -> int | None:
    """Give when something of a peer's is due next, sending or confirming."""
    queued = select(func.min(deliveries.c.due_at)).where(_QUEUED, deliveries.c.peer == peer)
    sent = select(func.min(deliveries.c.confirm_at)).where(TO_CONFIRM, deliveries.c.peer == peer)
    found = [tx.execute(query).scalar() for query in (queued, sent)]
    return min((at for at in found if at is not None), default=None)


def claim_confirmation(
    worklist: Worklist, peer: str, *, owner: str, lease_ms: int
) -> ClaimedDelivery | None:
    """Claim a delivery to a peer that is to be asked whether it keeps the objects, or None."""
    now_ms = worklist.now()
    with worklist.read() as tx:
        if tx.execute(_to_confirm(peer, now_ms).limit(1)).first() is None:
            return None
    lease = Lease(owner=owner, now_ms=now_ms, lease_ms=lease_ms)
    return worklist.transact(lambda tx: _claim_confirmation(tx, peer, lease))


def _to_confirm(peer: str, now_ms: int) -> Select[Any]:
    free = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until <= now_ms)
    due = deliveries.c.confirm_at <= now_ms
    query = select(deliveries.c.id, deliveries.c.study_id)
    where = (TO_CONFIRM, deliveries.c.peer == peer, due, free, ~_kept_back(now_ms))
    return query.where(*where).order_by(deliveries.c.confirm_at)


def _claim_confirmation(tx: Connection, peer: str, lease: Lease) -> ClaimedDelivery | None:
    row = tx.execute(_to_confirm(peer, lease.now_ms).limit(1)).first()
    if row is None:
        return None
    lock(tx, row.study_id)
    free = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until <= lease.now_ms)
    taken = (
        update(deliveries)
        .where(deliveries.c.id == row.id, deliveries.c.state == DeliveryState.SENT, free)
        .values(lease_owner=lease.owner, lease_until=lease.until_ms, fence=deliveries.c.fence + 1)
        .returning(*deliveries.c)
    )
    found = tx.execute(taken).first()
    if found is None:
        return None
    return ClaimedDelivery(as_value(Delivery, found), 0, lease.now_ms)


def confirm(tx: Connection, delivery_id: int, fence: int, end: DeliveryEnd, now_ms: int) -> None:
    """Write down what a peer said about keeping the objects.

    ``end.state`` is confirmed or failed; queued where some are missing and go again (at
    ``confirm_at``); sent where the peer is to be asked again at ``confirm_at``, or, without it,
    never.

    Raises
    ------
    LeaseLostError
    """
    delivery = _demand(tx, delivery_id, fence, end.state)
    if delivery is None:
        return
    values: dict[str, Any] = {
        "objects": objects_data(end.objects),
        "confirm_at": end.confirm_at if end.state is DeliveryState.SENT else None,
        "finished_at": now_ms,
        **reason_columns(end.reason),
    }
    if end.state is DeliveryState.SENT:
        values["finished_at"] = None if end.confirm_at else now_ms
        claims.keep(tx, deliveries, delivery_id, fence, {**values, **claims.FREE})
    else:
        if end.state is DeliveryState.QUEUED:
            again = {"due_at": end.confirm_at or now_ms, "finished_at": None, "tries": 0}
            values |= {**again, "begun": True}
        claims.give_back(tx, deliveries, delivery_id, fence, end.state, values)
    _set_aside_outdated(tx, delivery)
    _tell(tx, delivery, end.reason, end.state, now_ms)


def give_up(tx: Connection, delivery_id: int, reason: Reason, now_ms: int) -> DeliveryState | None:
    """End what waits for a peer that nothing is sent to any more, whenever it is due.

    Returns
    -------
    Failed where something was to be sent, sent where only a confirmation is missing; None where
    it waits no more.
    """
    delivery = locked(tx, delivery_id)
    if delivery is None:
        return None
    values = {"finished_at": now_ms, "confirm_at": None, **reason_columns(reason)}
    mine = deliveries.c.id == delivery_id
    if delivery.state is DeliveryState.QUEUED:
        state = DeliveryState.FAILED
        claims.move(tx, deliveries, [mine], state, values)
    elif delivery.state is DeliveryState.SENT and delivery.confirm_at is not None:
        state = DeliveryState.SENT
        let_go = {"fence": deliveries.c.fence + 1, **claims.FREE}
        tx.execute(update(deliveries).where(mine).values(**values, **let_go))
    else:
        return None
    _tell(tx, delivery, reason, state, now_ms)
    return state


def _expired(now_ms: int) -> Select[Any]:
    query = select(deliveries.c.id, deliveries.c.study_id)
    return query.where(_SENDING, deliveries.c.lease_until <= now_ms)


def free_expired(tx: Connection, now_ms: int, limit: int = 50) -> int:
    """Queue deliveries again whose sender fell silent; give how many."""
    return _lose(tx, _expired(now_ms).limit(limit), deliveries.c.lease_until <= now_ms, now_ms)


def release_owner(tx: Connection, owner: str, now_ms: int) -> int:
    """Queue the deliveries of a sender that is known to be dead; give how many."""
    mine = deliveries.c.lease_owner == owner
    held = select(deliveries.c.id, deliveries.c.study_id)
    rows = tx.execute(held.where(or_(and_(_SENDING, mine), and_(TO_CONFIRM, mine)))).all()
    lock(tx, *(int(row.study_id) for row in rows))
    let_go: Mapping[str, Any] = {"fence": deliveries.c.fence + 1, **claims.FREE}
    tx.execute(update(deliveries).where(TO_CONFIRM, mine).values(**let_go))
    return _lose(tx, held.where(_SENDING, mine), mine, now_ms)


def _lose(tx: Connection, query: Select[Any], still: ColumnElement[bool], now_ms: int) -> int:
    rows = list(tx.execute(query))
    lock(tx, *(row.study_id for row in rows))
    lost = 0
    for row in rows:
        # What was on its way when the sender fell silent may have arrived: begun stays.
        values = {
            "due_at": now_ms,
            "tries": deliveries.c.tries - 1,
            "lost_leases": deliveries.c.lost_leases + 1,
        }
        only = [deliveries.c.id == row.id, deliveries.c.state == DeliveryState.SENDING, still]
        if claims.move(tx, deliveries, only, DeliveryState.QUEUED, values):
            how = TryEnd(outcome=attempts.LOST)
            attempts.end(tx, Tried(delivery_id=row.id), now_ms, how)
            refresh_outcome(tx, row.study_id, now_ms)
            lost += 1
    if lost:
        wake(tx, Channel.DELIVERIES)
    return lost


def is_held(tx: Connection, delivery_id: int, fence: int) -> bool:
    """Tell whether a claim still stands, without writing anything."""
    held = select(deliveries.c.id).where(claims.held_by(deliveries, delivery_id, fence))
    return tx.execute(held).first() is not None

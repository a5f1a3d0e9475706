"""Messages that are to leave the node: written where something happens, sent by ``notify``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select, text

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import NotificationState
from dicomnode.worklist import claims
from dicomnode.worklist.claims import Condition, Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.rows import as_value, as_values, inserted, reason_columns
from dicomnode.worklist.schema import notifications
from dicomnode.worklist.signals import Channel, wake

_QUEUED = text("notifications.state = 'queued'")
_SENDING = text("notifications.state = 'sending'")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotification:
    """A message; ``channel`` is log or webhook, ``target`` its name in the TOML."""

    channel: str
    target: str
    what: str
    body: Mapping[str, Any] = field(default_factory=dict)
    study_id: int | None = None
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """One message and where it stands; its own ``fence`` is what a sender's writes name."""

    id: int
    channel: str
    target: str
    study_id: int | None
    job_id: int | None
    what: str
    body: Mapping[str, Any]
    state: NotificationState
    reason: Reason | None
    due_at: int
    lease_owner: str | None
    lease_until: int | None
    fence: int
    tries: int
    created_at: int
    finished_at: int | None


def create(tx: Connection, new: NewNotification, now_ms: int) -> int:
    """Queue a message and give its id."""
    values = {
        "channel": new.channel,
        "target": new.target,
        "study_id": new.study_id,
        "job_id": new.job_id,
        "what": new.what,
        "body": dict(new.body),
        "state": NotificationState.QUEUED,
        "due_at": now_ms,
        "created_at": now_ms,
    }
    wake(tx, Channel.NOTIFICATIONS)
    return inserted(tx, notifications, values)


def claim_next(worklist: Worklist, *, owner: str, lease_ms: int) -> Notification | None:
    """Claim the message that is due longest, or None; an idle look takes no lock."""
    now_ms = worklist.now()
    with worklist.read() as tx:
        expired = tx.execute(_expired(now_ms).limit(1)).first()
        waiting = tx.execute(_claimable(now_ms).limit(1)).first()
    if expired is not None:
        worklist.transact(lambda tx: free_expired(tx, now_ms))
    elif waiting is None:
        return None
    lease = Lease(owner=owner, now_ms=worklist.now(), lease_ms=lease_ms)
    return worklist.transact(lambda tx: claim(tx, lease))


def claim(tx: Connection, lease: Lease) -> Notification | None:
    """Claim the message that is due longest."""
    query = _claimable(lease.now_ms).with_for_update(skip_locked=True)
    row = tx.execute(query.limit(1)).first()
    if row is None:
        return None
    taken = claims.take(tx, notifications, row.id, NotificationState.SENDING, lease)
    return None if taken is None else as_value(Notification, taken)


def _claimable(now_ms: int) -> Select[Any]:
    order = (notifications.c.priority, notifications.c.due_at, notifications.c.id)
    query = select(notifications.c.id).where(_QUEUED, notifications.c.due_at <= now_ms)
    return query.order_by(*order)


def _expired(now_ms: int) -> Select[Any]:
    return select(notifications.c.id).where(_SENDING, notifications.c.lease_until <= now_ms)


def finish(
    tx: Connection,
    notification_id: int,
    fence: int,
    state: NotificationState,
    now_ms: int,
    reason: Reason | None = None,
) -> None:
    """End a message as sent or failed.

    Raises
    ------
    LeaseLostError
    """
    values = {"finished_at": now_ms, **reason_columns(reason)}
    claims.give_back(tx, notifications, notification_id, fence, state, values)


def retry_later(
    tx: Connection, notification_id: int, fence: int, *, at_ms: int, reason: Reason
) -> None:
    """Have a message tried again at a time.

    Raises
    ------
    LeaseLostError
    """
    values = {"due_at": at_ms, **reason_columns(reason)}
    state = NotificationState.QUEUED
    claims.give_back(tx, notifications, notification_id, fence, state, values)


def free_expired(tx: Connection, now_ms: int) -> int:
    """Queue messages again whose sender fell silent; give how many."""
    expired: list[Condition] = [_SENDING, notifications.c.lease_until <= now_ms]
    values = {"tries": notifications.c.tries - 1}
    return claims.move(tx, notifications, expired, NotificationState.QUEUED, values)


def release_owner(tx: Connection, owner: str) -> int:
    """Queue the messages of a sender that is known to be dead; give how many."""
    mine: list[Condition] = [_SENDING, notifications.c.lease_owner == owner]
    values = {"tries": notifications.c.tries - 1}
    return claims.move(tx, notifications, mine, NotificationState.QUEUED, values)


def of_study(tx: Connection, study_id: int) -> list[Notification]:
    """Give a study's messages, the oldest first."""
    query = select(notifications).where(notifications.c.study_id == study_id)
    return as_values(Notification, tx.execute(query.order_by(notifications.c.id)))

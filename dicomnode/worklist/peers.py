"""Peers: what an admin switched, and what each last said or did not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.retry import peer_back_off
from dicomnode.worklist import events
from dicomnode.worklist.events import Act
from dicomnode.worklist.rows import as_value, as_values, insert_named, reason_columns
from dicomnode.worklist.schema import peers
from dicomnode.worklist.signals import Channel, wake


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer; ``accepts`` holds the contexts that it took when last asked."""

    name: str
    suspended: bool
    suspended_by: str | None
    suspended_at: int | None
    down: bool
    reason: Reason | None
    down_since_at: int | None
    next_try_at: int | None
    back_off: int
    echoed_at: int | None
    last_in_at: int | None
    last_out_at: int | None
    accepts: Mapping[str, Any] | None


def get(tx: Connection, name: str) -> Peer:
    """Give a peer; one that nothing is known of has no row and is well."""
    row = tx.execute(select(peers).where(peers.c.name == name)).first()
    if row is not None:
        return as_value(Peer, row)
    nothing: tuple[None, ...] = (None, None, None, None)
    return Peer(name, False, None, None, False, None, None, None, 0, *nothing)


def all_of(tx: Connection) -> list[Peer]:
    """Give every peer that something is known of."""
    return as_values(Peer, tx.execute(select(peers).order_by(peers.c.name)))


def _set(tx: Connection, name: str, values: Mapping[str, Any]) -> None:
    insert_named(tx, peers, {"name": name})
    tx.execute(update(peers).where(peers.c.name == name).values(**values))


def suspend(tx: Connection, name: str, act: Act) -> None:
    """Send nothing to a peer until it is resumed.

    Who calls this has the studies of `studies.waiting_on` refreshed after.
    """
    _set(
        tx,
        name,
        {"suspended": True, "suspended_by": act.actor[:64], "suspended_at": act.now_ms},
    )
    events.add(tx, Reason("peer.suspended", {"peer": name}), act)
    wake(tx, Channel.SWITCHES)


def resume(tx: Connection, name: str, act: Act) -> None:
    """Send to a peer again, at once."""
    again = {"suspended": False, "suspended_by": None, "suspended_at": None, "next_try_at": None}
    _set(tx, name, again)
    events.add(tx, Reason("peer.resumed", {"peer": name}), act)
    wake(tx, Channel.SWITCHES)
    wake(tx, Channel.DELIVERIES)


def try_now(tx: Connection, name: str, act: Act) -> None:
    """End a peer's back-off: what waits for it is sent at once."""
    _set(tx, name, {"next_try_at": None})
    events.add(tx, Reason("delivery.tried_now", {"peer": name}), act)
    wake(tx, Channel.DELIVERIES)


def failed(tx: Connection, name: str, reason: Reason, now_ms: int) -> int:
    """Write down that a peer as a whole did not answer; give when it is tried next."""
    before = get(tx, name)
    failures = before.back_off + 1
    next_try_at = now_ms + peer_back_off(failures) * 1000
    told = Reason(reason.code, {**reason.parameters, "next_at": next_try_at})
    values = {
        "down": True,
        "down_since_at": before.down_since_at or now_ms,
        "next_try_at": next_try_at,
        "back_off": failures,
        **reason_columns(told),
    }
    _set(tx, name, values)
    if not before.down:
        events.add(tx, told, Act(now_ms=now_ms))
    return next_try_at


def answered(tx: Connection, name: str, now_ms: int) -> bool:
    """Write down that a peer answered; tell whether it was down before.

    Then the studies of `studies.waiting_on` are to be refreshed.
    """
    before = get(tx, name)
    if not before.down:
        _set(tx, name, {"last_out_at": now_ms})
        return False
    well = {"down": False, "down_since_at": None, "next_try_at": None, "back_off": 0}
    _set(tx, name, {**well, "last_out_at": now_ms, **reason_columns(None)})
    since = before.down_since_at or now_ms
    back = Reason("peer.back", {"peer": name, "duration_s": (now_ms - since) // 1000})
    events.add(tx, back, Act(now_ms=now_ms))
    wake(tx, Channel.DELIVERIES)
    return True


def echoed(
    tx: Connection, name: str, now_ms: int, accepts: Mapping[str, Any] | None = None
) -> None:
    """Keep that a peer answered an echo, and which contexts it accepted."""
    answered(tx, name, now_ms)
    values: dict[str, Any] = {"echoed_at": now_ms}
    if accepts is not None:
        values["accepts"] = dict(accepts)
    _set(tx, name, values)


def seen_in(tx: Connection, name: str, now_ms: int) -> None:
    """Keep that a peer sent something."""
    _set(tx, name, {"last_in_at": now_ms})

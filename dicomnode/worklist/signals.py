"""Telling waiting stages that there is something for them, once the transaction is committed.

A signal carries nothing: the rows are the truth, and whoever missed one finds them at its next
look.
"""

import threading
from enum import StrEnum
from typing import cast

from sqlalchemy.engine import Connection

_KEY = "dicomnode_signals"


class Channel(StrEnum):
    """Who is told."""

    STUDIES = "studies"  # complete: something came, or a wait may be over
    PENDING = "pending"  # whoever compares revisions
    ROUTES = "routes"  # route: a study is whole, or a fact was found
    JOBS = "jobs"  # workers: a job is queued, cancelled or superseded
    DELIVERIES = "deliveries"
    NOTIFICATIONS = "notifications"
    SWITCHES = "switches"  # an admin suspended, resumed or switched something


def wake(tx: Connection, channel: Channel) -> None:
    """Tell who waits on a channel, when this transaction commits."""
    cast("set[str]", tx.info.setdefault(_KEY, set())).add(channel.value)


def take_signals(tx: Connection) -> frozenset[str]:
    """Give what the transaction wants told, and forget it."""
    return frozenset(cast("set[str]", tx.info.pop(_KEY, set())))


class Bell:
    """Counts rings per channel, so that no ring between two waits is missed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings: dict[str, int] = {}
        self._total = 0
        self._heard = threading.local()

    def ring(self, channels: frozenset[str]) -> None:
        """Wake who waits on any of the channels; none named: everybody."""
        with self._changed:
            self._total += 1
            for channel in channels or frozenset(Channel):
                self._rings[channel] = self._rings.get(channel, 0) + 1
            self._changed.notify_all()

    def wait(self, timeout_s: float, channels: tuple[str, ...]) -> bool:
        """Wait until one of the channels rang since this thread last returned from here."""
        key = channels or ("",)
        heard: dict[tuple[str, ...], int] = self._heard.__dict__.setdefault("rings", {})
        with self._changed:
            rang = self._changed.wait_for(
                lambda: self._count(channels) != heard.get(key, 0), timeout_s
            )
            heard[key] = self._count(channels)
        return rang

    def _count(self, channels: tuple[str, ...]) -> int:
        if not channels:
            return self._total
        return sum(self._rings.get(channel, 0) for channel in channels)

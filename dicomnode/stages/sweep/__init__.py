"""Timers: each tick looks at the rows and does what is due, so that none is ever missed.

APScheduler only ticks; it is no queue. Every tick may run twice, late, or not at all: the next one
finds what is left. `waits` moves rows whose time has come, `purge` deletes by rule, `health` asks
who lives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from dicomnode.config import Settings
from dicomnode.errors import DatabaseUnavailableError
from dicomnode.stages.notices import Announcer
from dicomnode.stages.remotes import callable_peers, remote_of
from dicomnode.stages.sweep.health import bury_processes, echo_peers
from dicomnode.stages.sweep.purge import Keeper
from dicomnode.stages.sweep.waits import end_waits, free_leases
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import events
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act

__all__ = ["Sweep"]

_SOON_S, _ROOM_S, _HEALTH_S, _SELDOM_S = 2, 10, 60, 600


class Sweep:
    """The stage ``sweep``: each tick is a method that a test can call at a time of its own."""

    def __init__(self, worklist: Worklist, storage: Storage, settings: Settings) -> None:
        self._worklist = worklist
        self._announcer = Announcer(settings.notify, settings.node.ae_title)
        self._keeper = Keeper(worklist, storage, settings.retention)
        self._remotes = {
            name: remote_of(peer, settings.node.ae_title)
            for name, peer in callable_peers(settings).items()
        }
        # What was last said about the disk: it is said again only when it changes.
        self._disk_code: str | None = None
        self._log = logger("sweep")

    def run(self, stop: threading.Event) -> None:
        """Tick until ``stop`` is set, then wait for the ticks that run."""
        # An own executor, and no tick dropped for being late: beside slow ones in one pool a
        # third of the ticks were (measured).
        scheduler = BackgroundScheduler(
            timezone="UTC",
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        )
        for tick, seconds in self.ticks():
            scheduler.add_job(
                self._guarded(tick),
                "interval",
                seconds=seconds,
                id=tick.__name__,
                next_run_time=datetime.now(UTC),
            )
        scheduler.start()
        try:
            stop.wait()
        finally:
            scheduler.shutdown(wait=True)

    def ticks(self) -> tuple[tuple[Callable[[], object], int], ...]:
        """Give every tick and how many seconds lie between two of it."""
        return (
            (self.waits, _SOON_S),
            (self.room, _ROOM_S),
            (self.processes, _ROOM_S),
            (self.peers, _HEALTH_S),
            (self.retention, _SELDOM_S),
            (self.leftovers, _SELDOM_S),
        )

    def _guarded(self, tick: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                tick()
            except DatabaseUnavailableError as fault:
                self._log.warning("database_unavailable", tick=tick.__name__, cause=str(fault))
            except Exception:  # noqa: BLE001  the top of a stage's loop
                self._log.exception("tick_failed", tick=tick.__name__)

        return run

    def waits(self) -> int:
        """Move the rows whose time has come; give how many."""
        now_ms = self._worklist.now()
        freed = free_leases(self._worklist, self._announcer, now_ms)
        return freed + end_waits(self._worklist, now_ms)

    def room(self) -> None:
        """Make room where the disk is low, and say so once where that is not enough."""
        now_ms = self._worklist.now()
        reason = self._keeper.disk_reason(self._keeper.make_room(now_ms))
        code = None if reason is None else reason.code
        if reason is not None and code != self._disk_code:
            with self._worklist.write() as tx:
                events.add(tx, reason, Act(now_ms=now_ms))
        self._disk_code = code

    def retention(self) -> int:
        """Delete what is older than the rules keep it; give how many files."""
        return self._keeper.purge_by_age(self._worklist.now())

    def leftovers(self) -> int:
        """Delete what broken transfers and lost jobs left; give how many files."""
        return self._keeper.delete_leftovers()

    def peers(self) -> int:
        """Ask every peer with an address whether it answers; give how many do not."""
        return echo_peers(self._worklist, self._remotes)

    def processes(self) -> int:
        """Write down which processes fell silent; give how many."""
        return bury_processes(self._worklist, self._worklist.now())

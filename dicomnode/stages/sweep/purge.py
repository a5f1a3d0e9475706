"""What is deleted by rule, and only that: what is final and, where it was to be sent, confirmed.

Rows say first that a file is gone; then it goes. A crash between leaves a file that the next
start-up deletes, never a row whose file is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.config import Retention
from dicomnode.rules.reasons import Reason
from dicomnode.storage import FreeSpace, Storage
from dicomnode.worklist import results, retention, work
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act
from dicomnode.worklist.retention import Purged

_BATCH = 50
# Room is made before the floor is reached, below which the door refuses images.
_MARGIN = 1.2
# An arrival that grows is written to more often than this.
_OLD_ARRIVAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Keeper:
    """The files and rows that rules delete from."""

    worklist: Worklist
    storage: Storage
    rules: Retention

    def purge_by_age(self, now_ms: int) -> int:
        """Delete images and results that are older than the rules keep them; give how many."""
        count = 0
        images_before = now_ms - round(self.rules.images_s * 1000)
        while studies := self._purgeable(images_before):
            gone = sum(self._purge_study(study_id, now_ms) for study_id in studies)
            count += gone
            if not gone:
                break
        results_before = now_ms - round(self.rules.results_s * 1000)
        while gone := self._purge_results(results_before, now_ms):
            count += gone
        self.storage.remove_empty_days()
        return count

    def make_room(self, now_ms: int) -> FreeSpace:
        """Delete images of finished studies, the oldest first, until there is room; give it."""
        space = self.storage.free()
        before: list[int] = []
        while self.is_low(space):
            studies = self._purgeable(None, limit=1)
            if not studies or studies == before:
                break
            before = studies
            self._purge_study(studies[0], now_ms)
            space = self.storage.free()
        return space

    def is_low(self, space: FreeSpace) -> bool:
        """Tell whether room is to be made."""
        return space.fraction < self.rules.free * _MARGIN

    def disk_reason(self, space: FreeSpace) -> Reason | None:
        """Give what is to be said about the disk; None where there is room."""
        if space.fraction < self.rules.free:
            level_bytes = round(self.rules.free * space.total_bytes)
            told = {"free_bytes": space.free_bytes, "level_bytes": level_bytes}
            return Reason("node.disk_full", told)
        if self.is_low(space):
            return Reason("node.disk_low", {"free_bytes": space.free_bytes})
        return None

    def _purgeable(self, older_than_ms: int | None, limit: int = _BATCH) -> list[int]:
        with self.worklist.read() as tx:
            return retention.purgeable(tx, older_than_ms=older_than_ms, limit=limit)

    def _purge_study(self, study_id: int, now_ms: int) -> int:
        with self.worklist.write() as tx:
            purged = retention.purge_images(tx, study_id, Act(now_ms=now_ms))
        return self._delete(purged)

    def _purge_results(self, older_than_ms: int, now_ms: int) -> int:
        with self.worklist.write() as tx:
            act = Act(now_ms=now_ms)
            purged = retention.purge_results(tx, act, older_than_ms=older_than_ms)
        return self._delete(purged)

    def _delete(self, purged: Purged) -> int:
        for name in purged.images:
            self.storage.delete_kept(name)
        for name in purged.results:
            self.storage.delete_result(name)
        return len(purged.images) + len(purged.results)

    def delete_leftovers(self) -> int:
        """Delete results that no row names and no running job writes, and broken arrivals.

        The files are listed before the rows are read: what a job wrote since is not in the list,
        and one that ended since has its rows.
        """
        found = list(self.storage.result_names())
        with self.worklist.read() as tx:
            known = results.known_paths(tx, [one.name for one in found])
            running = set(work.running(tx))
        orphans = [
            one.name
            for one in found
            if one.name not in known and (one.job_id, one.fence) not in running
        ]
        for name in orphans:
            self.storage.delete_result(name)
        return len(orphans) + self.storage.clear_arrivals(_OLD_ARRIVAL_S)

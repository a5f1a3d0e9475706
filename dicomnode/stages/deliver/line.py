"""What sending to one peer stands on, and what is written down about the peer as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.config import Peer
from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network.connect import Remote
from dicomnode.rules.reasons import Reason
from dicomnode.stages.notices import Announcer
from dicomnode.stages.remotes import why_down
from dicomnode.storage import Storage
from dicomnode.worklist import deliveries, peers, studies
from dicomnode.worklist.database import Worklist


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One peer that results are sent to, with everything that sending needs."""

    name: str
    peer: Peer
    remote: Remote
    worklist: Worklist
    storage: Storage
    announcer: Announcer

    def failed(self, fault: PeerUnreachableError | PeerRefusedError) -> tuple[Reason, int]:
        """Write down that the peer takes nothing at all; give why, and when it is tried next."""
        now_ms = self.worklist.now()
        with self.worklist.write() as tx:
            was_down = peers.get(tx, self.name).down
            waiting = deliveries.waiting_count(tx, self.name) + 1
            reason = why_down(self.name, self.remote, fault, waiting)
            next_at = peers.failed(tx, self.name, reason, now_ms)
        if not was_down:
            self._refresh()
        return Reason(reason.code, {**reason.parameters, "next_at": next_at}), next_at

    def answered(self) -> None:
        """Write down that the peer answers."""
        with self.worklist.write() as tx:
            was_down = peers.answered(tx, self.name, self.worklist.now())
        if was_down:
            self._refresh()

    def _refresh(self) -> None:
        # In a transaction of its own: it locks many studies, sorted, and may hold no other lock.
        with self.worklist.write() as tx:
            studies.refresh_waiting(tx, studies.waiting_on(tx, peer=self.name))

"""Brings results to peers: one thread for each, so that a slow one holds up nobody else.

`answers` decides, `sender` sends one delivery, `confirmation` asks whether it is kept, `line` is
one peer with what sending to it needs, `lease` keeps the claim.
"""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from dicomnode.config import Settings
from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import DeliveryState
from dicomnode.stages.deliver.confirmation import Confirmation
from dicomnode.stages.deliver.lease import LEASE_MS
from dicomnode.stages.deliver.line import Line
from dicomnode.stages.deliver.sender import Sender
from dicomnode.stages.loop import run_steps
from dicomnode.stages.notices import Announcer, Notice
from dicomnode.stages.remotes import remote_of
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import deliveries, sending, studies
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.deliveries import Delivery
from dicomnode.worklist.signals import Channel

__all__ = ["Deliver"]

_LONGEST_WAIT_S = 5.0


class Deliver:
    """The stage ``deliver``; the peers are those of the settings with ``sends_to``."""

    def __init__(
        self, worklist: Worklist, storage: Storage, settings: Settings, owner: str
    ) -> None:
        self._worklist = worklist
        self._owner = owner
        self._announcer = Announcer(settings.notify, settings.node.ae_title)
        self._lines = {
            name: Line(
                name=name,
                peer=peer,
                remote=remote_of(peer, settings.node.ae_title),
                worklist=worklist,
                storage=storage,
                announcer=self._announcer,
            )
            for name, peer in settings.peers.items()
            if peer.sends_to
        }
        self._stop = threading.Event()
        self._log = logger("deliver")

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the peers that this stage sends to."""
        return tuple(self._lines)

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop`` is set; what is on its way then is finished or given back."""
        self._stop = stop
        threads = [
            threading.Thread(target=self._run_line, args=(name, stop), name=f"deliver-{name}")
            for name in self._lines
        ]
        for thread in threads:
            thread.start()
        run_steps(self.give_up_removed, lambda: stop.wait(_LONGEST_WAIT_S), stop, self._log)
        self._worklist.ring()
        for thread in threads:
            thread.join()

    def _run_line(self, name: str, stop: threading.Event) -> None:
        run_steps(lambda: self.step(name), lambda: self._wait(name), stop, self._log)

    def step(self, peer: str) -> bool:
        """Send one delivery to a peer, else ask about one; tell whether there was any."""
        line = self._lines[peer]
        try:
            claimed = sending.claim_next(self._worklist, peer, owner=self._owner, lease_ms=LEASE_MS)
            if claimed is not None:
                Sender(line, claimed, self._stop).run()
                return True
            asked = sending.claim_confirmation(
                self._worklist, peer, owner=self._owner, lease_ms=LEASE_MS
            )
            if asked is not None:
                Confirmation(line, asked).run()
            return asked is not None
        except LeaseLostError as fault:
            # Somebody withdrew or took over: what was sent is theirs to write down.
            self._log.warning("lease_lost", peer=peer, cause=str(fault))
            return True

    def give_up_removed(self) -> bool:
        """End what waits for peers that are in the settings no more; tell whether there was any.

        Without this it would wait for ever, and nobody would see why. What such a peer stored and
        did not confirm stays sent: it is where it was to go, and the study may be purged one day.
        """
        with self._worklist.read() as tx:
            removed = [name for name in deliveries.open_peers(tx) if name not in self._lines]
            waiting = [one for name in removed for one in deliveries.waiting_for(tx, name)]
        ended = [self._give_up(one) for one in waiting]
        return any(ended)

    def _give_up(self, delivery: Delivery) -> bool:
        told: dict[str, Parameter] = {"peer": delivery.peer}
        reason = Reason("delivery.peer_removed", told)
        if delivery.state is DeliveryState.SENT:
            cause = "it is no longer a peer that results are sent to"
            told |= {"n": len(delivery.objects), "cause": cause}
            reason = Reason("delivery.sent_unasked", told)

        def end(tx: Connection) -> bool:
            now_ms = self._worklist.now()
            found = studies.lock(tx, delivery.study_id)
            ended = sending.give_up(tx, delivery.id, reason, now_ms) if found else None
            if ended is not None:
                notice = Notice(
                    what="",
                    at_ms=now_ms,
                    reason=reason,
                    study_id=delivery.study_id,
                    job_id=delivery.job_id,
                    peer=delivery.peer,
                )
                self._announcer.ended(tx, notice, ended, found[0].outcome)
            return ended is not None

        return self._worklist.transact(end)

    def _wait(self, peer: str) -> None:
        with self._worklist.read() as tx:
            next_at = sending.next_due_at(tx, peer)
        wait_s = _LONGEST_WAIT_S
        if next_at is not None:
            # What is overdue waits for its peer's back-off: that is looked at now and then.
            until_s = (next_at - self._worklist.now()) / 1000
            wait_s = min(until_s, wait_s) if until_s > 0 else 0.5
        self._worklist.wait(wait_s, Channel.DELIVERIES, Channel.SWITCHES)

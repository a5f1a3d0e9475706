"""Finds out which studies are whole, and writes down what the others wait for.

Decides by `dicomnode.rules.completeness` over rows; asks a PACS how many images it has, outside
of any transaction. Never looks at a file.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from dicomnode.config import Settings
from dicomnode.errors import ConfigurationError, PeerError, PeerRefusedError
from dicomnode.network import client
from dicomnode.network.connect import Remote
from dicomnode.rules.completeness import CompleteRules, Wait, Whole, decide
from dicomnode.rules.reasons import Reason
from dicomnode.stages.loop import run_steps
from dicomnode.stages.remotes import remote_of
from dicomnode.telemetry import logger
from dicomnode.worklist import deliveries, studies
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act
from dicomnode.worklist.signals import Channel
from dicomnode.worklist.studies import Completeness, Count, Study

_LONGEST_WAIT_S = 2.0
# A question for a count holds up the other studies, so it is given up sooner than a delivery.
_COUNT_TIMEOUT_S = 5.0
# A PACS that did not answer is not asked about the next study at once.
_SILENT_MS = 30_000
# A decision whose time has come already is not taken in a tight loop.
_SOONEST_MS = 250
_FAULT_WAIT_MS = 60_000


class Complete:
    """The stage ``complete``: one unit is one study that is due."""

    def __init__(self, worklist: Worklist, settings: Settings) -> None:
        self._worklist = worklist
        self._settings = settings
        self._counting = tuple(name for name, peer in settings.peers.items() if peer.counts)
        self._remotes: dict[str, Remote] = {}
        # Spares a silent PACS and the studies behind; nothing depends on it.
        self._silent_until: dict[str, int] = {}
        self._log = logger("complete")

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""
        run_steps(self.step, self._wait, stop, self._log)

    def step(self, now_ms: int | None = None) -> bool:
        """Decide about the study that is due longest; tell whether there was one."""
        now_ms = self._worklist.now() if now_ms is None else now_ms
        with self._worklist.read() as tx:
            due = studies.due(tx, now_ms, limit=1)
        if not due:
            return False
        try:
            self._decide(due[0], now_ms)
        except (PeerError, ConfigurationError, ValueError, TypeError, LookupError) as fault:
            self._put_off(due[0], fault, now_ms)
        return True

    def _decide(self, study: Study, now_ms: int) -> None:
        rules = self._rules(study)
        known = self._known(study)
        decision = decide(known.facts, rules, now_ms)
        if isinstance(decision, Wait) and decision.ask_count and rules.count_peer:
            self._ask(study, rules.count_peer, now_ms)
            known = self._known(study)
            decision = decide(known.facts, rules, now_ms)
        seen = known.study.generation
        with self._worklist.write() as tx:
            if isinstance(decision, Whole):
                act = Act(now_ms=now_ms)
                studies.complete(tx, study.id, seen_generation=seen, by=decision.by, act=act)
                return
            reason, until_ms = decision.reason, max(decision.until_ms, now_ms + _SOONEST_MS)
            studies.wait_for(tx, study.id, seen_generation=seen, reason=reason, until_ms=until_ms)

    def _known(self, study: Study) -> Completeness:
        with self._worklist.read() as tx:
            known = studies.completeness(tx, study.id)
        if known is None:
            raise LookupError("the study was deleted")
        return known

    def _rules(self, study: Study) -> CompleteRules:
        """Give the settings, with the PACS to ask: the sender if it counts, else the first."""
        given = self._settings.complete
        sender = study.peer if study.peer in self._counting else None
        return CompleteRules(
            quiet_s=given.quiet_s,
            limit_s=given.limit_s,
            longest_s=given.longest_s,
            count_peer=sender or next(iter(self._counting), None),
            ask_every_s=given.count_every_s,
        )

    def _ask(self, study: Study, peer: str, now_ms: int) -> None:
        """Ask the PACS for its count and write down what it said."""
        count = self._count(study.study_instance_uid, peer, now_ms)
        with self._worklist.write() as tx:
            if count.images is not None:
                images = count.images - deliveries.stored_count(tx, study.id, peer)
                # A PACS that is behind proves nothing: what came here may still be half of it.
                is_behind = images < study.instance_count
                count = replace(
                    count,
                    images=None if is_behind else images,
                    reason="it has fewer than came here" if is_behind else None,
                )
            studies.expect(tx, study.id, count)

    def _count(self, study_instance_uid: str, peer: str, now_ms: int) -> Count:
        unknown = Count(images=None, asked_at=now_ms, reason="it does not answer")
        if now_ms < self._silent_until.get(peer, 0):
            return unknown
        try:
            instances = client.instance_count(self._remote(peer), study_instance_uid)
        except PeerRefusedError:
            return replace(unknown, reason="it refuses the question")
        except PeerError:
            self._silent_until[peer] = now_ms + _SILENT_MS
            return unknown
        if instances is None:
            return replace(unknown, reason="its answer has no count")
        if instances == 0:
            # It has said nothing about the size of what is on its way to it too.
            return replace(unknown, reason="it does not know the study")
        return Count(images=instances, asked_at=now_ms)

    def _remote(self, peer: str) -> Remote:
        if peer not in self._remotes:
            remote = remote_of(self._settings.peers[peer], self._settings.node.ae_title)
            timeout_s = min(remote.timeout_s, _COUNT_TIMEOUT_S)
            self._remotes[peer] = replace(remote, timeout_s=timeout_s)
        return self._remotes[peer]

    def _put_off(self, study: Study, fault: Exception, now_ms: int) -> None:
        """Let the other studies go on where the facts of one cannot be worked with."""
        self._log.exception("study_put_off", study=study.id)
        reason = Reason("node.error", {"error_class": type(fault).__name__})
        seen, until_ms = study.generation, now_ms + _FAULT_WAIT_MS
        with self._worklist.write() as tx:
            studies.wait_for(tx, study.id, seen_generation=seen, reason=reason, until_ms=until_ms)

    def _wait(self) -> None:
        with self._worklist.read() as tx:
            next_at = studies.next_due_at(tx)
        wait_s = _LONGEST_WAIT_S
        if next_at is not None:
            wait_s = min(max((next_at - self._worklist.now()) / 1000, 0.0), wait_s)
        self._worklist.wait(wait_s, Channel.STUDIES)

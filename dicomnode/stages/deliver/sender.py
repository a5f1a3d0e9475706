"""Sends one claimed delivery: segmentations before reports, only what is missing, as stored.

Deliver never builds an object: what goes out are the bytes of the stored file, each time the same.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from dicomnode.errors import (
    FileDamagedError,
    PeerError,
    PeerRefusedError,
    PeerUnreachableError,
)
from dicomnode.network import client
from dicomnode.network.client import Outcome, Outgoing, SeriesInstances
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.retry import GiveUp
from dicomnode.rules.states import DeliveryState
from dicomnode.rules.statuses import Answer
from dicomnode.stages.deliver.answers import (
    LOOKS_S,
    Said,
    Target,
    Trying,
    after_try,
    holds_back,
    said,
    sendable,
)
from dicomnode.stages.deliver.confirmation import offers_find, series_of
from dicomnode.stages.deliver.lease import held
from dicomnode.stages.deliver.line import Line
from dicomnode.stages.notices import Notice
from dicomnode.worklist import results, sending, studies
from dicomnode.worklist.results import Result
from dicomnode.worklist.sending import ClaimedDelivery, DeliveryEnd, DeliveryRetry

_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class _HeldBackError(Exception):
    """A segmentation was not stored: the reports that name it stay here."""


class _StoppedError(Exception):
    """The node is stopping: the rest goes with the next start."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A result whose file was proved, and its place in the delivery."""

    place: int
    result: Result
    path: Path

    @property
    def outgoing(self) -> Outgoing:
        return Outgoing(
            self.path,
            self.result.sop_class_uid,
            self.result.sop_instance_uid,
            _EXPLICIT_VR_LITTLE_ENDIAN,
        )


def _digest(path: Path) -> str:
    """Give the SHA-256 of a file; one that is not there has another than any."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


class Sender:
    """One try of one delivery."""

    def __init__(self, line: Line, claimed: ClaimedDelivery, stop: threading.Event) -> None:
        self._line = line
        self._claimed = claimed
        self._stop = stop
        self._objects = list(claimed.delivery.statuses)
        self._answers: dict[int, Said] = {}
        self._target = Target(line.name, line.remote.timeout_s)

    def run(self) -> None:
        """Send what is missing and write down what became of it.

        Raises
        ------
        LeaseLostError
            If the delivery is another's now; nothing more was sent.
        """
        with held(self._line.worklist, self._claimed):
            try:
                self._send_all()
            except FileDamagedError:
                self._fail(self._damaged())
            except _StoppedError:
                self._release()
            except (PeerUnreachableError, PeerRefusedError) as fault:
                self._not_reached(fault)
            else:
                self._settle()

    def _send_all(self) -> None:
        """Send in one association; a second one where a look showed that the first may go on."""
        prepared = self._prepared()
        while prepared:
            self._send(prepared)
            looked = self._look(prepared)
            tried = self._answers.keys()
            left = [one for one in prepared if one.place not in tried]
            held_back = any(holds_back(self._objects[one.place]) for one in prepared)
            prepared = left if looked and not held_back else []

    def _prepared(self) -> list[_Prepared]:
        """Prove the files of what is missing.

        Raises
        ------
        FileDamagedError
        """
        places = sendable(self._objects)
        with self._line.worklist.read() as tx:
            rows = results.of_ids(tx, [self._objects[place].result_id for place in places])
        by_id = {row.id: row for row in rows}
        prepared = []
        for place in places:
            row = by_id.get(self._objects[place].result_id)
            if row is None or row.purged_at is not None:
                raise FileDamagedError("a result file is not here any more")
            path = self._line.storage.result(row.path)
            if _digest(path) != row.digest:
                raise FileDamagedError("a result file is not what was written")
            prepared.append(_Prepared(place, row, path))
        return prepared

    def _send(self, prepared: Sequence[_Prepared]) -> None:
        def on_outcome(index: int, outcome: Outcome) -> None:
            self._heard(prepared[index].place, outcome)

        try:
            client.store(self._line.remote, [one.outgoing for one in prepared], on_outcome)
        except _HeldBackError:
            pass
        except PeerRefusedError:
            # A peer that takes none of the classes refuses the whole association.
            if not self._takes_nothing(prepared):
                raise
            for one in prepared:
                self._heard(one.place, Outcome(client.Told.NOT_NEGOTIATED), may_stop=False)
        self._line.answered()

    def _takes_nothing(self, prepared: Sequence[_Prepared]) -> bool:
        classes = {one.result.sop_class_uid: (_EXPLICIT_VR_LITTLE_ENDIAN,) for one in prepared}
        return not any(client.accepted_contexts(self._line.remote, classes).values())

    def _heard(self, place: int, outcome: Outcome, *, may_stop: bool = True) -> None:
        """Keep an answer at once: after a crash only the others go again."""
        one = said(self._objects[place], outcome, self._target, self._line.worklist.now())
        if one.answer is None:
            return
        self._objects[place], self._answers[place] = one.status, one
        self._record()
        if may_stop and holds_back(one.status):
            raise _HeldBackError
        if may_stop and self._stop.is_set():
            raise _StoppedError

    def _record(self) -> None:
        claimed = self._claimed

        def keep(tx: Connection) -> None:
            sending.record(tx, claimed.delivery.id, claimed.fence, self._objects)

        self._line.worklist.transact(keep)

    def _look(self, prepared: Sequence[_Prepared]) -> bool:
        """Look for what the peer says it has already; tell whether something was found there."""
        asked = [
            one
            for one in prepared
            if one.place in self._answers and self._answers[one.place].answer is Answer.LOOK
        ]
        if not asked:
            return False
        try:
            there = self._there(asked)
        except PeerError:
            return False
        found = [one.place for one in asked if one.result.sop_instance_uid in there]
        now_ms = self._line.worklist.now()
        for place in found:
            entry = replace(self._objects[place], stored_at=now_ms, unsure=False)
            self._objects[place] = entry
        self._record()
        return bool(found)

    def _there(self, asked: Sequence[_Prepared]) -> frozenset[str]:
        """Give the SOP Instance UIDs that the peer holds.

        One without C-FIND is believed: nobody else gives these UIDs to anything.
        """
        if not offers_find(self._line.remote):
            return frozenset(one.result.sop_instance_uid for one in asked)
        return client.held_instances(self._line.remote, self._series(asked))

    def _series(self, prepared: Sequence[_Prepared]) -> list[SeriesInstances]:
        with self._line.worklist.read() as tx:
            study = studies.get(tx, self._claimed.delivery.study_id)
        assert study is not None, "a delivery's study is never deleted before it"
        return series_of(study.study_instance_uid, [one.result for one in prepared])

    def _not_reached(self, fault: PeerUnreachableError | PeerRefusedError) -> None:
        """Give the delivery back: a peer that is down uses up no try."""
        reason, next_at = self._line.failed(fault)
        again = DeliveryRetry(at_ms=next_at, reason=reason, objects=self._objects, counts=False)
        self._again(again)

    def _settle(self) -> None:
        delivery, now_ms = self._claimed.delivery, self._line.worklist.now()
        trying = Trying(delivery.id, delivery.tries)
        decided = after_try(self._objects, self._answers, trying, self._target, now_ms)
        if decided is None:
            self._finish(self._sent(now_ms), now_ms)
        elif isinstance(decided, GiveUp):
            self._fail(decided.reason)
        else:
            self._again(decided)

    def _sent(self, now_ms: int) -> DeliveryEnd:
        confirms = self._line.peer.confirm != "none"
        told: dict[str, Parameter] = {"peer": self._line.name, "n": len(self._objects)}
        reason = Reason("delivery.sent" if confirms else "delivery.sent_final", told)
        warned = next((one.reason for one in self._answers.values() if one.is_warning), None)
        return DeliveryEnd(
            state=DeliveryState.SENT,
            reason=warned or reason,
            objects=self._objects,
            confirm_at=now_ms + LOOKS_S[0] * 1000 if confirms else None,
        )

    def _fail(self, reason: Reason) -> None:
        end = DeliveryEnd(state=DeliveryState.FAILED, reason=reason, objects=self._objects)
        self._finish(end, self._line.worklist.now())

    def _damaged(self) -> Reason:
        return Reason("delivery.file_damaged", {"peer": self._line.name, "n": 1})

    def _finish(self, end: DeliveryEnd, now_ms: int) -> None:
        delivery, fence = self._claimed.delivery, self._claimed.fence
        notice = Notice(
            what="",
            at_ms=now_ms,
            reason=end.reason,
            study_id=delivery.study_id,
            job_id=delivery.job_id,
            peer=self._line.name,
        )

        def end_it(tx: Connection) -> None:
            before = studies.lock(tx, delivery.study_id)[0].outcome
            # Run again after a commit whose answer was lost, this finds it ended: told is told.
            ended_before = not sending.is_held(tx, delivery.id, fence)
            sending.finish(tx, delivery.id, fence, end, now_ms)
            if not ended_before:
                self._line.announcer.ended(tx, notice, end.state, before)

        self._line.worklist.transact(end_it)

    def _again(self, again: DeliveryRetry) -> None:
        delivery, fence, now_ms = self._claimed.delivery, self._claimed.fence, self._now()
        with self._line.worklist.write() as tx:
            sending.retry_later(tx, delivery.id, fence, again, now_ms)

    def _release(self) -> None:
        delivery, fence, now_ms = self._claimed.delivery, self._claimed.fence, self._now()
        with self._line.worklist.write() as tx:
            sending.release(tx, delivery.id, fence, self._objects, now_ms)

    def _now(self) -> int:
        return self._line.worklist.now()

"""What the answers of a peer make of a delivery: pure decisions over each object's status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom.uid import UID

from dicomnode.network.client import Outcome, Told
from dicomnode.rules.reasons import Reason
from dicomnode.rules.retry import GiveUp, next_delivery_try
from dicomnode.rules.states import ResultKind
from dicomnode.rules.statuses import Answer, store_answer
from dicomnode.worklist.deliveries import ObjectStatus
from dicomnode.worklist.sending import DeliveryRetry

_LONGEST_COMMENT = 64  # PS3.7 annex C: Error Comment (0000,0902) is an LO
# When a peer that stored everything is asked whether it keeps it, in seconds after it stored.
LOOKS_S = (5, 30, 120, 600, 3600, 21600)


@dataclass(frozen=True, slots=True)
class Said:
    """What one answer means: the object's new status, what follows, and why where it is told."""

    status: ObjectStatus
    answer: Answer | None
    reason: Reason | None = None

    @property
    def is_warning(self) -> bool:
        """Tell whether it was stored, and not as it was sent."""
        return self.answer is Answer.STORED and self.reason is not None


@dataclass(frozen=True, slots=True)
class Target:
    """A peer in words: its name and how long it is waited for."""

    peer: str
    limit_s: float


@dataclass(frozen=True, slots=True)
class Trying:
    """How often a delivery was tried, this time among them.

    ``spread`` (-1 to 1) moves the next try a little: what failed in the same moment does not go
    again in one. It differs between deliveries, not between runs.
    """

    delivery_id: int
    tries: int

    @property
    def spread(self) -> float:
        return (self.delivery_id * 7919 + self.tries * 104729) % 2001 / 1000 - 1


def said(entry: ObjectStatus, outcome: Outcome, target: Target, now_ms: int) -> Said:
    """Give what a peer's answer about one object means; ``answer`` None where it was not sent."""
    sop_class = UID(entry.sop_class_uid).name
    if outcome.told is Told.NOT_SENT:
        return Said(entry, None)
    if outcome.told is Told.NOT_NEGOTIATED:
        reason = Reason("delivery.not_negotiated", {"peer": target.peer, "sop_class": sop_class})
        words = "not taken in any form that we have"
        return Said(replace(entry, status=None, words=words), Answer.REFUSED, reason)
    found = store_answer(
        outcome.status, peer=target.peer, sop_class=sop_class, limit_s=target.limit_s
    )
    status = replace(
        entry,
        status=found.status or None,
        words=found.words,
        comment=outcome.comment[:_LONGEST_COMMENT] or None,
        unsure=found.status == "" or found.answer is Answer.LOOK,
        stored_at=now_ms if found.is_stored else None,
    )
    return Said(status, found.answer, found.reason)


def sendable(objects: Sequence[ObjectStatus]) -> list[int]:
    """Give the places of what is to be sent now: what is missing, reports after segmentations."""
    missing = [place for place, entry in enumerate(objects) if entry.stored_at is None]
    return sorted(missing, key=lambda place: (objects[place].kind is not ResultKind.SEG, place))


def holds_back(entry: ObjectStatus) -> bool:
    """Tell whether an object that is not stored keeps those after it back.

    A report names its segmentation: alone at the peer it would point nowhere.
    """
    return entry.kind is ResultKind.SEG and entry.stored_at is None


def after_try(
    objects: Sequence[ObjectStatus],
    answers: Mapping[int, Said],
    trying: Trying,
    target: Target,
    now_ms: int,
) -> DeliveryRetry | GiveUp | None:
    """Decide after a try; None where every object is stored.

    ``answers`` are what the peer said in this try, by place in ``objects``.
    """
    if all(entry.stored_at is not None for entry in objects):
        return None
    given = [one for place, one in answers.items() if objects[place].stored_at is None]
    refused = next((one.reason for one in given if one.answer is Answer.REFUSED), None)
    if refused is not None:
        return GiveUp(refused)
    reason = next((one.reason for one in given if one.reason is not None), None)
    if reason is None:
        # The association ended before anything was answered.
        reason = Reason("delivery.no_answer", {"peer": target.peer, "limit_s": target.limit_s})
    decided = next_delivery_try(trying.tries, reason, now_ms, trying.spread)
    if isinstance(decided, GiveUp):
        return decided
    told = {**reason.parameters, "next_at": decided.at_ms}
    return DeliveryRetry(
        at_ms=decided.at_ms,
        reason=_partial(objects, Reason(reason.code, told)),
        objects=objects,
        counts=decided.counts,
    )


def _partial(objects: Sequence[ObjectStatus], reason: Reason) -> Reason:
    stored = sum(entry.stored_at is not None for entry in objects)
    if not stored:
        return reason
    told = {
        "peer": reason.parameters.get("peer"),
        "n": stored,
        "m": len(objects),
        "k": len(objects) - stored,
        "next_at": reason.parameters.get("next_at"),
    }
    return Reason("delivery.partial", told)


def next_look_at(sent_at: int, now_ms: int) -> int | None:
    """Give when a peer is asked next whether it keeps what it stored; None after the last look."""
    looks = (sent_at + wait_s * 1000 for wait_s in LOOKS_S)
    return next((at for at in looks if at > now_ms), None)

"""What a C-STORE status means for a delivery, in words (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dicomnode.rules.reasons import Reason


class Answer(StrEnum):
    """What the delivery does with one object after its answer."""

    STORED = "stored"
    LOOK = "look"  # the peer says it has it: counts as stored once a C-FIND shows the same one
    AGAIN = "again"  # by the ladder of refusals
    REFUSED = "refused"  # not again by itself


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """A status in words; ``reason`` is None for a plain success."""

    status: str
    words: str
    answer: Answer
    reason: Reason | None = None

    @property
    def is_stored(self) -> bool:
        """True where the peer says that it stored the object."""
        return self.answer is Answer.STORED


# Status codes that have words of their own; PS3.7 annex C and PS3.4 table B.2-1.
_WORDS: Mapping[int, str] = MappingProxyType(
    {
        0x0000: "stored",
        0x0001: "stored, with attributes it does not support",
        0x0105: "no such attribute",
        0x0106: "invalid attribute value",
        0x0107: "stored, with an attribute list error",
        0x0110: "processing failure",
        0x0111: "it has this SOP Instance UID already",
        0x0112: "no such SOP instance",
        0x0117: "invalid SOP Instance UID",
        0x0118: "no such SOP class",
        0x0119: "class and instance conflict",
        0x0120: "missing attribute",
        0x0121: "missing attribute value",
        0x0122: "SOP class not supported",
        0x0124: "not authorised",
        0x0210: "duplicate invocation",
        0x0211: "unrecognised operation",
        0x0212: "mistyped argument",
        0x0213: "resource limitation",
        0xB000: "stored, with parts changed",
        0xB006: "stored, with parts left out",
        0xB007: "stored, though it doubts the type",
        0xFE00: "cancelled",
    }
)

_CHANGES: Mapping[int, str] = MappingProxyType(
    {
        0x0001: "left attributes out that it does not support",
        0x0107: "says that attributes are wrong",
        0xB000: "changed parts of it",
        0xB006: "left parts of it out",
        0xB007: "doubts its type",
    }
)

# Refusals of the service class or the argument that another try cannot mend.
_FINAL = frozenset(
    {0x0105, 0x0106, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0124, 0x0210, 0x0211, 0x0212}
)


def status_words(status: int | None) -> str:
    """Give a status of a C-STORE response in words."""
    if status is None:
        return "no answer"
    if status in _WORDS:
        return _WORDS[status]
    return next((words for low, high, words in _RANGES if low <= status <= high), "unknown status")


_RANGES = (
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "the object does not fit its type"),
    (0xB000, 0xBFFF, "stored, with a warning"),
    (0xC000, 0xCFFF, "it cannot understand the object"),
)


def store_answer(
    status: int | None, *, peer: str, sop_class: str, limit_s: float | None = None
) -> StoreAnswer:
    """Give what one object's answer means.

    Parameters
    ----------
    status
        Status (0000,0900) of the response; None where none came within ``limit_s``.
    sop_class
        The object's SOP class by name, for the sentence.
    """
    words = status_words(status)
    if status is None:
        silent = Reason("delivery.no_answer", {"peer": peer, "limit_s": limit_s})
        return StoreAnswer("", words, Answer.AGAIN, silent)
    shown = f"{status:04X}"
    if status == 0x0000:
        return StoreAnswer(shown, words, Answer.STORED)
    if status in _CHANGES or 0xB000 <= status <= 0xBFFF:
        change = _CHANGES.get(status, "gave a warning")
        changed = Reason("delivery.B000", {"peer": peer, "change": change, "status": shown})
        return StoreAnswer(shown, words, Answer.STORED, changed)
    code, answer = _refusal(status)
    told = {"peer": peer, "sop_class": sop_class, "status": shown, "status_words": words}
    return StoreAnswer(shown, words, answer, Reason(code, told))


# Each range of refusals with its code and what follows; the first that holds a status counts.
_REFUSALS = (
    (0x0111, 0x0111, "delivery.0111", Answer.LOOK),
    (0x0122, 0x0122, "delivery.0122", Answer.REFUSED),
    (0x0213, 0x0213, "delivery.A700", Answer.AGAIN),
    (0xA700, 0xA7FF, "delivery.A700", Answer.AGAIN),
    (0xA900, 0xA9FF, "delivery.A900", Answer.REFUSED),
    (0xC000, 0xCFFF, "delivery.C000", Answer.REFUSED),
)


def _refusal(status: int) -> tuple[str, Answer]:
    for low, high, code, answer in _REFUSALS:
        if low <= status <= high:
            return code, answer
    if status in _FINAL:
        return "delivery.refused_final", Answer.REFUSED
    return "delivery.refused_other", Answer.AGAIN

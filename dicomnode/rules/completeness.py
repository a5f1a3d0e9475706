"""Is a study whole? A decision over what came and when, by the node's clock, never image times.

Nothing proves that a study is whole. In order of worth: a person says so, a PACS's own count of its
images was reached twice, nothing came for the quiet time while no connection that sent for it is
open. Two bounds end every wait: `CompleteRules.limit_s` from the last image, `longest_s` from the
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicomnode.rules.reasons import Parameter, Reason

# A count is not asked for before nothing came for this long: a busy sender needs no questions.
SETTLE_MS = 5_000
# How soon a study is looked at again whose pending images a worker still compares.
PENDING_LOOK_MS = 5_000


class CompletedBy(StrEnum):
    """What made a study complete; stored as ``completed_by``."""

    QUIET = "quiet"
    COUNT = "count"
    LIMIT = "limit"
    LONGEST = "longest"
    HAND = "hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What is known of a study that is receiving; times are epoch ms.

    Parameters
    ----------
    peer
        Name of the peer that sent last, for the sentence.
    instance_count
        Instances that others made: our own and pending ones are not in it.
    opened_at
        When the first image came since the study was opened, or opened again.
    association_open
        Whether an association that sent for this study is still open.
    association_closed_at
        When the last such association ended, where known: the quiet time starts anew there.
    expected_count, expected_seen
        What the PACS last said it has, ours left out, and how often that was reached in a row
        (see `count_seen`).
    count_status
        Why the PACS gave no count when it was last asked.
    """

    peer: str
    instance_count: int
    opened_at: int
    last_received_at: int
    pending_count: int = 0
    association_open: bool = False
    association_closed_at: int | None = None
    expected_count: int | None = None
    expected_seen: int = 0
    expected_asked_at: int | None = None
    count_status: str | None = None
    by_hand: bool = False

    @property
    def missing(self) -> int:
        """How many images the PACS has more than came here."""
        return max((self.expected_count or 0) - self.instance_count, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRules:
    """The settings ``[complete]``; ``count_peer`` is the PACS that is asked for its count."""

    quiet_s: float = 60.0
    limit_s: float = 1800.0
    longest_s: float = 14400.0
    count_peer: str | None = None
    ask_every_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Whole:
    """The study is complete."""

    by: CompletedBy


@dataclass(frozen=True, slots=True)
class Wait:
    """It is not: why, when to look again, and whether the PACS's count is to be asked now."""

    reason: Reason
    until_ms: int
    ask_count: bool = False


def decide(facts: StudyFacts, rules: CompleteRules, now_ms: int) -> Whole | Wait:
    """Tell whether a receiving study is whole, or why it waits and until when."""
    if facts.pending_count:
        return Wait(Reason("study.pending", {"n": facts.pending_count}), now_ms + PENDING_LOOK_MS)
    completed_by = _completed_by(facts, rules, now_ms)
    if completed_by is not None:
        return Whole(completed_by)
    ask_at = _ask_at(facts, rules)
    asks_now = ask_at is not None and ask_at <= now_ms
    if asks_now:
        ask_at = now_ms + _ms(rules.ask_every_s)
    reason, decided_at = _wait(facts, rules, now_ms, ask_at)
    looks = (decided_at, facts.opened_at + _ms(rules.longest_s), ask_at)
    return Wait(reason, min(look for look in looks if look is not None), asks_now)


def count_seen(facts: StudyFacts, counted: int) -> int:
    """Give ``expected_seen`` after the PACS said that it has ``counted`` images, ours left out.

    Only the same count in a row adds up: a count that grows says that the PACS still receives.
    """
    if facts.instance_count < counted:
        return 0
    return facts.expected_seen + 1 if facts.expected_count == counted else 1


def _completed_by(facts: StudyFacts, rules: CompleteRules, now_ms: int) -> CompletedBy | None:
    if facts.by_hand:
        return CompletedBy.HAND
    if facts.expected_count is not None and facts.expected_seen >= 2 and not facts.missing:
        return CompletedBy.COUNT
    is_quiet = not facts.association_open and now_ms >= _quiet_until(facts, rules)
    if is_quiet and not _waits_for_count(facts, rules):
        return CompletedBy.QUIET
    if now_ms >= _limit_at(facts, rules):
        return CompletedBy.LIMIT
    if now_ms >= facts.opened_at + _ms(rules.longest_s):
        return CompletedBy.LONGEST
    return None


def _waits_for_count(facts: StudyFacts, rules: CompleteRules) -> bool:
    """Tell whether a count is still to come: images are missing, or nobody answered yet."""
    if rules.count_peer is None or facts.count_status is not None:
        return False
    return facts.expected_count is None or facts.missing > 0


def _wait(
    facts: StudyFacts, rules: CompleteRules, now_ms: int, ask_at: int | None
) -> tuple[Reason, int]:
    """Give why the study waits, and when that changes without anything coming."""
    quiet_until, limit_at = _quiet_until(facts, rules), _limit_at(facts, rules)
    came: dict[str, Parameter] = {"n": facts.instance_count, "last_at": facts.last_received_at}
    if facts.association_open and now_ms < quiet_until:
        return Reason("study.receiving", {"peer": facts.peer, **came}), quiet_until
    if rules.count_peer is not None and facts.count_status is None and facts.missing:
        told: dict[str, Parameter] = {
            "peer": rules.count_peer,
            "missing": facts.missing,
            "expected": facts.expected_count,
            "until_at": limit_at,
            "next_at": ask_at,
        }
        return Reason("study.waiting_count", told), limit_at
    if facts.association_open:
        held: dict[str, Parameter] = {
            "peer": facts.peer,
            "quiet_s": rules.quiet_s,
            "until_at": limit_at,
        }
        return Reason("study.waiting_connection", held), limit_at
    # Quiet, but the first answer about the count is still to come: the question goes out now.
    until_at = quiet_until if now_ms < quiet_until else limit_at
    if rules.count_peer is not None and facts.count_status is not None:
        unknown = {"peer": rules.count_peer, "status": facts.count_status}
        return Reason("study.count_unknown", {**unknown, "until_at": until_at}), until_at
    return Reason("study.waiting_quiet", {**came, "until_at": until_at}), until_at


def _ask_at(facts: StudyFacts, rules: CompleteRules) -> int | None:
    if rules.count_peer is None:
        return None
    settled_at = facts.last_received_at + min(SETTLE_MS, _ms(rules.quiet_s))
    if facts.expected_asked_at is None:
        return settled_at
    return max(settled_at, facts.expected_asked_at + _ms(rules.ask_every_s))


def _quiet_until(facts: StudyFacts, rules: CompleteRules) -> int:
    quiet_from = max(facts.last_received_at, facts.association_closed_at or 0)
    return min(quiet_from + _ms(rules.quiet_s), _limit_at(facts, rules))


def _limit_at(facts: StudyFacts, rules: CompleteRules) -> int:
    # A limit shorter than the quiet time would cut studies in the middle.
    return facts.last_received_at + _ms(max(rules.limit_s, rules.quiet_s))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

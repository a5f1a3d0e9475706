"""When a study is whole, and what it waits for until then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicomnode.rules.completeness import (
    CompletedBy,
    CompleteRules,
    StudyFacts,
    Wait,
    Whole,
    count_seen,
    decide,
)

S = 1000
RULES = CompleteRules(quiet_s=60, limit_s=1800, longest_s=14400)
COUNTING = replace(RULES, count_peer="pacs")
CAME = StudyFacts(peer="ct2", instance_count=400, opened_at=0, last_received_at=100 * S)


def waits(facts: StudyFacts, rules: CompleteRules, at_s: float) -> Wait:
    decision = decide(facts, rules, round(at_s * S))
    assert isinstance(decision, Wait)
    return decision


def test_a_study_waits_for_the_quiet_time_and_says_when_it_ends() -> None:
    wait = waits(CAME, RULES, 159.9)
    assert wait.reason.code == "study.waiting_quiet"
    assert wait.reason.parameters == {"n": 400, "last_at": 100 * S, "until_at": 160 * S}
    assert wait.until_ms == 160 * S
    assert not wait.ask_count


def test_a_quiet_study_is_whole() -> None:
    assert decide(CAME, RULES, 160 * S) == Whole(CompletedBy.QUIET)


def test_an_open_association_that_still_sends_says_so() -> None:
    wait = waits(replace(CAME, association_open=True), RULES, 110)
    assert wait.reason.code == "study.receiving"
    assert wait.until_ms == 160 * S


def test_an_open_association_that_is_silent_holds_the_study_until_the_limit() -> None:
    facts = replace(CAME, association_open=True)
    wait = waits(facts, RULES, 160)
    assert wait.reason.code == "study.waiting_connection"
    assert wait.until_ms == wait.reason.parameters["until_at"] == 1900 * S
    assert decide(facts, RULES, 1900 * S) == Whole(CompletedBy.LIMIT)


def test_the_quiet_time_starts_anew_when_the_association_closes() -> None:
    facts = replace(CAME, association_closed_at=300 * S)
    assert waits(facts, RULES, 359).until_ms == 360 * S
    assert decide(facts, RULES, 360 * S) == Whole(CompletedBy.QUIET)


def test_a_study_that_trickles_is_cut_by_the_longest_time() -> None:
    facts = replace(CAME, last_received_at=14390 * S)
    assert waits(facts, RULES, 14395).until_ms == 14400 * S
    assert decide(facts, RULES, 14400 * S) == Whole(CompletedBy.LONGEST)


def test_a_hand_completes_at_once() -> None:
    assert decide(replace(CAME, by_hand=True), RULES, 101 * S) == Whole(CompletedBy.HAND)


@pytest.mark.parametrize("by_hand", [False, True])
def test_pending_images_hold_the_study_open_whatever_else(by_hand: bool) -> None:
    facts = replace(CAME, pending_count=2, by_hand=by_hand)
    wait = waits(facts, RULES, 99999)
    assert wait.reason.code == "study.pending"
    assert wait.until_ms > 99999 * S


def test_a_count_reached_twice_completes_before_the_quiet_time() -> None:
    facts = replace(CAME, expected_count=400, expected_seen=2, expected_asked_at=140 * S)
    assert decide(replace(facts, association_open=True), COUNTING, 141 * S) == Whole(
        CompletedBy.COUNT
    )


@pytest.mark.parametrize(
    ("expected_count", "expected_seen", "whole_at_quiet"), [(400, 1, True), (401, 2, False)]
)
def test_a_count_reached_once_or_no_more_does_not(
    expected_count: int, expected_seen: int, whole_at_quiet: bool
) -> None:
    facts = replace(
        CAME,
        expected_count=expected_count,
        expected_seen=expected_seen,
        expected_asked_at=130 * S,
    )
    assert isinstance(decide(facts, COUNTING, 131 * S), Wait)
    assert isinstance(decide(facts, COUNTING, 160 * S), Whole) is whole_at_quiet


def test_missing_images_are_waited_for_until_the_limit() -> None:
    facts = replace(CAME, expected_count=412, expected_asked_at=150 * S)
    wait = waits(facts, COUNTING, 200)
    assert wait.reason.code == "study.waiting_count"
    assert wait.reason.parameters == {
        "peer": "pacs",
        "missing": 12,
        "expected": 412,
        "until_at": 1900 * S,
        "next_at": 230 * S,
    }
    assert wait.ask_count
    assert wait.until_ms == 230 * S
    assert decide(facts, COUNTING, 1900 * S) == Whole(CompletedBy.LIMIT)


def test_the_count_is_first_asked_for_once_nothing_came_for_a_while() -> None:
    assert not waits(CAME, COUNTING, 104).ask_count
    assert waits(CAME, COUNTING, 104).until_ms == 105 * S
    assert waits(CAME, COUNTING, 105).ask_count


def test_the_count_is_asked_for_again_after_its_interval() -> None:
    facts = replace(CAME, expected_count=400, expected_seen=1, expected_asked_at=110 * S)
    assert waits(facts, COUNTING, 120).until_ms == 140 * S
    assert not waits(facts, COUNTING, 120).ask_count
    assert waits(facts, COUNTING, 140).ask_count


def test_without_a_count_the_quiet_time_decides() -> None:
    facts = replace(CAME, count_status="A700", expected_asked_at=110 * S)
    wait = waits(facts, COUNTING, 120)
    assert wait.reason.code == "study.count_unknown"
    assert wait.reason.parameters == {"peer": "pacs", "status": "A700", "until_at": 160 * S}
    assert decide(facts, COUNTING, 160 * S) == Whole(CompletedBy.QUIET)


def test_a_quiet_study_that_was_never_asked_about_is_asked_about_first() -> None:
    wait = waits(CAME, COUNTING, 160)
    assert wait.ask_count
    assert wait.reason.code == "study.waiting_quiet"
    assert decide(CAME, COUNTING, 1900 * S) == Whole(CompletedBy.LIMIT)


def test_a_limit_below_the_quiet_time_cuts_no_study_short() -> None:
    rules = CompleteRules(quiet_s=60, limit_s=10)
    assert decide(CAME, rules, 159 * S) == Wait(waits(CAME, rules, 159).reason, 160 * S)


@pytest.mark.parametrize(
    ("have", "before", "seen", "counted", "now_seen"),
    [(400, None, 0, 400, 1), (400, 400, 1, 400, 2), (400, 399, 1, 400, 1), (400, 400, 1, 401, 0)],
)
def test_only_the_same_count_in_a_row_adds_up(
    have: int, before: int | None, seen: int, counted: int, now_seen: int
) -> None:
    facts = replace(CAME, instance_count=have, expected_count=before, expected_seen=seen)
    assert count_seen(facts, counted) == now_seen


milliseconds = st.integers(min_value=0, max_value=20_000_000)
some_facts = st.builds(
    StudyFacts,
    peer=st.just("ct2"),
    instance_count=st.integers(1, 500),
    opened_at=st.just(0),
    last_received_at=milliseconds,
    pending_count=st.just(0),
    association_open=st.booleans(),
    association_closed_at=st.none() | milliseconds,
    expected_count=st.none() | st.integers(0, 500),
    expected_seen=st.integers(0, 3),
    expected_asked_at=st.none() | milliseconds,
    count_status=st.none() | st.just("no answer"),
)


@given(some_facts, st.sampled_from([RULES, COUNTING]), milliseconds)
def test_every_wait_has_an_end_that_is_still_to_come(
    facts: StudyFacts, rules: CompleteRules, now_ms: int
) -> None:
    assume(facts.last_received_at <= now_ms)
    decision = decide(facts, rules, now_ms)
    if isinstance(decision, Wait):
        assert decision.until_ms > now_ms
        assert decision.until_ms <= facts.opened_at + 14400 * S
        assert decision.until_ms <= facts.last_received_at + 1800 * S


@given(some_facts, st.sampled_from([RULES, COUNTING]))
def test_both_bounds_end_every_wait(facts: StudyFacts, rules: CompleteRules) -> None:
    assert isinstance(decide(facts, rules, facts.last_received_at + 1800 * S), Whole)
    assert isinstance(decide(facts, rules, max(14400 * S, facts.last_received_at)), Whole)

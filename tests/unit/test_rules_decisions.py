"""Retries, hours, keys, priorities and statuses: small decisions, each by its table."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.rules import hours, keys, priorities
from dicomnode.rules.keys import FormParts, KeyParts
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.retry import (
    GiveUp,
    Retry,
    next_after_loss,
    next_delivery_try,
    next_job_try,
    next_notification_try,
    peer_back_off,
)
from dicomnode.rules.states import MOVES, JobState, Mode, Priority, may_move, sources_of
from dicomnode.rules.statuses import Answer, status_words, store_answer
from dicomnode.sdk.findings import Urgency

NOW = 1_795_254_126_000
BERLIN = ZoneInfo("Europe/Berlin")
ERROR = Reason("failed.error", {"pipeline": "lung"})


@pytest.mark.parametrize(("tries", "wait_s"), [(0, 30), (1, 30), (2, 120)])
def test_a_failed_try_of_a_job_is_followed_by_another(tries: int, wait_s: int) -> None:
    assert next_job_try(tries, ERROR, NOW) == Retry(NOW + wait_s * 1000)


def test_a_job_has_three_tries() -> None:
    assert next_job_try(3, ERROR, NOW) == GiveUp(ERROR)


@pytest.mark.parametrize("code", ["declined.gap", "failed.gate", "failed.model", "failed.source"])
def test_what_would_only_repeat_is_not_tried_again(code: str) -> None:
    assert next_job_try(1, Reason(code), NOW) == GiveUp(Reason(code))


@pytest.mark.parametrize(("losses", "wait_s"), [(0, 0), (1, 0), (2, 30)])
def test_a_lost_worker_costs_no_try(losses: int, wait_s: int) -> None:
    assert next_after_loss(losses, NOW) == Retry(NOW + wait_s * 1000, counts=False)


def test_the_third_loss_parks_the_job() -> None:
    assert next_after_loss(3, NOW) == GiveUp(Reason("failed.worker_lost", {"n": 3}))
    killed = Reason("failed.killed", {"signal": "SIGKILL"})
    assert next_after_loss(3, NOW, killed) == GiveUp(killed)


FULL = Reason("delivery.A700", {"peer": "pacs", "status": "A700", "status_words": "no room"})


@pytest.mark.parametrize(
    ("refusals", "wait_s"), [(0, 30), (1, 30), (2, 120), (3, 600), (4, 3600), (5, 21600)]
)
def test_a_refused_delivery_climbs_a_ladder_of_five(refusals: int, wait_s: int) -> None:
    assert next_delivery_try(refusals, FULL, NOW) == Retry(NOW + wait_s * 1000)
    assert next_notification_try(refusals, FULL, NOW) == Retry(NOW + wait_s * 1000)


def test_after_the_ladder_a_delivery_is_given_up_with_the_last_answer() -> None:
    end = next_delivery_try(6, FULL, NOW)
    assert isinstance(end, GiveUp)
    assert sentence(end.reason) == "Given up after 6 tries; the last answer was no room (A700)."


def test_after_the_ladder_a_notification_is_given_up() -> None:
    end = next_notification_try(6, Reason("notification.refused", {"target": "ris"}), NOW)
    assert isinstance(end, GiveUp)
    assert sentence(end.reason) == "The message to ris was given up after 6 tries."


@given(st.floats(-5, 5), st.integers(1, 5))
def test_jitter_moves_a_try_by_a_fifth_at_most(jitter: float, refusals: int) -> None:
    plain = next_delivery_try(refusals, FULL, NOW)
    moved = next_delivery_try(refusals, FULL, NOW, jitter)
    assert isinstance(plain, Retry)
    assert isinstance(moved, Retry)
    assert abs(moved.at_ms - plain.at_ms) <= (plain.at_ms - NOW) * 0.2 + 1


@pytest.mark.parametrize("code", ["delivery.A900", "delivery.C000", "delivery.0122"])
def test_a_final_refusal_is_given_up_at_once(code: str) -> None:
    assert next_delivery_try(1, Reason(code), NOW) == GiveUp(Reason(code))


@pytest.mark.parametrize("code", ["delivery.peer_down", "delivery.connection_refused"])
def test_a_peer_that_is_down_uses_up_no_try(code: str) -> None:
    assert next_delivery_try(99, Reason(code), NOW) == Retry(NOW, counts=False)


def test_the_peers_back_off_doubles_to_five_minutes() -> None:
    assert [peer_back_off(n) for n in range(9)] == [5, 5, 10, 20, 40, 80, 160, 300, 300]
    assert peer_back_off(10**9) == 300


def local_ms(text: str, zone: ZoneInfo = BERLIN) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


# 2026-11-21 is a Saturday.
@pytest.mark.parametrize(
    ("text", "now", "opens"),
    [
        ("", "2026-11-21T10:00", "2026-11-21T10:00"),
        ("sat-sun", "2026-11-21T10:00", "2026-11-21T10:00"),
        ("mon-fri", "2026-11-21T10:00", "2026-11-23T00:00"),
        ("mon-fri 18:00-06:00", "2026-11-23T10:00", "2026-11-23T18:00"),
        ("mon-fri 18:00-06:00", "2026-11-24T05:59", "2026-11-24T05:59"),
        ("mon-fri 18:00-06:00", "2026-11-24T06:00", "2026-11-24T18:00"),
        ("mon-fri 18:00-06:00", "2026-11-21T05:00", "2026-11-21T05:00"),
        ("mon-fri 18:00-06:00, sat-sun", "2026-11-21T10:00", "2026-11-21T10:00"),
        ("18:00 - 24:00", "2026-11-21T10:00", "2026-11-21T18:00"),
        ("fri-mon 08:00-09:00", "2026-11-24T10:00", "2026-11-27T08:00"),
        ("SAT 08:00-09:00", "2026-11-21T10:00", "2026-11-28T08:00"),
        ("mon 00:00-00:00", "2026-11-23T12:00", "2026-11-23T12:00"),
    ],
)
def test_hours_tell_when_jobs_may_start(text: str, now: str, opens: str) -> None:
    assert hours.parse(text).next_open(local_ms(now), BERLIN) == local_ms(opens)


def test_hours_follow_the_wall_clock_when_it_is_changed() -> None:
    # On 2026-10-25 at 03:00 clocks go back to 02:00: 18:00 is 25 hours after 18:00.
    night = hours.parse("18:00-19:00")
    after = local_ms("2026-10-24T19:00")
    assert night.next_open(after, BERLIN) - after == 24 * 3600 * 1000


@pytest.mark.parametrize(
    "text",
    ["mon-", "moo", "mon-moo", "25:00-26:00", "10:61-11:00", "24:00-06:00", "mon,,tue", "always"],
)
def test_text_that_names_no_hours_is_refused(text: str) -> None:
    with pytest.raises(hours.HoursError, match="“"):
        hours.parse(text)


@given(st.integers(0, 2**42), st.sampled_from(["mon-fri 18:00-06:00", "sun", "08:00-17:00"]))
def test_the_next_opening_is_open(now_ms: int, text: str) -> None:
    found = hours.parse(text)
    opens = found.next_open(now_ms, BERLIN)
    assert now_ms <= opens < now_ms + 9 * 86_400_000
    assert found.next_open(opens, BERLIN) == opens


INPUTS = (("1.2.3", "aa"), ("1.2.4", "bb"))
PARTS = KeyParts(
    pipeline="lung", version="1.0.0", settings={"b": 1, "a": 2.5}, weights={}, inputs=INPUTS
)


def test_a_key_knows_no_order_of_its_inputs() -> None:
    turned = keys.job_key("lung", "1.0.0", {"a": 2.5, "b": 1}, {}, 0, reversed(INPUTS))
    assert turned == PARTS.key()
    assert len(turned) == 64
    assert int(turned, 16)


def test_a_key_does_not_change_between_releases() -> None:
    canonical = (
        b'{"inputs":[["1.2","ab"]],"pipeline":"p","run":0,"settings":{"k":1},'
        b'"version":"1","weights":{}}'
    )
    key = keys.job_key("p", "1", {"k": 1}, {}, 0, [("1.2", "ab")])
    assert key == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        ("lung2", "1.0.0", {}, {}, 0, INPUTS),
        ("lung", "1.0.1", {}, {}, 0, INPUTS),
        ("lung", "1.0.0", {"a": 1}, {}, 0, INPUTS),
        ("lung", "1.0.0", {}, {"net": "cc"}, 0, INPUTS),
        ("lung", "1.0.0", {}, {}, 1, INPUTS),
        ("lung", "1.0.0", {}, {}, 0, INPUTS[:1]),
        ("lung", "1.0.0", {}, {}, 0, (("1.2.3", "aa"), ("1.2.4", "cc"))),
    ],
)
def test_each_part_changes_the_key(other: tuple[object, ...]) -> None:
    assert keys.job_key(*other) != keys.job_key("lung", "1.0.0", {}, {}, 0, INPUTS)  # type: ignore[arg-type]


def test_inputs_have_a_digest_of_their_own() -> None:
    assert keys.inputs_digest(INPUTS) == keys.inputs_digest(reversed(INPUTS))
    assert keys.inputs_digest(INPUTS) != keys.inputs_digest(INPUTS[:1])


def test_a_line_is_one_pipeline_in_one_mode_over_one_study_or_series() -> None:
    assert keys.line("1.2", "lung", Mode.LIVE) == "1.2|lung|live"
    assert keys.line("1.2", "lung", "shadow", "1.3") == "1.2|lung|shadow|1.3"


def test_a_line_fits_its_column() -> None:
    assert len(keys.line("1" * 64, "p" * 64, Mode.SHADOW, "2" * 64)) <= 300


def test_peers_that_get_the_same_share_one_form() -> None:
    both = FormParts(presents=("sr", "seg"), sr_class="3d", predecessors=("1.2", "1.1"))
    same = FormParts(presents=("seg", "sr", "sr"), sr_class="3d", predecessors=("1.1", "1.2"))
    assert keys.form(both) == keys.form(same)
    assert keys.form(both) != keys.form(FormParts(presents=("seg", "sr"), sr_class="2d"))


@pytest.mark.parametrize(
    ("states", "number", "known"),
    [
        ([], 0, False),
        ([JobState.DONE], 0, True),
        ([JobState.FAILED], 0, True),
        ([JobState.SUPERSEDED], 1, False),
        ([JobState.SUPERSEDED, JobState.RUNNING], 1, True),
        ([JobState.SUPERSEDED, JobState.SUPERSEDED], 2, False),
    ],
)
def test_a_superseded_key_comes_back_as_another_run(
    states: list[JobState], number: int, known: bool
) -> None:
    jobs = {PARTS.key(run): state for run, state in enumerate(states)}
    found = keys.next_run(PARTS, jobs.get)
    assert (found.number, found.known, found.key) == (number, known, PARTS.key(number))


def test_reprocessing_starts_behind_the_run_that_stands() -> None:
    assert keys.next_run(PARTS, {PARTS.key(): JobState.DONE}.get, first=1).number == 1


URGENT, NORMAL, LATER = Priority.URGENT, Priority.NORMAL, Priority.LATER


@pytest.mark.parametrize(
    ("pipeline", "called", "study", "wanted"),
    [
        (None, None, None, NORMAL),
        (LATER, None, None, LATER),
        (LATER, None, NORMAL, LATER),
        (LATER, URGENT, None, URGENT),
        (URGENT, LATER, None, LATER),
        (LATER, None, URGENT, URGENT),
    ],
)
def test_a_new_jobs_priority(
    pipeline: Priority | None, called: Priority | None, study: Priority | None, wanted: Priority
) -> None:
    assert priorities.of_job(pipeline, called, study) is wanted


@pytest.mark.parametrize(
    ("urgency", "wanted"),
    [
        (Urgency.HIGHLY_SIGNIFICANT, URGENT),
        (Urgency.SIGNIFICANT, NORMAL),
        (Urgency.NOT_SIGNIFICANT, None),
        (None, None),
    ],
)
def test_only_a_significant_finding_raises_its_study(
    urgency: Urgency | None, wanted: Priority | None
) -> None:
    assert priorities.after_finding(urgency) is wanted


def test_a_rank_is_a_priority() -> None:
    assert [priorities.of_rank(rank) for rank in range(3)] == [URGENT, NORMAL, LATER]


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (0x0000, Answer.STORED, None),
        (0xB000, Answer.STORED, "delivery.B000"),
        (0xB006, Answer.STORED, "delivery.B000"),
        (0xB007, Answer.STORED, "delivery.B000"),
        (0xB123, Answer.STORED, "delivery.B000"),
        (0x0107, Answer.STORED, "delivery.B000"),
        (0x0111, Answer.LOOK, "delivery.0111"),
        (0xA700, Answer.AGAIN, "delivery.A700"),
        (0xA7FF, Answer.AGAIN, "delivery.A700"),
        (0x0213, Answer.AGAIN, "delivery.A700"),
        (0xA900, Answer.REFUSED, "delivery.A900"),
        (0xC123, Answer.REFUSED, "delivery.C000"),
        (0x0122, Answer.REFUSED, "delivery.0122"),
        (0x0124, Answer.REFUSED, "delivery.refused_final"),
        (0x0110, Answer.AGAIN, "delivery.refused_other"),
        (0xFFFF, Answer.AGAIN, "delivery.refused_other"),
        (None, Answer.AGAIN, "delivery.no_answer"),
    ],
)
def test_what_a_status_means(status: int | None, answer: Answer, code: str | None) -> None:
    found = store_answer(status, peer="pacs", sop_class="Segmentation Storage", limit_s=60)
    assert found.answer is answer
    assert (found.reason and found.reason.code) == code
    assert found.is_stored is (answer is Answer.STORED)
    assert found.words
    assert found.status == ("" if status is None else f"{status:04X}")


@given(st.integers(0, 0xFFFF))
def test_every_status_has_words(status: int) -> None:
    assert status_words(status)
    reason = store_answer(status, peer="pacs", sop_class="x").reason
    assert reason is None or sentence(reason).startswith("pacs ")


def test_a_retry_by_the_node_follows_the_status() -> None:
    refused = store_answer(0x0124, peer="pacs", sop_class="x").reason
    again = store_answer(0x0110, peer="pacs", sop_class="x").reason
    assert refused is not None
    assert again is not None
    assert isinstance(next_delivery_try(1, refused, NOW), GiveUp)
    assert isinstance(next_delivery_try(1, again, NOW), Retry)


@pytest.mark.parametrize("kind", MOVES)
def test_the_table_of_moves_knows_every_state(kind: type) -> None:
    assert set(MOVES[kind]) == set(kind)


def test_moves_and_their_sources_agree() -> None:
    for table in MOVES.values():
        for old in table:
            for new in table:
                assert may_move(old, new) is (old in sources_of(new))


def test_hours_need_no_local_zone() -> None:
    assert hours.parse("00:00-24:00").next_open(NOW, UTC) == NOW

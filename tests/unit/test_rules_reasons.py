"""The catalogue of sentences: complete, without braces, in the right forms."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.rules import sentences
from dicomnode.rules.catalogue import CATALOGUE, ORDER, Group
from dicomnode.rules.catalogue.arrivals import ARRIVALS
from dicomnode.rules.catalogue.deliveries import DELIVERIES
from dicomnode.rules.catalogue.events import EVENTS
from dicomnode.rules.catalogue.jobs import JOBS
from dicomnode.rules.catalogue.nodes import NODES
from dicomnode.rules.catalogue.studies import STUDIES
from dicomnode.rules.reasons import Reason, by_itself, entry_of, sentence, worst

SOURCE = Path(__file__).resolve().parents[2] / "dicomnode"
NOW = 1_795_254_126_000  # 2026-11-21 09:42:06 UTC

SUBJECTS = "study|job|declined|failed|delivery|commitment|association|quarantine|node"
# Numbers that a row keeps for lists and plots, though not each sentence says them.
MAY_GO_UNSAID = {"n", "by", "status", "status_words"}

CODE = re.compile(rf"^({SUBJECTS}|notification|peer|pipeline|model|user)\.[a-z0-9_A-Z]+$")


def names(code: str) -> set[str]:
    entry = CATALOGUE[code]
    return set().union(*map(sentences.parameter_names, (*entry.sentences, entry.by_itself)))


def value_for(name: str) -> str | int | float:
    if name == "at" or name.endswith("_at"):
        return NOW - 14_000
    if name.endswith(("_s", "_bytes")):
        return 125
    return 2 if len(name) == 1 else f"<{name}>"


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_is_a_sentence_without_any_parameter(code: str) -> None:
    for now_ms in (None, NOW):
        text = sentence(Reason(code), now_ms) + by_itself(Reason(code), now_ms)
        assert not set("{}[]") & set(text)
        assert "  " not in text
        assert " ." not in text
    assert sentence(Reason(code)).endswith(".") or code == "declined.pipeline"


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_is_a_sentence_with_all_parameters(code: str) -> None:
    reason = Reason(code, {name: value_for(name) for name in names(code)})
    text = sentence(reason, NOW)
    assert not set("{}[]") & set(text + by_itself(reason, NOW))
    assert text[0].isupper() or text[0] in "<0123456789"
    assert "that is not known" not in text


@given(
    st.sampled_from(sorted(CATALOGUE)),
    st.dictionaries(
        st.sampled_from(sorted(set().union(*map(names, CATALOGUE)))),
        st.none() | st.text() | st.integers() | st.floats() | st.booleans(),
    ),
    st.none() | st.integers(min_value=0, max_value=2**45),
)
def test_no_parameter_of_any_kind_leaves_a_brace_or_a_new_line(
    code: str, parameters: dict[str, str | int | float | None], now_ms: int | None
) -> None:
    reason = Reason(code, parameters)
    text = sentence(reason, now_ms) + by_itself(reason, now_ms)
    assert not set("{}\n\r\x1b") & set(text)


def test_no_code_stands_twice() -> None:
    listed = [*STUDIES, *JOBS, *DELIVERIES, *ARRIVALS, *NODES, *EVENTS]
    assert len(listed) == len(CATALOGUE)
    assert set(ORDER) == set(Group)


def test_every_failure_has_short_words() -> None:
    assert [
        c for c, entry in CATALOGUE.items() if c.startswith("failed.") and not entry.short
    ] == []


def python_files() -> Iterator[Path]:
    yield from sorted(SOURCE.rglob("*.py"))


def test_every_code_in_the_source_stands_in_the_catalogue() -> None:
    unknown = [
        f"{path.relative_to(SOURCE)}: {node.value}"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if CODE.match(node.value) and node.value not in CATALOGUE
        if not node.value.endswith(".py")
    ]
    assert unknown == []


def test_every_reason_in_the_source_gives_parameters_that_its_sentence_has() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{call.lineno} {code} has no {name}"
        for path in python_files()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id == "Reason" and len(call.args) == 2
        for code in [getattr(call.args[0], "value", None)]
        if code in CATALOGUE and isinstance(call.args[1], ast.Dict)
        for key in call.args[1].keys
        for name in [getattr(key, "value", None)]
        if isinstance(name, str) and name not in names(code) | MAY_GO_UNSAID
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            Reason(
                "study.waiting_quiet", {"n": 1, "last_at": NOW - 14_999, "until_at": NOW + 16_000}
            ),
            "Waiting for more images: 1 image so far, the last 14 s ago; analysis starts at "
            "10:42:22 if none comes.",
        ),
        (
            Reason(
                "study.waiting_count",
                {"missing": 24, "expected": 412, "peer": "PACS", "until_at": NOW + 474_000},
            ),
            "Waiting for 24 of 412 images that PACS says it has; starts without them at 10:50:00.",
        ),
        (
            Reason(
                "study.no_route",
                {"pipeline": "lung", "keyword": "Modality", "wanted": "CT", "found": "MR"},
            ),
            "No pipeline wants this study; the nearest is lung, which wants Modality CT and "
            "found MR.",
        ),
        (
            Reason(
                "study.no_route",
                {"pipeline": "lung", "keyword": "StationName", "wanted": "A", "found": "B"},
            ),
            "No pipeline wants this study; the nearest is lung, which wants StationName A and "
            "found another value.",
        ),
        (
            Reason("study.no_route", {"pipeline": "lung", "why": "switched off"}),
            "No pipeline wants this study; the nearest is lung, which is switched off.",
        ),
        (Reason("study.no_route"), "No pipeline wants this study: none is switched on."),
        (
            Reason("job.queued", {"ahead": 1, "wait_s": 200}),
            "Waiting for a free worker: 1 job is ahead, about 3 min 20 s.",
        ),
        (
            Reason("job.retry_later", {"n": 1, "max": 3, "reason": "failed.memory"}),
            "Try 1 of 3 failed (memory).",
        ),
        (
            Reason("job.retry_later", {"n": 1, "max": 3, "reason": "delivery.peer_down"}),
            "Try 1 of 3 failed (peer down).",
        ),
        (
            Reason("job.done", {"n": 2, "m": 1, "duration_s": 4.12}),
            "Done in 4.1 s: 2 findings, 1 segment.",
        ),
        (
            Reason("declined.gap", {"n": 1, "z": -12.5, "series": 2}),
            "Not analysed: 1 slice is missing near z = -12.5 mm in series 2.",
        ),
        (
            Reason("delivery.confirmed", {"peer": "PACS", "n": 2, "at": NOW - 3000}),
            "PACS confirmed at 10:42:03 that it keeps all 2 objects.",
        ),
        (
            Reason("node.disk_full", {"free_bytes": 3_140_000}),
            "New images are refused (A700): only 3.1 MB are free. Nothing acknowledged is lost.",
        ),
        (Reason("never.heard_of"), "This program has no words for never.heard_of."),
    ],
)
def test_sentences_read_as_meant(reason: Reason, text: str) -> None:
    assert sentence(reason, NOW, ZoneInfo("Europe/Berlin")) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (14.9, "14 s"), (60, "1 min"), (3 * 3600, "3 h"), (9.5 * 86400, "9 d")],
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert sentences.age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (4, "4 s"),
        (4.16, "4.2 s"),
        (9.96, "10 s"),
        (59.9, "1 min"),
        (125, "2 min 5 s"),
        (1800, "30 min"),
        (11400, "3 h 10 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert sentences.duration(seconds) == text


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (-1, "0 B"),
        (999, "999 B"),
        (24_000, "24 kB"),
        (3_140_000, "3.1 MB"),
        (412e9, "412 GB"),
        (999.9e6, "1.0 GB"),
        (2.5e12, "2.5 TB"),
        (3e15, "3.0 PB"),
    ],
)
def test_sizes_count_by_thousands(byte_count: float, text: str) -> None:
    assert sentences.size(byte_count) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1284, "image", "1,284 images"),
        (2, "delivery", "2 deliveries"),
        (1, "series", "1 series"),
        (3, "series", "3 series"),
        (2, "try", "2 tries"),
    ],
)
def test_counted_nouns_have_both_forms(number: int, noun: str, text: str) -> None:
    assert sentences.counted(number, noun) == text


@pytest.mark.parametrize(
    ("moment_ms", "now_ms", "text"),
    [
        (NOW, NOW + 1000, "10:42:06"),
        (NOW, NOW + 86_400_000, "21 Nov 10:42"),
        (NOW, NOW + 90 * 86_400_000, "21 Nov 2026 10:42"),
        (NOW, None, "2026-11-21 10:42:06 CET"),
        (10**30, NOW, "a time that is not known"),
    ],
)
def test_clock_times_are_the_readers(moment_ms: int, now_ms: int | None, text: str) -> None:
    assert sentences.clock_time(moment_ms, now_ms, ZoneInfo("Europe/Berlin")) == text


def test_the_worst_of_a_study_comes_first_with_the_number_of_others() -> None:
    codes = ["job.done", "study.no_route", "declined.gap", "job.running", "job.queued"]
    reasons = [*map(Reason, codes), Reason("delivery.peer_down"), Reason("failed.gate")]
    for left in range(len(reasons), 0, -1):
        found, others = worst(reasons[:left])
        assert (found, others) == (reasons[left - 1], left - 1)


def test_among_equally_bad_reasons_the_first_stands() -> None:
    assert worst([Reason("failed.gate"), Reason("failed.error")])[0].code == "failed.gate"


def test_there_is_no_worst_of_nothing() -> None:
    with pytest.raises(ValueError, match="no reasons"):
        worst([])


def test_a_reason_is_a_value_that_goes_through_json() -> None:
    reason = Reason("study.waiting_quiet", {"n": 3})
    row = json.loads(json.dumps(reason.to_data()))
    assert Reason.of_row(row["code"], row["parameters"]) == reason
    assert Reason.of_row(None, None) is None
    assert Reason.of_row("job.done", None) == Reason("job.done")
    assert len({reason, Reason("study.waiting_quiet", {"n": 3}), Reason("job.done")}) == 2


def test_a_reason_keeps_parameters_of_its_own() -> None:
    given_parameters: dict[str, str | int | float | None] = {"n": 1}
    reason = Reason("study.pending", given_parameters)
    given_parameters["n"] = 2
    assert reason.parameters == {"n": 1}


def test_an_unknown_code_needs_attention() -> None:
    assert entry_of(Reason("never.heard_of")).group is Group.ATTENTION


def test_foreign_text_is_cut_and_loses_what_could_forge_a_line() -> None:
    text = sentence(Reason("declined.pipeline", {"text": "a\n\u202eb{c}\u2028" + "x" * 400}))
    assert text.startswith("Not analysed: a  b(c) xxx")
    assert text.endswith("x…")
    assert len(text) < 300


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            Reason("study.waiting_quiet", {"n": "many", "last_at": "soon", "until_at": "noon"}),
            "Waiting for more images: some images so far.",
        ),
        (
            Reason("failed.time_limit", {"limit_s": float("nan")}),
            "Failed: stopped after some time.",
        ),
        (
            Reason("node.disk_low", {"free_bytes": True}),
            "Free space is low: an amount that is not known.",
        ),
        (Reason("quarantine.bad_uid", {"keyword": ""}), "An attribute is no usable UID."),
        (
            Reason("quarantine.unreadable", {"offset": float("inf")}),
            "Not readable as DICOM.",
        ),
    ],
)
def test_a_parameter_of_a_wrong_kind_becomes_words(reason: Reason, text: str) -> None:
    assert sentence(reason, NOW) == text

"""Which pipelines want a study, on which series, and the words where none does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.rules import hours, selection
from dicomnode.rules.keys import inputs_digest, job_key
from dicomnode.rules.matching import (
    evaluate,
    match_from_data,
    match_to_data,
    select_from_data,
    select_to_data,
)
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.routing import (
    CalledUse,
    Moment,
    NoRoute,
    PipelineRule,
    PlannedJob,
    RouteDecision,
    SameAgain,
    StudyToRoute,
    Waiting,
    decide,
)
from dicomnode.rules.selection import InstanceFacts, SeriesFacts
from dicomnode.rules.states import JobState, Mode, Priority, Role
from dicomnode.sdk.match import (
    Match,
    MatchError,
    Preference,
    Select,
    most_slices,
    soft_kernel,
    thinnest_slices,
)

NOON = round(datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp() * 1000)
MOMENT = Moment(now_ms=NOON)

LUNG = PipelineRule(
    name="lung-nodule",
    version="1.0.0",
    match=Match(
        modality="CT", body_part=["CHEST", "THORAX", None], image_type={"not": "LOCALIZER"}
    ),
    select=Select(
        prefer=(thinnest_slices(), soft_kernel(), most_slices()),
        minimum_slices=40,
        maximum_spacing_mm=3.0,
    ),
)
TRIAGE = PipelineRule(
    name="chest-triage",
    version="1.0.0",
    match=Match(modality=["CT", "CR", "DX"]),
    takes="either",
)


def series(number: int, slices: int = 100, modality: str = "CT", **given: Any) -> SeriesFacts:
    instances = tuple(
        InstanceFacts(number * 1000 + n, f"1.{number}.{n}", f"d{n}") for n in range(min(slices, 3))
    )
    attributes = {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"), **given.pop("attributes", {})}
    facts: dict[str, Any] = {
        "id": number,
        "series_instance_uid": f"1.{number}",
        "modality": modality,
        "instances": instances,
        "attributes": attributes,
        "slice_count": slices,
        "spacing_mm": 1.0,
    }
    return SeriesFacts(**{**facts, **given})


def study(*all_series: SeriesFacts, **given: Any) -> StudyToRoute:
    return StudyToRoute(
        study_instance_uid="1.2", series=all_series, completed_at=NOON - 60_000, **given
    )


def route(
    *all_series: SeriesFacts, rule: PipelineRule = LUNG, use: CalledUse | None = None, **given: Any
) -> RouteDecision:
    found = decide(study(*all_series, **given), [rule], use or CalledUse(), MOMENT)
    assert len(found) == 1
    return found[0]


def planned(*all_series: SeriesFacts, **given: Any) -> PlannedJob:
    found = route(*all_series, **given)
    assert isinstance(found, PlannedJob)
    return found


def refused(*all_series: SeriesFacts, **given: Any) -> NoRoute:
    found = route(*all_series, **given)
    assert isinstance(found, NoRoute)
    return found


@pytest.mark.parametrize(
    ("wanted", "values", "ok", "words"),
    [
        ("ct", ["CT"], True, "ct"),
        ("CT", ["MR"], False, "CT"),
        ("CT", [" "], False, "CT"),
        (2, ["2"], True, "2"),
        (None, [], True, "nothing"),
        (None, ["", " "], True, "nothing"),
        (None, ["CT"], False, "nothing"),
        ({"absent": True}, [], True, "nothing"),
        (["CT"], ["CT"], True, "CT"),
        (["CHEST", "THORAX", None], ["thorax"], True, "CHEST, THORAX or nothing"),
        (["CHEST", None], [], True, "CHEST or nothing"),
        (["CHEST", None], ["HEAD"], False, "CHEST or nothing"),
        ("AXIAL", ["ORIGINAL", "PRIMARY", "AXIAL"], True, "AXIAL"),
        ({"not": "LOCALIZER"}, ["ORIGINAL", "LOCALIZER"], False, "not LOCALIZER"),
        ({"not": "LOCALIZER"}, ["ORIGINAL", "AXIAL"], True, "not LOCALIZER"),
        ({"not": "LOCALIZER"}, [], True, "not LOCALIZER"),
        ({"not": ["MR", "CT"]}, ["CT"], False, "none of MR, CT"),
        ({"not": ["MR", "CT"]}, ["US"], True, "none of MR, CT"),
        ({"not": None}, [], False, "any value"),
        ({"not": {"not": "CT"}}, ["CT"], True, "not not CT"),
        ({"regex": "^chest"}, ["CHEST CT"], True, "text like “^chest”"),
        ({"regex": "lung"}, ["Abdomen", "thin LUNG"], True, "text like “lung”"),
        ({"regex": "lung"}, [], False, "text like “lung”"),
        ({"min": 1}, ["0.5", "1.0"], True, "at least 1"),
        ({"max": 3}, ["3.01"], False, "at most 3"),
        ({"min": 1, "max": 3}, ["2"], True, "1 to 3"),
        ({"min": None}, ["2"], True, "any number"),
        ({"min": 1}, ["thick"], False, "at least 1"),
        ({"min": 16}, ["016Y"], True, "at least 16"),
        ({"min": 16}, ["015Y"], False, "at least 16"),
        ({"min": 16}, ["191M"], False, "at least 16"),
        ({"min": 16}, ["192M"], True, "at least 16"),
        ({"max": 1}, ["052W"], True, "at most 1"),
        ({"max": 1}, ["400D"], False, "at most 1"),
        ({"min": 16}, ["16 years"], False, "at least 16"),
    ],
)
def test_the_grammar_of_conditions(wanted: Any, values: list[str], ok: bool, words: str) -> None:
    tried = evaluate(Match(Modality=wanted), {"Modality": values})
    assert [(found.keyword, found.wanted, found.ok) for found in tried] == [("Modality", words, ok)]


@pytest.mark.parametrize(
    ("keyword", "values", "found"),
    [
        ("Modality", ["CT"], "CT"),
        ("ImageType", ["A", "B"], "A, B"),
        ("Modality", [], "nothing"),
        ("PatientName", ["Test"], "another value"),
        ("Modality", ["x" * 500], "x" * 119 + "…"),
    ],
)
def test_the_trace_says_what_was_found(keyword: str, values: list[str], found: str) -> None:
    [tried] = evaluate(Match(**{keyword: "CT"}), {keyword: values})
    assert tried.found == found
    assert json.loads(json.dumps(tried.to_data()))["found"] == found


def test_short_names_stand_for_keywords() -> None:
    [tried] = evaluate(Match(peer="CT2"), {"CallingAETitle": ["CT2"]})
    assert (tried.keyword, tried.ok) == ("CallingAETitle", True)


def test_match_and_select_travel_as_json() -> None:
    assert match_from_data(json.loads(json.dumps(match_to_data(LUNG.match)))) == LUNG.match
    full = replace(LUNG.select, require=(Match(modality="MR"),), deadline_s=60, at_deadline="go")
    for select in (Select(), full):
        assert select_from_data(json.loads(json.dumps(select_to_data(select)))) == select


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans(),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3) | st.builds(lambda c: {"not": c}, inner)
        ),
        max_leaves=8,
    ),
    st.lists(st.text(), max_size=3),
)
def test_any_condition_survives_json_and_can_be_asked(wanted: Any, values: list[str]) -> None:
    match = Match(Modality=wanted)
    again = match_from_data(json.loads(json.dumps(match_to_data(match))))
    assert again == match
    assert evaluate(again, {"Modality": values}) == evaluate(match, {"Modality": values})


def test_data_that_is_no_match_is_refused() -> None:
    with pytest.raises(MatchError):
        match_from_data({"modality": []})


def test_the_thinnest_series_within_the_limits_is_chosen() -> None:
    job = planned(series(1, spacing_mm=2.0), series(2, spacing_mm=1.0), series(3, spacing_mm=5.0))
    assert [chosen.id for chosen in job.series] == [2]
    assert (job.state, job.due_at, job.reason) == (JobState.QUEUED, NOON, None)
    assert job.instance_ids == (2000, 2001, 2002)
    assert job.line == "1.2|lung-nodule|live"
    assert job.key_parts.key() == job_key(
        "lung-nodule", "1.0.0", {}, {}, 0, [i.input for i in job.series[0].instances]
    )
    assert [(t.keyword, t.ok) for t in job.trace] == [
        ("Modality", True),
        ("BodyPartExamined", True),
        ("ImageType", True),
        ("slices", True),
        ("spacing", True),
    ]


def test_a_series_within_the_limits_goes_before_a_better_one_outside() -> None:
    job = planned(series(1, slices=20, spacing_mm=0.5), series(2, spacing_mm=2.5))
    assert job.series[0].id == 2
    assert job.state is JobState.QUEUED


def test_where_no_series_is_within_the_limits_the_best_is_declined() -> None:
    job = planned(series(1, slices=20), series(2, slices=30))
    assert job.state is JobState.DECLINED
    assert job.reason is not None
    assert sentence(job.reason) == (
        "Not analysed: the best series has 30 slices, lung-nodule needs 40."
    )


def test_a_spacing_over_the_limit_is_declined_with_both_figures() -> None:
    job = planned(series(1, spacing_mm=5.0))
    assert job.reason is not None
    assert sentence(job.reason) == (
        "Not analysed: spacing is 5 mm, lung-nodule takes at most 3 mm."
    )
    assert not job.trace[-1].ok


def test_an_unknown_spacing_is_left_to_the_loader() -> None:
    job = planned(series(1, spacing_mm=None))
    assert job.state is JobState.QUEUED
    assert job.trace[-1].found == "not known"


def test_limits_do_not_speak_of_radiographs() -> None:
    rule = replace(TRIAGE, select=Select(minimum_slices=40, maximum_spacing_mm=3.0))
    job = planned(series(1, slices=1, modality="DX", spacing_mm=None), rule=rule)
    assert job.state is JobState.QUEUED
    assert [tried.keyword for tried in job.trace] == ["Modality", "ImageType"]


def test_limits_that_are_not_set_leave_no_trace() -> None:
    rule = replace(LUNG, select=Select())
    assert [tried.keyword for tried in planned(series(1), rule=rule).trace][-1] == "ImageType"


@pytest.mark.parametrize(
    ("kernel", "rank"),
    [
        ("STANDARD", 0),
        ("B31f", 0),
        ("Br36d\\3", 0),
        ("B", 0),
        ("BONE", 2),
        ("B70f", 2),
        ("", 1),
    ],
)
def test_soft_kernels_come_first_and_unknown_ones_before_hard_ones(kernel: str, rank: int) -> None:
    key = selection.order_key(Select(prefer=(soft_kernel(),)), series(1, kernel=kernel))
    assert key[0] == (rank, 0.0)


def test_order_is_by_preference_then_by_size_then_by_uid() -> None:
    select = Select(prefer=(thinnest_slices(), soft_kernel()))
    candidates = [
        series(1, kernel="BONE"),
        series(2, kernel="SOFT", slices=50),
        series(3, kernel="SOFT", slices=90, spacing_mm=1.001),
        series(4, spacing_mm=None),
    ]
    ordered = sorted(candidates, key=lambda one: selection.order_key(select, one))
    assert [one.id for one in ordered] == [3, 2, 1, 4]
    assert selection.choose(select, [], "lung") == []


def test_a_preference_for_most_slices_is_one_for_least_reversed() -> None:
    few, many = series(1, slices=50), series(2, slices=90)
    for prefer, best in ((most_slices(), many), (Preference("slices"), few)):
        key = Select(prefer=(prefer,))
        assert min(few, many, key=lambda one: selection.order_key(key, one)) is best


def test_each_series_is_a_job_with_a_line_of_its_own() -> None:
    rule = replace(TRIAGE, select=Select(one_series=False))
    found = decide(study(series(1), series(2, modality="DX")), [rule], CalledUse(), MOMENT)
    assert [d.line for d in found if isinstance(d, PlannedJob)] == [
        "1.2|chest-triage|live|1.1",
        "1.2|chest-triage|live|1.2",
    ]


def test_another_modality_is_no_route_with_its_reason() -> None:
    found = refused(series(1, modality="MR"))
    assert sentence(found.reason) == (
        "No pipeline wants this study; the nearest is lung-nodule, which wants Modality CT and "
        "found MR."
    )
    assert [tried.ok for tried in found.trace] == [False, True, True]


def test_the_nearest_pipeline_is_told_first() -> None:
    far = replace(LUNG, name="a", match=Match(modality="CT", body_part="CHEST"))
    near = replace(LUNG, name="b", match=Match(modality="CT"))
    off = replace(LUNG, name="0", enabled=False)
    found = decide(study(series(1, modality="MR")), [off, far, near], CalledUse(), MOMENT)
    assert [decision.rule.name for decision in found] == ["b", "a", "0"]


def test_wanted_pipelines_come_before_unwanted_ones() -> None:
    off = replace(LUNG, name="0", enabled=False)
    found = decide(study(series(1)), [off, LUNG], CalledUse(), MOMENT)
    assert [type(decision) for decision in found] == [PlannedJob, NoRoute]


@pytest.mark.parametrize(
    ("given", "use", "words"),
    [
        ({"enabled": False}, CalledUse(), "which is switched off."),
        ({}, CalledUse(pipelines=("organs",)), "which is not asked for by the AE title"),
        ({"broken": "ImportError"}, CalledUse(), "lung-nodule cannot be loaded: ImportError."),
    ],
)
def test_a_pipeline_that_is_off_says_why(given: dict[str, Any], use: CalledUse, words: str) -> None:
    assert words in sentence(refused(series(1), rule=replace(LUNG, **given), use=use).reason)


def test_a_called_ae_title_may_name_its_pipelines() -> None:
    assert planned(series(1), use=CalledUse(pipelines=("lung-nodule",)))


@pytest.mark.parametrize(
    "given", [{"role": Role.OWN}, {"role": Role.PRIOR}, {"has_images": False}, {"instances": ()}]
)
def test_what_holds_no_images_of_others_is_never_an_input(given: dict[str, Any]) -> None:
    found = refused(series(1, **given))
    assert found.reason == Reason("study.no_series")
    assert found.trace == ()


LOCALIZER = {"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}


def test_a_localizer_is_no_volume_unless_the_rules_speak_of_it() -> None:
    scout = series(1, attributes=LOCALIZER)
    found = refused(scout, rule=TRIAGE)
    assert found.reason.parameters["keyword"] == "ImageType"
    wants = replace(TRIAGE, match=Match(ImageType="LOCALIZER"))
    assert planned(scout, rule=wants)
    assert planned(scout, rule=replace(TRIAGE, takes="images"))


def test_the_toml_replaces_a_key_of_the_match() -> None:
    rule = replace(LUNG, override={"modality": "MR"})
    assert planned(series(1, modality="MR"), rule=rule)
    assert refused(series(1), rule=rule)


def test_facts_that_a_pipeline_found_can_be_asked_for() -> None:
    rule = replace(LUNG, match=Match(region="chest"))
    assert planned(series(1, facts={"region": "chest"}), rule=rule)
    assert refused(series(1), rule=rule)


@pytest.mark.parametrize(
    ("rule", "use", "mode"),
    [
        (Mode.LIVE, Mode.LIVE, Mode.LIVE),
        (Mode.SHADOW, Mode.LIVE, Mode.SHADOW),
        (Mode.LIVE, Mode.SHADOW, Mode.SHADOW),
    ],
)
def test_shadow_on_either_side_delivers_nothing(rule: Mode, use: Mode, mode: Mode) -> None:
    job = planned(series(1), rule=replace(LUNG, mode=rule), use=CalledUse(mode=use))
    assert job.mode is mode
    assert job.line.endswith(mode)


NIGHT = hours.parse("18:00-06:00")


def test_a_job_outside_of_its_hours_is_held_until_they_begin() -> None:
    job = planned(series(1), rule=replace(LUNG, hours=NIGHT))
    assert job.state is JobState.HELD
    assert job.due_at == NOON + 6 * 3600 * 1000
    assert job.reason == Reason(
        "job.outside_hours", {"pipeline": "lung-nodule", "until_at": job.due_at}
    )


def test_urgent_work_waits_for_no_hours() -> None:
    rule = replace(LUNG, hours=NIGHT, priority=Priority.LATER)
    job = planned(series(1), rule=rule, priority=Priority.URGENT)
    assert (job.state, job.due_at, job.priority) == (JobState.QUEUED, NOON, Priority.URGENT)


def test_a_suspended_pipeline_gets_its_job_and_says_who_suspended_it() -> None:
    rule = replace(LUNG, suspended=True, suspended_at=NOON - 1000, suspended_by="anna")
    job = planned(series(1), rule=rule)
    assert job.state is JobState.QUEUED
    assert job.reason is not None
    assert sentence(job.reason, NOON) == (
        "lung-nodule is suspended since 11:59:59 by anna; the job waits."
    )


def test_the_same_inputs_of_a_line_are_not_analysed_again_by_a_newer_version() -> None:
    first = planned(series(1))
    digest = inputs_digest(first.key_parts.inputs)
    again = route(series(1), rule=replace(LUNG, version="2.0.0"), analysed={first.line: digest})
    assert isinstance(again, SameAgain)
    assert again.reason == Reason("study.same_again")
    assert planned(series(1), analysed={first.line: "another"})


T1, T2 = Match(series_description={"regex": "t1"}), Match(series_description={"regex": "t2"})
BRAIN = PipelineRule(
    name="brain",
    version="1.0.0",
    match=Match(modality="MR"),
    takes="volumes",
    select=Select(require=(T1, T2), deadline_s=1800, prefer=(most_slices(),)),
)


def mr(number: int, description: str, slices: int = 100) -> SeriesFacts:
    return series(
        number, slices, "MR", attributes={"SeriesDescription": (description,)}, spacing_mm=4.0
    )


def test_several_series_become_one_job_in_the_order_of_the_requirements() -> None:
    job = planned(mr(1, "t2"), mr(2, "t1 small", 50), mr(3, "t1"), rule=BRAIN)
    assert [chosen.id for chosen in job.series] == [3, 1]
    assert job.line == "1.2|brain|live"
    assert job.instance_ids == (3000, 3001, 3002, 1000, 1001, 1002)


def test_no_series_fills_two_places() -> None:
    job = planned(mr(1, "t1 t2"), mr(2, "t1"), rule=BRAIN)
    assert [chosen.id for chosen in job.series] == [2, 1]


def test_a_missing_series_is_waited_for_until_its_deadline() -> None:
    found = route(mr(1, "t1"), rule=BRAIN)
    assert isinstance(found, Waiting)
    assert found.due_at == NOON - 60_000 + 1_800_000
    assert sentence(found.reason, NOON) == (
        "brain waits for the series it needs (series_description text like “t2”); 1 series is "
        "here; deadline 12:29:00."
    )


def test_without_any_of_the_required_series_there_is_no_route() -> None:
    found = refused(mr(1, "flair"), rule=BRAIN)
    assert found.reason.parameters["keyword"] == "SeriesDescription"


@pytest.mark.parametrize("given", [{"by_hand": True}, {"completed_at": NOON - 1_800_000}])
@pytest.mark.parametrize(
    ("at_deadline", "state", "code"),
    [("decline", JobState.DECLINED, "declined.series_missing"), ("go", JobState.QUEUED, None)],
)
def test_the_deadline_or_a_hand_ends_the_wait(
    given: dict[str, Any], at_deadline: str, state: JobState, code: str | None
) -> None:
    rule = replace(BRAIN, select=replace(BRAIN.select, at_deadline=at_deadline))
    late = replace(study(mr(1, "t1")), **given)
    [job] = decide(late, [rule], CalledUse(), MOMENT)
    assert isinstance(job, PlannedJob)
    assert job.state is state
    assert (job.reason and job.reason.code) == code


def test_limits_hold_for_each_required_series() -> None:
    rule = replace(BRAIN, select=replace(BRAIN.select, maximum_spacing_mm=3.0))
    job = planned(mr(1, "t1"), mr(2, "t2"), rule=rule)
    assert job.reason is not None
    assert job.reason.code == "declined.outside_limits"


@given(st.lists(st.sets(st.integers(0, 4)), max_size=4))
def test_as_many_places_are_filled_as_can_be(accepted: list[set[int]]) -> None:
    candidates = [series(number) for number in range(5)]
    wanting = [[candidates[number] for number in place] for place in accepted]
    found = selection.assign(Select(), candidates, wanting)
    ids = [one.id for one in found if one is not None]
    assert len(ids) == len(set(ids))
    assert all(one is None or one.id in accepted[place] for place, one in enumerate(found))
    assert len(ids) == most_filled(accepted, frozenset())


def most_filled(accepted: list[set[int]], used: frozenset[int]) -> int:
    if not accepted:
        return 0
    rest = most_filled(accepted[1:], used)
    taken = [1 + most_filled(accepted[1:], used | {n}) for n in accepted[0] - used]
    return max([rest, *taken])


@given(st.permutations([series(n, slices=40 + n, spacing_mm=float(n)) for n in range(1, 5)]))
def test_the_order_in_which_series_came_changes_nothing(given_series: list[SeriesFacts]) -> None:
    assert (
        planned(*given_series).key_parts
        == planned(*sorted(given_series, key=lambda s: s.id)).key_parts
    )

"""Which pipelines want a study, on which of its series, and why not the others.

A decision over frozen values: the series that came, the installed pipelines as data with what the
TOML and an admin say about them, and the use of the AE title that was called. No pipeline's code
runs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from dicomnode.rules.hours import Hours
from dicomnode.rules.keys import KeyParts, inputs_digest, line
from dicomnode.rules.matching import (
    Tried,
    evaluate,
    match_from_data,
    match_to_data,
    select_from_data,
    select_to_data,
    wanted_words,
)
from dicomnode.rules.priorities import of_job
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.selection import (
    Chosen,
    SeriesFacts,
    assign,
    choose,
    outside_limits,
    tried_limits,
)
from dicomnode.rules.states import JobState, Mode, Priority
from dicomnode.sdk.match import Match, Select

__all__ = [
    "CalledUse",
    "Moment",
    "NoRoute",
    "PipelineRule",
    "PlannedJob",
    "RouteDecision",
    "SameAgain",
    "SeriesFacts",
    "StudyToRoute",
    "Waiting",
    "decide",
    "evaluate",
    "match_from_data",
    "match_to_data",
    "select_from_data",
    "select_to_data",
]

_AT_DEADLINE_WORDS = {"go": "goes ahead without it", "decline": "is declined"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRule:
    """One installed pipeline with what the TOML and an admin say about it.

    Parameters
    ----------
    takes
        ``volume``, ``images``, ``either`` or ``volumes``.
    override
        The ``match`` of the TOML, replacing the pipeline's own key by key.
    mode, priority
        What holds now: an admin's switch, else the TOML's value.
    broken
        The class of the error with which it could not be loaded.
    """

    name: str
    version: str
    match: Match
    select: Select = field(default_factory=Select)
    takes: str = "volume"
    settings: Mapping[str, object] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    mode: Mode = Mode.LIVE
    priority: Priority = Priority.NORMAL
    hours: Hours = field(default_factory=Hours)
    suspended: bool = False
    suspended_at: int | None = None
    suspended_by: str | None = None
    broken: str | None = None

    @property
    def rules(self) -> Match:
        """Give the match that holds.

        A pipeline that takes volumes gets no localizer unless its rules speak of the image type.
        """
        own = self.match.narrowed_by(self.override) if self.override else self.match
        keys = {key for key, _condition in own.conditions}
        if self.takes == "images" or keys & {"image_type", "ImageType"}:
            return own
        return own.narrowed_by({"image_type": {"not": "LOCALIZER"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledUse:
    """The use of the AE title that was called; without pipelines all may run."""

    pipelines: tuple[str, ...] = ()
    mode: Mode = Mode.LIVE
    priority: Priority | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyToRoute:
    """A complete study.

    ``completed_at`` starts the deadline for required series; ``by_hand`` ends it at once.
    ``analysed`` holds, by line, the `inputs_digest` of the newest job that stands there.
    """

    study_instance_uid: str
    series: tuple[SeriesFacts, ...]
    completed_at: int
    by_hand: bool = False
    priority: Priority | None = None
    analysed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the decision is made, and the zone of a pipeline's hours."""

    now_ms: int
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A job to be made: queued, held until ``due_at``, or already declined with ``reason``."""

    rule: PipelineRule
    series: tuple[SeriesFacts, ...]
    line: str
    mode: Mode
    priority: Priority
    state: JobState
    due_at: int
    reason: Reason | None
    trace: tuple[Tried, ...]

    @property
    def instance_ids(self) -> tuple[int, ...]:
        """Give the rows of the inputs, series by series."""
        return tuple(instance.id for series in self.series for instance in series.instances)

    @property
    def key_parts(self) -> KeyParts:
        """Give what the job's key is made of."""
        inputs = (instance.input for series in self.series for instance in series.instances)
        return KeyParts(
            pipeline=self.rule.name,
            version=self.rule.version,
            settings=self.rule.settings,
            weights=self.rule.weights,
            inputs=tuple(inputs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SameAgain:
    """The line analysed the same inputs before; its result stands."""

    rule: PipelineRule
    series: tuple[SeriesFacts, ...]
    line: str
    trace: tuple[Tried, ...]
    reason: Reason = field(default_factory=lambda: Reason("study.same_again"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The pipeline waits for series that it needs, until ``due_at`` at most."""

    rule: PipelineRule
    reason: Reason
    due_at: int
    trace: tuple[Tried, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoute:
    """The pipeline does not want this study; the trace is that of the series that came nearest."""

    rule: PipelineRule
    reason: Reason
    trace: tuple[Tried, ...] = ()

    @property
    def distance(self) -> tuple[int, int, str]:
        """Sort key: how far the study is from being wanted, nearest first."""
        failed = sum(not tried.ok for tried in self.trace)
        unasked = 0 if self.trace else 1
        return unasked, failed, self.rule.name


RouteDecision = PlannedJob | SameAgain | Waiting | NoRoute


def decide(
    study: StudyToRoute, rules: Sequence[PipelineRule], use: CalledUse, moment: Moment
) -> list[RouteDecision]:
    """Decide about a study and every installed pipeline.

    Returns
    -------
    One or more decisions per pipeline; the pipelines without a route come last, the nearest of
    them first: its reason is the study's where nothing else was decided.
    """
    decided = [decision for rule in rules for decision in _decide_one(study, rule, use, moment)]
    wanted = [decision for decision in decided if not isinstance(decision, NoRoute)]
    unwanted = [decision for decision in decided if isinstance(decision, NoRoute)]
    return [*wanted, *sorted(unwanted, key=lambda decision: decision.distance)]


def _decide_one(
    study: StudyToRoute, rule: PipelineRule, use: CalledUse, moment: Moment
) -> Sequence[RouteDecision]:
    why_off = _switched_off(rule, use)
    if why_off is not None:
        return [NoRoute(rule=rule, reason=why_off)]
    candidates = [series for series in study.series if series.is_candidate]
    if not candidates:
        return [NoRoute(rule=rule, reason=Reason("study.no_series"))]
    tried = {series.id: tuple(evaluate(rule.rules, series.matched_on)) for series in candidates}
    matching = [s for s in candidates if all(condition.ok for condition in tried[s.id])]
    if not matching:
        return [_not_matched(rule, list(tried.values()))]
    if rule.select.require:
        return [_decide_required(study, rule, use, moment, matching)]
    return [
        _plan(study, rule, use, moment, chosen, tried[chosen.series[0].id])
        for chosen in choose(rule.select, matching, rule.name)
    ]


def _switched_off(rule: PipelineRule, use: CalledUse) -> Reason | None:
    if rule.broken is not None:
        return Reason("pipeline.broken", {"pipeline": rule.name, "error_class": rule.broken})
    why = None
    if not rule.enabled:
        why = "switched off"
    elif use.pipelines and rule.name not in use.pipelines:
        why = "not asked for by the AE title that was called"
    return None if why is None else Reason("study.no_route", {"pipeline": rule.name, "why": why})


def _not_matched(rule: PipelineRule, tried: list[tuple[Tried, ...]]) -> NoRoute:
    nearest = _nearest(tried)
    failed = next(condition for condition in nearest if not condition.ok)
    told = {
        "pipeline": rule.name,
        "keyword": failed.keyword,
        "wanted": failed.wanted,
        "found": failed.found,
    }
    return NoRoute(rule=rule, reason=Reason("study.no_route", told), trace=nearest)


def _decide_required(
    study: StudyToRoute,
    rule: PipelineRule,
    use: CalledUse,
    moment: Moment,
    matching: Sequence[SeriesFacts],
) -> RouteDecision:
    """Decide for a pipeline that takes several series at once."""
    select = rule.select
    tried = [[tuple(evaluate(m, s.matched_on)) for s in matching] for m in select.require]
    wanting = [
        [s for s, conditions in zip(matching, row, strict=True) if all(c.ok for c in conditions)]
        for row in tried
    ]
    places = assign(select, matching, wanting)
    found = tuple(series for series in places if series is not None)
    trace = tuple(condition for row in tried for condition in _nearest(row))
    missing = [m for m, series in zip(select.require, places, strict=True) if series is None]
    if not found:
        return _not_matched(rule, [_nearest(row) for row in tried])
    due_at = study.completed_at + select.deadline_s * 1000
    if missing and moment.now_ms < due_at and not study.by_hand:
        told: dict[str, Parameter] = {
            "pipeline": rule.name,
            "wanted": _wanted(missing[0]),
            "n": len(found),
            "until_at": due_at,
            "at_deadline": _AT_DEADLINE_WORDS.get(select.at_deadline),
        }
        reason = Reason("study.waiting_series", told)
        return Waiting(rule=rule, reason=reason, due_at=due_at, trace=trace)
    limits = (outside_limits(select, series, rule.name) for series in found)
    declined = next((limit for limit in limits if limit is not None), None)
    if missing and select.at_deadline != "go":
        wanted = {"pipeline": rule.name, "wanted": _wanted(missing[0])}
        declined = Reason("declined.series_missing", wanted)
    return _plan(study, rule, use, moment, Chosen(found, declined), trace)


def _nearest(tried: Sequence[tuple[Tried, ...]]) -> tuple[Tried, ...]:
    return min(tried, key=lambda conditions: sum(not condition.ok for condition in conditions))


def _wanted(match: Match) -> str:
    return ", ".join(f"{key} {wanted_words(condition)}" for key, condition in match.conditions)


def _plan(
    study: StudyToRoute,
    rule: PipelineRule,
    use: CalledUse,
    moment: Moment,
    chosen: Chosen,
    trace: tuple[Tried, ...],
) -> PlannedJob | SameAgain:
    mode = Mode.SHADOW if Mode.SHADOW in (rule.mode, use.mode) else Mode.LIVE
    of_its_own = not rule.select.one_series and not rule.select.require
    own_series = chosen.series[0].series_instance_uid if of_its_own else None
    job_line = line(study.study_instance_uid, rule.name, mode, own_series)
    trace += tuple(limit for s in chosen.series for limit in tried_limits(rule.select, s))
    inputs = [instance.input for series in chosen.series for instance in series.instances]
    if study.analysed.get(job_line) == inputs_digest(inputs):
        return SameAgain(rule=rule, series=chosen.series, line=job_line, trace=trace)
    priority = of_job(rule.priority, use.priority, study.priority)
    state, due_at, reason = _start(rule, chosen, priority, moment)
    return PlannedJob(
        rule=rule,
        series=chosen.series,
        line=job_line,
        mode=mode,
        priority=priority,
        state=state,
        due_at=due_at,
        reason=reason,
        trace=trace,
    )


def _start(
    rule: PipelineRule, chosen: Chosen, priority: Priority, moment: Moment
) -> tuple[JobState, int, Reason | None]:
    """Give the state in which a job begins, when it may start, and why not now."""
    now_ms = moment.now_ms
    if chosen.declined is not None:
        return JobState.DECLINED, now_ms, chosen.declined
    # Urgent work does not wait for hours: raising the priority is how an admin starts it.
    due_at = now_ms if priority is Priority.URGENT else rule.hours.next_open(now_ms, moment.zone)
    if due_at > now_ms:
        reason = Reason("job.outside_hours", {"pipeline": rule.name, "until_at": due_at})
        return JobState.HELD, due_at, reason
    if rule.suspended:
        told: dict[str, Parameter] = {
            "pipeline": rule.name,
            "since_at": rule.suspended_at,
            "user": rule.suspended_by,
        }
        return JobState.QUEUED, now_ms, Reason("job.suspended", told)
    return JobState.QUEUED, now_ms, None

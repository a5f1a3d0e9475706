"""Decides which pipelines want a complete study, and makes their jobs.

One transaction writes everything on the generation that was read: decisions, jobs, superseded
jobs, and that the study is routed. No pipeline's code runs here: the installed pipelines are rows.
An upgrade alone analyses nothing again, because only a study's generation brings it here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from dicomnode.config import PipelineRules, Settings
from dicomnode.dicom.headers import Header, from_row
from dicomnode.rules import hours
from dicomnode.rules.keys import inputs_digest
from dicomnode.rules.priorities import of_rank
from dicomnode.rules.reasons import Reason
from dicomnode.rules.routing import (
    CalledUse,
    Moment,
    NoRoute,
    PipelineRule,
    PlannedJob,
    RouteDecision,
    SameAgain,
    SeriesFacts,
    StudyToRoute,
    Waiting,
    decide,
    match_from_data,
    select_from_data,
)
from dicomnode.rules.states import Decision, JobState, Mode, Priority
from dicomnode.sdk.match import Match, MatchError
from dicomnode.stages.loop import run_steps
from dicomnode.stages.series_facts import SeriesSource, SourceImage, series_facts
from dicomnode.telemetry import logger
from dicomnode.worklist import events, instances, jobs, pipelines, routes, series, studies
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.jobs import Job, NewJob
from dicomnode.worklist.pipelines import Pipeline
from dicomnode.worklist.routes import NewRoute
from dicomnode.worklist.signals import Channel
from dicomnode.worklist.studies import Study

_WAIT_S = 2.0
_FAULT_WAIT_MS = 60_000
_LOCAL_ZONE = Path("/etc/localtime")


class Route:
    """The stage ``route``: one unit is one complete study that changed since it was routed."""

    def __init__(self, worklist: Worklist, settings: Settings) -> None:
        self._worklist = worklist
        self._settings = settings
        # Studies whose facts cannot be worked with, and until when the others go before.
        self._put_off: dict[int, int] = {}
        self._log = logger("route")

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""
        run_steps(self.step, lambda: self._worklist.wait(_WAIT_S, Channel.ROUTES), stop, self._log)

    def step(self, now_ms: int | None = None) -> bool:
        """Route the most urgent study that waits for it; tell whether there was one.

        Nothing is routed before the pipelines were described for the first time: a study that
        comes while the node starts would be wanted by none.
        """
        now_ms = self._worklist.now() if now_ms is None else now_ms
        self._put_off = {key: until for key, until in self._put_off.items() if until > now_ms}
        with self._worklist.read() as tx:
            waiting = studies.unrouted(tx, limit=len(self._put_off) + 1)
            study = next((study for study in waiting if study.id not in self._put_off), None)
            if study is None or not pipelines.all_of(tx):
                return False
        try:
            self._route(study, now_ms)
        except (ValueError, TypeError, LookupError):
            self._log.exception("study_put_off", study=study.id)
            self._put_off[study.id] = now_ms + _FAULT_WAIT_MS
        return True

    def _route(self, study: Study, now_ms: int) -> None:
        with self._worklist.read() as tx:
            decided = decide_study(tx, study, self._settings, now_ms)
        with self._worklist.write() as tx:
            if studies.mark_routed(tx, study.id, study.generation):
                write_decisions(tx, study, decided, Act(now_ms=now_ms))


def decide_study(
    tx: Connection, study: Study, settings: Settings, now_ms: int
) -> list[RouteDecision]:
    """Give what is decided about a study, as ``route`` would; writes nothing."""
    known = StudyToRoute(
        study_instance_uid=study.study_instance_uid,
        series=tuple(_series_of(tx, study.id)),
        completed_at=study.completed_at or now_ms,
        by_hand=study.completed_by == "hand",
        priority=of_rank(study.priority),
        analysed=_analysed(tx, jobs.of_study(tx, study.id)),
    )
    rules = [rule_of(row, settings) for row in pipelines.all_of(tx)]
    use = use_of(study.called_ae_title, settings)
    decided = decide(known, rules, use, Moment(now_ms=now_ms, zone=zone_of(settings)))
    return [_if_kept(tx, decision) for decision in decided]


def _if_kept(tx: Connection, decision: RouteDecision) -> RouteDecision:
    """Plan no job over images that were purged: it would supersede a good result, and fail."""
    if not isinstance(decision, PlannedJob):
        return decision
    inputs = instances.of_ids(tx, decision.instance_ids)
    gone = sum(one.purged_at is not None for one in inputs)
    if not gone:
        return decision
    reason = Reason("study.images_gone", {"n": gone})
    return NoRoute(rule=decision.rule, reason=reason, trace=decision.trace)


def decide_files(
    headers: Sequence[Header], rules: Sequence[PipelineRule], settings: Settings, now_ms: int
) -> list[RouteDecision]:
    """Give what would be decided about files of one study that nobody sent; writes nothing."""
    by_series: dict[str, list[Header]] = {}
    for header in headers:
        by_series.setdefault(header.series_instance_uid, []).append(header)
    found = [
        series_facts(
            SeriesSource(
                id=number,
                series_instance_uid=series_instance_uid,
                modality=members[0].modality,
                images=[
                    SourceImage(place, "", header, header.has_pixels)
                    for place, header in enumerate(members)
                ],
                attributes=members[0].attributes,
            )
        )
        for number, (series_instance_uid, members) in enumerate(by_series.items(), start=1)
    ]
    study = StudyToRoute(
        study_instance_uid=headers[0].study_instance_uid if headers else "",
        series=tuple(found),
        completed_at=now_ms,
    )
    return decide(study, rules, CalledUse(), Moment(now_ms=now_ms, zone=zone_of(settings)))


def write_decisions(
    tx: Connection, study: Study, decided: Sequence[RouteDecision], act: Act
) -> None:
    """Make the jobs and write down every decision; the study is locked and marked as routed."""
    rows = [_written(tx, study, decision, act) for decision in decided]
    routes.replace(tx, study.id, study.generation, rows, act.now_ms)
    told = {
        "n": sum(row.decision is Decision.JOB for row in rows),
        "m": sum(row.decision is Decision.NO_ROUTE for row in rows) or None,
    }
    events.add(tx, Reason("study.routed", told), act, Subject(study_id=study.id))


def _written(tx: Connection, study: Study, decision: RouteDecision, act: Act) -> NewRoute:
    """Give the row of a decision, with the job that it makes."""
    row = NewRoute(
        pipeline=decision.rule.name,
        version=decision.rule.version,
        decision=Decision.NO_ROUTE,
        reason=decision.reason,
        trace=tuple(tried.to_data() for tried in decision.trace),
    )
    match decision:
        case PlannedJob():
            return _with_job(tx, study, decision, row, act)
        case SameAgain():
            standing = _standing(tx, study.id, decision.line)
            return _same_again(row, decision.series, standing)
        case Waiting():
            return replace(row, decision=Decision.WAITING, due_at=decision.due_at)
        case NoRoute():
            return row


def _with_job(
    tx: Connection, study: Study, planned: PlannedJob, row: NewRoute, act: Act
) -> NewRoute:
    new = NewJob(
        study_id=study.id,
        series_id=planned.series[0].id,
        line=planned.line,
        mode=planned.mode,
        parts=planned.key_parts,
        inputs=tuple(tuple(one.id for one in found.instances) for found in planned.series),
        generation=study.generation,
        priority=planned.priority,
        state=planned.state,
        due_at=planned.due_at,
        # Whether a pipeline is suspended is its row's, and may change any time.
        reason=None if planned.state is JobState.QUEUED else planned.reason,
    )
    created = jobs.create(tx, new, act)
    if not created.is_new:
        return _same_again(row, planned.series, jobs.get(tx, created.job_id))
    return replace(
        row, decision=Decision.JOB, series_id=planned.series[0].id, job_id=created.job_id
    )


def _same_again(row: NewRoute, found: Sequence[SeriesFacts], job: Job | None) -> NewRoute:
    at = None if job is None else job.finished_at
    return replace(
        row,
        decision=Decision.SAME_AGAIN,
        series_id=found[0].id,
        job_id=None if job is None else job.id,
        reason=Reason("study.same_again", {} if at is None else {"at": at}),
    )


def _standing(tx: Connection, study_id: int, line: str) -> Job | None:
    standing = [job for job in jobs.of_study(tx, study_id) if job.line == line]
    return standing[-1] if standing else None


def _series_of(tx: Connection, study_id: int) -> Iterable[SeriesFacts]:
    by_series: dict[int, list[instances.Instance]] = {}
    for instance in instances.of_study(tx, study_id):
        by_series.setdefault(instance.series_id, []).append(instance)
    for row in series.of_study(tx, study_id):
        members = by_series.get(row.id, [])
        yield series_facts(
            SeriesSource(
                id=row.id,
                series_instance_uid=row.series_instance_uid,
                modality=row.modality,
                images=[
                    SourceImage(one.id, one.digest, from_row(one.header), one.is_image)
                    for one in members
                    if one.role == row.role
                ],
                attributes=row.attributes,
                role=row.role,
                facts=row.facts,
                callers=[name for one in members for name in (one.calling_ae_title, one.peer)],
            )
        )


def _analysed(tx: Connection, found: Iterable[Job]) -> Mapping[str, str]:
    """Give, by line, the digest of the inputs of the newest job that stands there."""
    standing = {job.line: job for job in found if job.state is not JobState.SUPERSEDED}
    digests = {}
    for job_line, job in standing.items():
        wanted = [number for ids in job.inputs for number in ids]
        inputs = instances.of_ids(tx, wanted)
        digests[job_line] = inputs_digest((one.sop_instance_uid, one.digest) for one in inputs)
    return digests


def rule_of(row: Pipeline, settings: Settings) -> PipelineRule:
    """Give an installed pipeline with what the TOML and an admin say of it.

    An admin's switch stands before the TOML's value.
    """
    given = settings.pipelines.get(row.name, PipelineRules())
    if row.broken is not None:
        return _broken(row, row.broken)
    try:
        match, select = match_from_data(row.match), select_from_data(row.select)
        match.narrowed_by(given.match)
        opening = hours.parse(given.hours)
    except hours.HoursError as fault:
        return _broken(row, f"hours: {fault}")
    except (MatchError, TypeError, LookupError) as fault:
        return _broken(row, type(fault).__name__)
    return PipelineRule(
        name=row.name,
        version=row.version,
        match=match,
        select=select,
        takes=row.takes,
        settings=row.settings,
        weights=row.weights,
        override=given.match,
        enabled=given.enabled,
        mode=row.mode or Mode(given.mode),
        priority=Priority(row.priority or given.priority),
        hours=opening,
        suspended=bool(row.suspended),
        suspended_at=row.suspended_at,
        suspended_by=row.suspended_by,
    )


def _broken(row: Pipeline, why: str) -> PipelineRule:
    """Give the rule of a pipeline that cannot run: no study goes to it, all others go on."""
    return PipelineRule(name=row.name, version=row.version, match=Match(), broken=why)


def use_of(called_ae_title: str, settings: Settings) -> CalledUse:
    """Give the use of an AE title of ours; the node's own has none that is special."""
    for extra in settings.listen.ae_titles:
        if extra.title == called_ae_title:
            return CalledUse(
                pipelines=extra.pipelines,
                mode=Mode(extra.mode),
                priority=None if extra.priority is None else Priority(extra.priority),
            )
    return CalledUse()


def zone_of(settings: Settings) -> tzinfo:
    """Give the node's time zone: the one that is set, else this machine's."""
    if settings.node.zone:
        return ZoneInfo(settings.node.zone)
    # The offset of this moment would be wrong for hours on the other side of a clock change.
    if _LOCAL_ZONE.is_file():
        with _LOCAL_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)
    return UTC

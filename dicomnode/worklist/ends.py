"""The end of a job: results, deliveries, messages, facts and urgency in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, select, update

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import PRIORITY_RANK, DeliveryState, JobState, Priority, ResultKind
from dicomnode.worklist import attempts, claims, deliveries, events, notifications, series
from dicomnode.worklist.attempts import Tried, TryEnd
from dicomnode.worklist.deliveries import NewDelivery, Parent
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.jobs import Job, locked
from dicomnode.worklist.notifications import NewNotification
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import inserted, reason_columns
from dicomnode.worklist.schema import deliveries as delivery_rows
from dicomnode.worklist.schema import jobs, results, studies
from dicomnode.worklist.signals import Channel, wake


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResult:
    """An object whose file stands below ``out`` and passed the gate."""

    kind: ResultKind
    form: str
    number: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    byte_count: int
    digest: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    series_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended: done, declined or failed, and what it leaves.

    ``facts`` are by series id; ``raise_to`` is what the study's waiting jobs and deliveries are
    raised to; ``stage_times`` are seconds; ``checks`` is what the gate said.
    """

    state: JobState
    reason: Reason
    results: Sequence[NewResult] = ()
    deliveries: Sequence[NewDelivery] = ()
    notifications: Sequence[NewNotification] = ()
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    urgency: str | None = None
    raise_to: Priority | None = None
    summary: str | None = None
    finding_count: int | None = None
    segment_count: int | None = None
    stage_times: Mapping[str, float] | None = None
    device: str | None = None
    checks: Mapping[str, Any] | None = None


class FinishedKind(StrEnum):
    """Whether the end stands."""

    ENDED = "ended"
    ENCODE_AGAIN = "encode again"  # a predecessor moved at a peer: nothing was written


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of an end; ``unused_paths`` are result files that no row names: delete them."""

    kind: FinishedKind
    unused_paths: tuple[str, ...] = ()


def finish(tx: Connection, job_id: int, fence: int, end: JobEnd, now_ms: int) -> Finished:
    """End a job; running it again after a commit whose answer was lost changes nothing.

    Raises
    ------
    LeaseLostError
        If the job is another's, cancelled or superseded. Its result files are discarded, but for
        those that `results.known_paths` names.
    """
    job = locked(tx, job_id)
    if job is None or job.fence != fence:
        raise LeaseLostError(f"Job {job_id} is not held under fence {fence} any more.")
    if job.state is end.state:
        return Finished(FinishedKind.ENDED, _unused(tx, end))
    if job.state is not JobState.RUNNING:
        raise LeaseLostError(f"Job {job_id} is not held under fence {fence} any more.")
    if any(deliveries.has_moved(tx, job.line, new, job_id=job_id) for new in end.deliveries):
        return Finished(FinishedKind.ENCODE_AGAIN)
    act = Act(now_ms=now_ms)
    unused = _keep_results(tx, job, end, now_ms)
    if end.state is JobState.DONE:
        # What only says that nothing was found out takes no result's place, sent or not.
        _take_over(tx, job, act)
    rank = _raise(tx, job, end.raise_to)
    parent = Parent(job_id=job.id, study_id=job.study_id, line=job.line, priority=rank)
    for new in end.deliveries:
        deliveries.create(tx, parent, new, act)
    for message in end.notifications:
        notifications.create(tx, message, now_ms)
    for series_id, facts in end.facts.items():
        series.add_facts(tx, series_id, facts)
    _end(tx, job, end, now_ms)
    return Finished(FinishedKind.ENDED, unused)


def _unused(tx: Connection, end: JobEnd) -> tuple[str, ...]:
    paths = [new.path for new in end.results]
    known = {
        row.path for row in tx.execute(select(results.c.path).where(results.c.path.in_(paths)))
    }
    return tuple(path for path in paths if path not in known)


def _keep_results(tx: Connection, job: Job, end: JobEnd, now_ms: int) -> tuple[str, ...]:
    """Write the rows of new objects; an object that an earlier end of this job made stays."""
    unused: list[str] = []
    for new in end.results:
        query = select(results.c.path).where(results.c.sop_instance_uid == new.sop_instance_uid)
        before = tx.execute(query).scalar()
        if before is not None:
            unused += [new.path] if before != new.path else []
            continue
        values = {
            "job_id": job.id,
            "study_id": job.study_id,
            "kind": new.kind,
            "form": new.form,
            "number": new.number,
            "sop_class_uid": new.sop_class_uid,
            "sop_instance_uid": new.sop_instance_uid,
            "series_instance_uid": new.series_instance_uid,
            "series_number": new.series_number,
            "path": new.path,
            "byte_count": new.byte_count,
            "digest": new.digest,
            "checks": dict(new.checks),
            "created_at": now_ms,
        }
        inserted(tx, results, values)
    return tuple(unused)


def _take_over(tx: Connection, job: Job, act: Act) -> None:
    """Make a job the current one of its line; what the one before did not send stays here."""
    before = (jobs.c.line == job.line, jobs.c.is_current, jobs.c.id != job.id)
    tx.execute(update(jobs).where(*before).values(is_current=False))
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(is_current=True))
    deliveries.withdraw_unsent(tx, job.line, act, but_job=job.id)


def _raise(tx: Connection, job: Job, to: Priority | None) -> int:
    """Raise what waits of a study, never lower it; give the rank of this job's deliveries."""
    if to is None:
        return job.priority
    rank = PRIORITY_RANK[to]
    less = studies.c.priority > rank
    tx.execute(update(studies).where(studies.c.id == job.study_id, less).values(priority=rank))
    for table, states in (
        (jobs, (JobState.HELD, JobState.QUEUED)),
        (delivery_rows, (DeliveryState.QUEUED,)),
    ):
        waiting = and_(table.c.study_id == job.study_id, table.c.state.in_(states))
        raised = update(table).where(waiting, table.c.priority > rank)
        tx.execute(raised.values(priority=rank))
    return min(rank, job.priority)


def _end(tx: Connection, job: Job, end: JobEnd, now_ms: int) -> None:
    times = None if end.stage_times is None else dict(end.stage_times)
    values: dict[str, Any] = {
        "finished_at": now_ms,
        "stage": None,
        "stage_times": times,
        "checks": None if end.checks is None else dict(end.checks),
        "summary": end.summary,
        "finding_count": end.finding_count,
        "segment_count": end.segment_count,
        "urgency": end.urgency,
        **reason_columns(end.reason),
    }
    if end.device is not None:
        values["device"] = end.device[:32]
    claims.give_back(tx, jobs, job.id, job.fence, end.state, values)
    how = TryEnd(outcome=end.state, reason=end.reason, stage_times=times, device=end.device)
    attempts.end(tx, Tried(job_id=job.id), now_ms, how)
    subject = Subject(study_id=job.study_id, job_id=job.id)
    events.add(tx, end.reason, Act(now_ms=now_ms), subject)
    refresh_outcome(tx, job.study_id, now_ms)
    wake(tx, Channel.JOBS)

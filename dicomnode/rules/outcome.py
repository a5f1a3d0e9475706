"""What became of a study: the only function that computes its outcome and its worst reason.

It runs in the transaction that moved a job, a delivery or the study itself, under the study's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dicomnode.rules.reasons import Reason, worst
from dicomnode.rules.states import (
    OPEN_DELIVERY_STATES,
    OPEN_JOB_STATES,
    Decision,
    DeliveryState,
    JobState,
    Mode,
    Outcome,
    Role,
    StudyState,
)


@dataclass(frozen=True, slots=True)
class JobStanding:
    """A job of the study, newest of its line or not; ``reason`` as its row has it."""

    state: JobState
    mode: Mode = Mode.LIVE
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class DeliveryStanding:
    """A delivery of the study; ``reason`` is the peer's where the peer holds all of its own."""

    state: DeliveryState
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class DecisionStanding:
    """What route decided about one pipeline, for the study's present generation."""

    decision: Decision
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStanding:
    """Everything that a study's outcome depends on.

    Parameters
    ----------
    reason
        Why a receiving study waits, as `completeness.decide` last said.
    is_routed
        Whether route has seen the study's present generation.
    decisions
        In the order in which `routing.decide` gave them: of those without a route the nearest
        comes first.
    """

    state: StudyState
    role: Role = Role.SOURCE
    reason: Reason | None = None
    pending_count: int = 0
    instance_count: int = 0
    is_routed: bool = True
    jobs: tuple[JobStanding, ...] = ()
    deliveries: tuple[DeliveryStanding, ...] = ()
    decisions: tuple[DecisionStanding, ...] = ()

    @property
    def counted_jobs(self) -> tuple[JobStanding, ...]:
        """Give the jobs that say something: what was superseded or cancelled counts no more."""
        gone = (JobState.SUPERSEDED, JobState.CANCELLED)
        return tuple(job for job in self.jobs if job.state not in gone)

    @property
    def counted_deliveries(self) -> tuple[DeliveryStanding, ...]:
        """Give the deliveries that say something."""
        return tuple(d for d in self.deliveries if d.state is not DeliveryState.WITHDRAWN)


# What a row without a reason of its own says.
_JOB_REASONS: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.HELD: "job.retry_later",
        JobState.QUEUED: "job.queued",
        JobState.RUNNING: "job.running",
        JobState.DONE: "job.done",
        JobState.DECLINED: "declined.pipeline",
        JobState.FAILED: "failed.error",
        JobState.CANCELLED: "job.cancelled",
        JobState.SUPERSEDED: "job.superseded",
    }
)
_DELIVERY_REASONS: Mapping[DeliveryState, str] = MappingProxyType(
    {
        DeliveryState.QUEUED: "delivery.queued",
        DeliveryState.SENDING: "delivery.sending",
        DeliveryState.SENT: "delivery.sent",
        DeliveryState.CONFIRMED: "delivery.confirmed",
        DeliveryState.FAILED: "delivery.given_up",
        DeliveryState.WITHDRAWN: "delivery.withdrawn",
    }
)


def outcome(study: StudyStanding) -> tuple[Outcome, Reason]:
    """Give a study's outcome and the reason that its row says."""
    if study.role is not Role.SOURCE:
        code = "study.own_objects" if study.role is Role.OWN else "study.prior"
        return Outcome.DONE, Reason(code)
    wrong = attention(study)
    if wrong:
        return Outcome.NEEDS_ATTENTION, worst(wrong)[0]
    unfinished = waits(study)
    if unfinished:
        moving = Outcome.IN_PROGRESS if _is_moving(study) else Outcome.WAITING
        return moving, worst(unfinished)[0]
    ended = ends(study)
    if ended:
        return Outcome.DONE, worst(ended)[0]
    return _without_work(study)


def attention(study: StudyStanding) -> list[Reason]:
    """Give what a person must act on. A failed shadow job is an event only, never here."""
    jobs = [
        job_reason(job)
        for job in study.counted_jobs
        if job.state is JobState.FAILED and job.mode is Mode.LIVE
    ]
    failed = [d for d in study.counted_deliveries if d.state is DeliveryState.FAILED]
    return [*jobs, *map(delivery_reason, failed)]


def waits(study: StudyStanding) -> list[Reason]:
    """Give why the study is not finished yet, from the images on; empty once it is."""
    reasons: list[Reason] = []
    if study.pending_count:
        reasons.append(Reason("study.pending", {"n": study.pending_count}))
    if study.state is StudyState.RECEIVING:
        reasons.append(study.reason or Reason("study.waiting_quiet", {"n": study.instance_count}))
    elif not study.is_routed:
        reasons.append(Reason("study.routing", {"n": study.instance_count}))
    reasons += [
        decided.reason or Reason("study.waiting_series")
        for decided in study.decisions
        if decided.decision is Decision.WAITING
    ]
    reasons += [job_reason(job) for job in study.counted_jobs if job.state in OPEN_JOB_STATES]
    open_deliveries = [d for d in study.counted_deliveries if d.state in OPEN_DELIVERY_STATES]
    return [*reasons, *map(delivery_reason, open_deliveries)]


def ends(study: StudyStanding) -> list[Reason]:
    """Give what the finished jobs and deliveries came to."""
    ended = [
        job_reason(job) if job.mode is Mode.LIVE else Reason("job.shadow")
        for job in study.counted_jobs
        if job.state not in OPEN_JOB_STATES
    ]
    final = [d for d in study.counted_deliveries if d.state not in OPEN_DELIVERY_STATES]
    return [*ended, *map(delivery_reason, final)]


def job_reason(job: JobStanding) -> Reason:
    """Give the reason of a job, or what its state says where the row has none."""
    return job.reason or Reason(_JOB_REASONS[job.state])


def delivery_reason(delivery: DeliveryStanding) -> Reason:
    """Give the reason of a delivery, or what its state says where the row has none."""
    return delivery.reason or Reason(_DELIVERY_REASONS[delivery.state])


def _is_moving(study: StudyStanding) -> bool:
    running = any(job.state is JobState.RUNNING for job in study.jobs)
    return running or any(d.state is DeliveryState.SENDING for d in study.deliveries)


def _without_work(study: StudyStanding) -> tuple[Outcome, Reason]:
    """Give the outcome of a routed study whose jobs, if it ever had any, count no more."""
    stands = _first(study.decisions, Decision.SAME_AGAIN)
    if stands is not None:
        return Outcome.DONE, stands.reason or Reason("study.same_again")
    cancelled = [job for job in study.jobs if job.state is JobState.CANCELLED]
    if cancelled:
        return Outcome.DONE, job_reason(cancelled[-1])
    nearest = _first(study.decisions, Decision.NO_ROUTE)
    if nearest is None or nearest.reason is None:
        return Outcome.NO_ROUTE, Reason("study.no_route")
    return Outcome.NO_ROUTE, nearest.reason


def _first(decisions: Iterable[DecisionStanding], wanted: Decision) -> DecisionStanding | None:
    return next((decided for decided in decisions if decided.decision is wanted), None)

"""A worker's side of jobs: claim, heartbeat, give back; and what becomes of those left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, text, update

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Reason
from dicomnode.rules.retry import LOSS_WAITS_S, GiveUp, next_after_loss
from dicomnode.rules.states import JobState, Outcome
from dicomnode.worklist import attempts, claims, events
from dicomnode.worklist.attempts import Tried, TryEnd
from dicomnode.worklist.claims import CANDIDATES, Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.jobs import Job, locked
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value, reason_columns
from dicomnode.worklist.schema import jobs, pipelines
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.studies import lock, lock_if_free

# Literal, as the partial indexes say it: with bound values SQLite does not use them.
_QUEUED = text("jobs.state = 'queued'")
_HELD = text("jobs.state = 'held'")
_RUNNING = text("jobs.state = 'running'")


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that the caller may run, as it then is; ``attempt`` is the try's number from 1."""

    job: Job
    attempt: int
    claimed_at: int

    @property
    def fence(self) -> int:
        """What every later write of this claim names."""
        return self.job.fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a running job is; ``percent`` of the present stage."""

    stage: str
    percent: int = 0
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetry:
    """A try that ended without an end of the job.

    ``counts`` False: the worker or its child was lost, which counts apart from the tries.
    """

    at_ms: int
    reason: Reason
    counts: bool = True
    stage_times: Mapping[str, float] | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """A job that ended because its workers were lost; ``before`` is its study's outcome before."""

    job: Job
    reason: Reason
    before: Outcome
    at_ms: int


# Who tells of a parked job, in the transaction that parks it.
Tell = Callable[[Connection, Parked], None]


def claim_next(
    worklist: Worklist,
    *,
    owner: str,
    lease_ms: int,
    pipelines: Sequence[str] | None = None,
    tell: Tell | None = None,
) -> ClaimedJob | None:
    """Claim the best job that is due, or None; an idle look takes no lock.

    Leases that ran out and jobs whose wait is over are seen to first; ``tell`` hears of those that
    are parked.
    """
    now_ms = worklist.now()
    with worklist.read() as tx:
        expired = tx.execute(_expired(now_ms).limit(1)).first()
        due = tx.execute(_held_due(now_ms).limit(1)).first()
        waiting = tx.execute(_claimable(now_ms, pipelines).limit(1)).first()
    if expired is not None or due is not None:
        worklist.transact(lambda tx: tend(tx, now_ms, tell))
    elif waiting is None:
        return None
    lease = Lease(owner=owner, now_ms=worklist.now(), lease_ms=lease_ms)
    return worklist.transact(lambda tx: claim(tx, lease, pipelines))


def claim(
    tx: Connection, lease: Lease, pipelines: Sequence[str] | None = None
) -> ClaimedJob | None:
    """Claim the best job that is due: the most urgent, then the one that is due longest."""
    rows = tx.execute(_claimable(lease.now_ms, pipelines).limit(CANDIDATES))
    held = False
    for candidate in list(rows):
        # The first lock may be waited for; with one in hand a second would be a ring.
        if not held:
            lock(tx, candidate.study_id)
        elif not lock_if_free(tx, candidate.study_id):
            continue
        held = True
        row = claims.take(tx, jobs, candidate.id, JobState.RUNNING, lease)
        if row is not None:
            return _started(tx, as_value(Job, row), lease)
    return None


def _claimable(now_ms: int, wanted: Sequence[str] | None) -> Select[Any]:
    """Select what a worker may take now, the best first."""
    suspended = select(pipelines.c.name).where(
        pipelines.c.name == jobs.c.pipeline, pipelines.c.suspended.is_(True)
    )
    query = select(jobs.c.id, jobs.c.study_id).where(
        _QUEUED, jobs.c.due_at <= now_ms, ~suspended.exists()
    )
    if wanted is not None:
        query = query.where(jobs.c.pipeline.in_(wanted))
    return query.order_by(jobs.c.priority, jobs.c.due_at, jobs.c.id)


def _started(tx: Connection, job: Job, lease: Lease) -> ClaimedJob:
    values = {
        "started_at": lease.now_ms,
        "stage": None,
        "progress": 0,
        **reason_columns(Reason("job.running", {"since_at": lease.now_ms})),
    }
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
    number = attempts.start(tx, Tried(job_id=job.id), job.fence, lease.owner, lease.now_ms)
    what, subject = Reason("job.started", {"n": number}), _subject(job)
    events.add(tx, what, Act(now_ms=lease.now_ms), subject)
    refresh_outcome(tx, job.study_id, lease.now_ms)
    return ClaimedJob(job, number, lease.now_ms)


def _subject(job: Job) -> Subject:
    return Subject(study_id=job.study_id, job_id=job.id)


def heartbeat(
    tx: Connection, job_id: int, fence: int, until_ms: int, progress: Progress | None = None
) -> None:
    """Keep a job until a time, and say where it is.

    Raises
    ------
    LeaseLostError
        If it was cancelled, superseded, retried or taken over: stop, leave nothing behind.
    """
    values: dict[str, Any] = {"lease_until": until_ms}
    if progress is not None:
        values |= {"stage": progress.stage, "progress": progress.percent}
        if progress.device is not None:
            values["device"] = progress.device[:32]
    claims.keep(tx, jobs, job_id, fence, values)


def retry_later(tx: Connection, job_id: int, fence: int, again: JobRetry, now_ms: int) -> None:
    """End a try; the job waits for the next.

    Raises
    ------
    LeaseLostError
    """
    job = demand(tx, job_id, fence)
    state = JobState.HELD if again.at_ms > now_ms else JobState.QUEUED
    values: dict[str, Any] = {"due_at": again.at_ms, **reason_columns(again.reason)}
    if not again.counts:
        values |= {"tries": jobs.c.tries - 1, "lost_leases": jobs.c.lost_leases + 1}
    claims.give_back(tx, jobs, job_id, fence, state, values)
    _ended(tx, job, again, now_ms, attempts.RETRY)
    wake(tx, Channel.JOBS)


def release(tx: Connection, job_id: int, fence: int, now_ms: int) -> None:
    """Give a job back as it was, as a worker does that is being stopped: no try is used up.

    Raises
    ------
    LeaseLostError
    """
    job = demand(tx, job_id, fence)
    reason = Reason("job.drained")
    values = {"due_at": now_ms, "tries": jobs.c.tries - 1, **reason_columns(None)}
    claims.give_back(tx, jobs, job_id, fence, JobState.QUEUED, values)
    _ended(tx, job, JobRetry(at_ms=now_ms, reason=reason), now_ms, attempts.DRAINED)
    wake(tx, Channel.JOBS)


def _ended(tx: Connection, job: Job, again: JobRetry, now_ms: int, outcome: str) -> None:
    how = TryEnd(
        outcome=outcome,
        reason=again.reason,
        stage_times=again.stage_times,
        device=again.device,
    )
    attempts.end(tx, Tried(job_id=job.id), now_ms, how)
    events.add(tx, again.reason, Act(now_ms=now_ms), _subject(job))
    refresh_outcome(tx, job.study_id, now_ms)


def demand(tx: Connection, job_id: int, fence: int) -> Job:
    """Lock a job's study and give the job, which must be held under a fence.

    Raises
    ------
    LeaseLostError
    """
    job = locked(tx, job_id)
    if job is None or job.state is not JobState.RUNNING or job.fence != fence:
        raise LeaseLostError(f"Job {job_id} is not held under fence {fence} any more.")
    return job


def tend(tx: Connection, now_ms: int, tell: Tell | None = None) -> int:
    """Free leases that ran out and queue held jobs that are due; give how many moved."""
    # Both sets of studies at once and in order: one after the other could wait in a ring.
    both = [*tx.execute(_expired(now_ms).limit(20)), *tx.execute(_held_due(now_ms).limit(100))]
    lock(tx, *(row.study_id for row in both))
    return free_expired(tx, now_ms, tell) + promote_held(tx, now_ms)


def _expired(now_ms: int) -> Select[Any]:
    return select(jobs.c.id, jobs.c.study_id).where(_RUNNING, jobs.c.lease_until <= now_ms)


def _held_due(now_ms: int) -> Select[Any]:
    return select(jobs.c.id, jobs.c.study_id).where(_HELD, jobs.c.due_at <= now_ms)


def promote_held(tx: Connection, now_ms: int, limit: int = 100) -> int:
    """Queue held jobs whose time has come; give how many."""
    rows = list(tx.execute(_held_due(now_ms).order_by(jobs.c.due_at).limit(limit)))
    found = lock(tx, *(row.study_id for row in rows))
    moved = 0
    for row in rows:
        due = [jobs.c.id == row.id, jobs.c.due_at <= now_ms, jobs.c.state == JobState.HELD]
        moved += claims.move(tx, jobs, due, JobState.QUEUED, reason_columns(None))
    for study in found:
        refresh_outcome(tx, study.id)
    if moved:
        wake(tx, Channel.JOBS)
    return moved


def free_expired(tx: Connection, now_ms: int, tell: Tell | None = None, limit: int = 20) -> int:
    """Take jobs from workers that fell silent; give how many.

    The third loss parks a job: what kills three workers is not given to a fourth.
    """
    still = jobs.c.lease_until <= now_ms
    return _lose(tx, _expired(now_ms).limit(limit), now_ms, still, tell)


def release_owner(tx: Connection, owner: str, now_ms: int, tell: Tell | None = None) -> int:
    """Take the jobs of a worker that is known to be dead; give how many."""
    mine = select(jobs.c.id, jobs.c.study_id).where(_RUNNING, jobs.c.lease_owner == owner)
    return _lose(tx, mine, now_ms, jobs.c.lease_owner == owner, tell)


def _lose(
    tx: Connection,
    query: Select[Any],
    now_ms: int,
    still: ColumnElement[bool],
    tell: Tell | None,
) -> int:
    rows = list(tx.execute(query))
    before = {study.id: study.outcome for study in lock(tx, *(row.study_id for row in rows))}
    lost = 0
    for row in rows:
        again = tx.execute(select(jobs).where(jobs.c.id == row.id, _RUNNING, still)).first()
        if again is not None:
            job = as_value(Job, again)
            parked = _lose_one(tx, job, now_ms)
            if parked is not None and tell is not None:
                tell(tx, Parked(job, parked, before[job.study_id], now_ms))
            lost += 1
    return lost


def _lose_one(tx: Connection, job: Job, now_ms: int) -> Reason | None:
    """Queue a job again, or park it; give why it was parked."""
    decided = next_after_loss(job.lost_leases + 1, now_ms)
    counted = {"tries": jobs.c.tries - 1, "lost_leases": jobs.c.lost_leases + 1}
    if isinstance(decided, GiveUp):
        state, reason = JobState.FAILED, decided.reason
        values: dict[str, Any] = {"finished_at": now_ms}
    else:
        state = JobState.HELD if decided.at_ms > now_ms else JobState.QUEUED
        values = {"due_at": decided.at_ms}
        told = {
            "worker": job.lease_owner,
            "since_at": job.lease_until,
            "n": job.lost_leases + 2,
            "max": len(LOSS_WAITS_S) + 1,
        }
        reason = Reason("job.lease_lost", told)
    values |= {**counted, **reason_columns(reason)}
    claims.move(tx, jobs, [jobs.c.id == job.id, jobs.c.fence == job.fence], state, values)
    _ended(tx, job, JobRetry(at_ms=now_ms, reason=reason), now_ms, attempts.LOST)
    wake(tx, Channel.JOBS)
    return reason if state is JobState.FAILED else None


def running(tx: Connection) -> list[tuple[int, int]]:
    """Give (job id, fence) of every job that runs: their result files are not orphans yet."""
    query = select(jobs.c.id, jobs.c.fence).where(_RUNNING)
    return [(int(row.id), int(row.fence)) for row in tx.execute(query)]


def is_held(tx: Connection, job_id: int, fence: int) -> bool:
    """Tell whether a claim still stands, without writing anything."""
    return (
        tx.execute(select(jobs.c.id).where(claims.held_by(jobs, job_id, fence))).first() is not None
    )

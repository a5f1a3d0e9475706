"""Jobs: one pipeline over one set of inputs; made once per key, one that counts in each line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text, update

from dicomnode.rules.keys import KeyParts, inputs_digest, next_run
from dicomnode.rules.priorities import of_rank
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import FINAL_JOB_STATES, PRIORITY_RANK, JobState, Mode, Priority
from dicomnode.worklist import attempts, claims, events
from dicomnode.worklist import instances as inputs_room
from dicomnode.worklist.attempts import Tried, TryEnd
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value, as_values, inserted, reason_columns, touched
from dicomnode.worklist.schema import jobs, pipelines
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.studies import lock


@dataclass(frozen=True, slots=True)
class Job:
    """One job; ``inputs`` holds the ids of instances, series by series, ``stage_times`` seconds."""

    id: int
    study_id: int
    series_id: int | None
    pipeline: str
    version: str
    mode: Mode
    line: str
    key: str
    run: int
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    inputs: tuple[list[int], ...]
    input_count: int
    generation: int
    state: JobState
    reason: Reason | None
    priority: int
    due_at: int
    lease_owner: str | None
    lease_until: int | None
    fence: int
    tries: int
    lost_leases: int
    device: str | None
    stage: str | None
    progress: int
    stage_times: Mapping[str, float] | None
    checks: Mapping[str, Any] | None
    summary: str | None
    finding_count: int | None
    segment_count: int | None
    urgency: str | None
    is_current: bool
    superseded_by: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as route plans it.

    ``parts`` are those of its key and must name the same instances as ``inputs``. ``state`` is
    queued; held with ``due_at`` and why; or declined where no worker is needed to see that.
    """

    study_id: int
    series_id: int | None
    line: str
    mode: Mode
    parts: KeyParts
    inputs: tuple[tuple[int, ...], ...]
    generation: int
    priority: Priority = Priority.NORMAL
    state: JobState = JobState.QUEUED
    due_at: int | None = None
    reason: Reason | None = None
    first_run: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """A job that is there now; ``is_new`` False where its key was there before and stands."""

    job_id: int
    is_new: bool
    superseded: tuple[int, ...] = ()


def create(tx: Connection, new: NewJob, act: Act) -> Created:
    """Make a job, or find the one that its key stands for; supersede what its line had.

    Whoever runs a superseded job loses its lease. What the superseded job delivered stays until
    this one is done.
    """
    lock(tx, new.study_id)

    def state_of(key: str) -> JobState | None:
        row = tx.execute(select(jobs.c.state, jobs.c.line).where(jobs.c.key == key)).first()
        if row is None:
            return None
        # A job of another line (shadow beside live) does not stand for this one either.
        return JobState(row.state) if row.line == new.line else JobState.SUPERSEDED

    run = next_run(new.parts, state_of, new.first_run)
    if run.known:
        found = tx.execute(select(jobs.c.id).where(jobs.c.key == run.key)).scalar_one()
        return Created(int(found), is_new=False)
    before = _supersede(tx, new.line, act)
    job_id = inserted(tx, jobs, _values(new, run.key, run.number, act.now_ms))
    _name_successor(tx, before, job_id, new.inputs)
    told: dict[str, Parameter] = {
        "pipeline": new.parts.pipeline,
        "version": new.parts.version,
        "n": sum(len(ids) for ids in new.inputs),
    }
    subject = Subject(study_id=new.study_id, job_id=job_id)
    events.add(tx, Reason("job.created", told), act, subject)
    refresh_outcome(tx, new.study_id, act.now_ms)
    wake(tx, Channel.JOBS)
    return Created(job_id, True, tuple(job.id for job in before))


def _values(new: NewJob, key: str, run: int, now_ms: int) -> dict[str, Any]:
    return {
        "study_id": new.study_id,
        "series_id": new.series_id,
        "pipeline": new.parts.pipeline,
        "version": new.parts.version,
        "mode": new.mode,
        "line": new.line,
        "key": key,
        "run": run,
        "settings": dict(new.parts.settings),
        "weights": dict(new.parts.weights),
        "inputs": [list(ids) for ids in new.inputs],
        "input_count": sum(len(ids) for ids in new.inputs),
        "generation": new.generation,
        "state": new.state,
        "priority": PRIORITY_RANK[new.priority],
        "due_at": now_ms if new.due_at is None else new.due_at,
        "created_at": now_ms,
        "finished_at": now_ms if new.state in FINAL_JOB_STATES else None,
        **reason_columns(new.reason),
    }


def _supersede(tx: Connection, line: str, act: Act) -> list[Job]:
    """Supersede whatever stands in a line, done or not, and give those jobs as they were."""
    standing = select(jobs).where(jobs.c.line == line, jobs.c.state != JobState.SUPERSEDED)
    before = as_values(Job, tx.execute(standing.order_by(jobs.c.id)))
    for job in before:
        ended = {"finished_at": job.finished_at or act.now_ms}
        claims.move(tx, jobs, [jobs.c.id == job.id], JobState.SUPERSEDED, ended)
        how = TryEnd(outcome=JobState.SUPERSEDED)
        attempts.end(tx, Tried(job_id=job.id), act.now_ms, how)
    return before


def _name_successor(
    tx: Connection, before: Sequence[Job], job_id: int, inputs: Sequence[Sequence[int]]
) -> None:
    given = {number for ids in inputs for number in ids}
    # What a finished job came to stays readable in its attempts.
    for superseded in before:
        # A changed image is another row. Without any, an admin or another version wanted the job.
        fresh = len(given.difference(*superseded.inputs))
        told: dict[str, Parameter] = {"job": job_id}
        if fresh:
            told["n"] = fresh
        reason = reason_columns(Reason("job.superseded", told))
        successor = update(jobs).where(jobs.c.id == superseded.id)
        tx.execute(successor.values(superseded_by=job_id, **reason))


def get(tx: Connection, job_id: int) -> Job | None:
    """Give a job by its id."""
    row = tx.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else as_value(Job, row)


def of_study(tx: Connection, study_id: int) -> list[Job]:
    """Give a study's jobs, the oldest first."""
    query = select(jobs).where(jobs.c.study_id == study_id).order_by(jobs.c.id)
    return as_values(Job, tx.execute(query))


def analysed(tx: Connection, study_id: int) -> dict[str, str]:
    """Give, for each line of a study, the digest of the inputs of the job that stands there."""
    standing = [job for job in of_study(tx, study_id) if job.state is not JobState.SUPERSEDED]
    wanted = sorted({number for job in standing for ids in job.inputs for number in ids})
    given = inputs_room.of_ids(tx, wanted)
    known = {found.id: (found.sop_instance_uid, found.digest) for found in given}
    return {
        job.line: inputs_digest(known[n] for ids in job.inputs for n in ids if n in known)
        for job in standing
    }


def locked(tx: Connection, job_id: int) -> Job | None:
    """Lock a job's study and give the job as it then is."""
    study_id = tx.execute(select(jobs.c.study_id).where(jobs.c.id == job_id)).scalar()
    if study_id is None:
        return None
    lock(tx, study_id)
    return get(tx, job_id)


def keeps_images(tx: Connection, job: Job) -> bool:
    """Tell whether every image that a job was made over is still here: it can run again."""
    wanted = [number for ids in job.inputs for number in ids]
    there = [one for one in inputs_room.of_ids(tx, wanted) if one.purged_at is None]
    return len(there) == len(wanted)


def cancel(tx: Connection, job_id: int, act: Act) -> bool:
    """Cancel a job that is not final; who runs it stops at its next heartbeat.

    Returns
    -------
    False where it is final already.
    """
    job = locked(tx, job_id)
    if job is None:
        return False
    reason = Reason("job.cancelled", {"at": act.now_ms, "user": act.actor})
    values = {"finished_at": act.now_ms, **reason_columns(reason)}
    if not claims.move(tx, jobs, [jobs.c.id == job_id], JobState.CANCELLED, values):
        return False
    how = TryEnd(outcome=JobState.CANCELLED, reason=reason)
    attempts.end(tx, Tried(job_id=job_id), act.now_ms, how)
    _by_hand(tx, job, "job.cancelled_by_hand", act)
    return True


def retry(tx: Connection, job_id: int, act: Act) -> bool:
    """Queue a job again that failed, was declined or cancelled, or waits for its next try.

    Returns
    -------
    False where it is none of these, or where its images are not kept any more.
    """
    job = locked(tx, job_id)
    if job is None or job.state in {JobState.RUNNING, JobState.QUEUED}:
        return False
    if not keeps_images(tx, job):
        return False
    values = {
        "due_at": act.now_ms,
        "tries": 0,
        "lost_leases": 0,
        "finished_at": None,
        **reason_columns(None),
    }
    if not claims.move(tx, jobs, [jobs.c.id == job_id], JobState.QUEUED, values):
        return False
    _by_hand(tx, job, "job.retried", act)
    return True


def _by_hand(tx: Connection, job: Job, code: str, act: Act) -> None:
    subject = Subject(study_id=job.study_id, job_id=job.id)
    events.add(tx, Reason(code, {"pipeline": job.pipeline}), act, subject)
    refresh_outcome(tx, job.study_id, act.now_ms)
    wake(tx, Channel.JOBS)


def set_priority(tx: Connection, job_id: int, priority: Priority, act: Act) -> bool:
    """Set how urgent a job is that did not start; one held for its hours stays held."""
    job = locked(tx, job_id)
    waiting = (jobs.c.id == job_id, jobs.c.state.in_((JobState.HELD, JobState.QUEUED)))
    values = {"priority": PRIORITY_RANK[priority]}
    if job is None or not touched(tx, update(jobs).where(*waiting).values(**values)):
        return False
    what = Reason("job.priority_set", {"priority": priority.value})
    events.add(tx, what, act, Subject(study_id=job.study_id, job_id=job_id))
    wake(tx, Channel.JOBS)
    return True


def reprocess(tx: Connection, job_id: int, act: Act) -> Created | None:
    """Run a job's pipeline, as it is installed now, once more on the same inputs.

    Returns
    -------
    The new job, or None where this one is gone or not the last of its line, or where its images
    are not kept any more: what it came to would give way to a failure.
    """
    job = locked(tx, job_id)
    if job is None or job.state in {JobState.SUPERSEDED, JobState.HELD, JobState.QUEUED}:
        return None
    if not keeps_images(tx, job):
        return None
    installed = tx.execute(select(pipelines).where(pipelines.c.name == job.pipeline)).first()
    settled = job if installed is None or installed.broken else installed
    wanted = [number for ids in job.inputs for number in ids]
    given = inputs_room.of_ids(tx, wanted)
    last_run = select(func.max(jobs.c.run)).where(jobs.c.line == job.line)
    new = NewJob(
        study_id=job.study_id,
        series_id=job.series_id,
        line=job.line,
        mode=job.mode,
        parts=KeyParts(
            pipeline=job.pipeline,
            version=settled.version,
            settings=settled.settings,
            weights=settled.weights,
            inputs=tuple((found.sop_instance_uid, found.digest) for found in given),
        ),
        inputs=tuple(tuple(ids) for ids in job.inputs),
        generation=job.generation,
        priority=of_rank(job.priority),
        first_run=int(tx.execute(last_run).scalar_one()) + 1,
    )
    created = create(tx, new, act)
    what = Reason("study.reprocessed", {"pipeline": job.pipeline})
    events.add(tx, what, act, Subject(study_id=job.study_id, job_id=created.job_id))
    return created


def queue_ahead(tx: Connection, job: Job) -> int:
    """Give how many jobs a worker would take before one that is queued."""
    before = text("jobs.state = 'queued'")
    order = (
        (jobs.c.priority < job.priority)
        | ((jobs.c.priority == job.priority) & (jobs.c.due_at < job.due_at))
        | ((jobs.c.priority == job.priority) & (jobs.c.due_at == job.due_at) & (jobs.c.id < job.id))
    )
    query = select(func.count()).select_from(jobs).where(before, order)
    return int(tx.execute(query).scalar_one())


def running_count(tx: Connection) -> int:
    """Give how many jobs run now."""
    query = select(func.count()).select_from(jobs).where(text("jobs.state = 'running'"))
    return int(tx.execute(query).scalar_one())

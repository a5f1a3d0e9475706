"""One study with everything below it, as `worklist show` and its page tell it."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select, text

from dicomnode.rules.outcome import StudyStanding
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import JobState
from dicomnode.rules.waiting import QueueFacts, explain
from dicomnode.worklist import (
    associations,
    attempts,
    deliveries,
    events,
    jobs,
    outcomes,
    processes,
    results,
    routes,
    series,
    studies,
)
from dicomnode.worklist.associations import Association
from dicomnode.worklist.attempts import Attempt
from dicomnode.worklist.deliveries import Delivery
from dicomnode.worklist.events import Event
from dicomnode.worklist.jobs import Job
from dicomnode.worklist.results import Result
from dicomnode.worklist.routes import Route
from dicomnode.worklist.schema import instances as instance_rows
from dicomnode.worklist.schema import jobs as job_rows
from dicomnode.worklist.schema import studies as study_rows
from dicomnode.worklist.series import Series
from dicomnode.worklist.studies import Study

# A worker that gave no sign of life for so long is not counted on.
_ALIVE_MS = 60_000
_USUAL_OF = 20


@dataclass(frozen=True, slots=True)
class JobStory:
    """A job with its tries and results; its reason is its pipeline's where that keeps it back."""

    job: Job
    attempts: tuple[Attempt, ...]
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class DeliveryStory:
    """A delivery with its tries; its reason is the peer's where that keeps it back."""

    delivery: Delivery
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about a study; ``reasons`` says why it is not finished, or what became of it."""

    study: Study
    reasons: tuple[Reason, ...]
    series: tuple[Series, ...]
    jobs: tuple[JobStory, ...]
    deliveries: tuple[DeliveryStory, ...]
    routes: tuple[Route, ...]
    associations: tuple[Association, ...]
    events: tuple[Event, ...]
    pending_count: int


def of_study(tx: Connection, study_id: int, now_ms: int) -> Story | None:
    """Give a study's whole story, or None where it is gone."""
    study = studies.get(tx, study_id)
    if study is None:
        return None
    return Story(
        study=study,
        reasons=tuple(why(tx, study_id, now_ms)),
        series=tuple(series.of_study(tx, study_id)),
        jobs=_jobs(tx, study_id),
        deliveries=_deliveries(tx, study_id),
        routes=tuple(routes.of_study(tx, study_id)),
        associations=_associations(tx, study_id),
        events=tuple(events.of_study(tx, study_id)),
        pending_count=studies.pending_count(tx, study_id),
    )


def _jobs(tx: Connection, study_id: int) -> tuple[JobStory, ...]:
    found = jobs.of_study(tx, study_id)
    reasons = outcomes.job_reasons(tx, study_id)
    tries = attempts.of_jobs(tx, [job.id for job in found])
    made = results.of_study(tx, study_id)
    return tuple(
        JobStory(
            replace(job, reason=reasons[job.id]),
            tuple(one for one in tries if one.job_id == job.id),
            tuple(one for one in made if one.job_id == job.id),
        )
        for job in found
    )


def _deliveries(tx: Connection, study_id: int) -> tuple[DeliveryStory, ...]:
    found = deliveries.of_study(tx, study_id)
    reasons = outcomes.delivery_reasons(tx, study_id)
    tries = attempts.of_deliveries(tx, [delivery.id for delivery in found])
    return tuple(
        DeliveryStory(
            replace(delivery, reason=reasons[delivery.id]),
            tuple(one for one in tries if one.delivery_id == delivery.id),
        )
        for delivery in found
    )


def _associations(tx: Connection, study_id: int) -> tuple[Association, ...]:
    query = select(instance_rows.c.association_id).where(
        instance_rows.c.study_id == study_id, instance_rows.c.association_id.is_not(None)
    )
    ids = sorted(int(row.association_id) for row in tx.execute(query.distinct()))
    found = (associations.get(tx, association_id) for association_id in ids)
    return tuple(one for one in found if one is not None)


def standing(tx: Connection, study_id: int) -> StudyStanding | None:
    """Give what rules say about what may be done to a study; None where it is gone."""
    row = tx.execute(select(study_rows).where(study_rows.c.id == study_id)).first()
    return None if row is None else outcomes.standing(tx, row)


def why(tx: Connection, study_id: int, now_ms: int) -> list[Reason]:
    """Answer why a study is waiting, the first thing in its way first."""
    stands = standing(tx, study_id)
    if stands is None:
        return []
    queued = [job for job in jobs.of_study(tx, study_id) if job.state is JobState.QUEUED]
    return explain(stands, queue_facts(tx, queued[0], now_ms) if queued else None)


def queue_facts(tx: Connection, job: Job, now_ms: int) -> QueueFacts:
    """Give what stands before a queued job."""
    workers = processes.alive(tx, now_ms - _ALIVE_MS, "work")
    return QueueFacts(
        ahead=jobs.queue_ahead(tx, job),
        has_worker=bool(workers),
        worker_count=max(len(workers), 1),
        seconds_per_job=usual_seconds(tx, job.pipeline),
    )


def usual_seconds(tx: Connection, pipeline: str) -> float | None:
    """Give how long a pipeline's last jobs took on average; None where none is done."""
    last = (
        select((job_rows.c.finished_at - job_rows.c.started_at).label("took_ms"))
        .where(
            job_rows.c.pipeline == pipeline,
            job_rows.c.state == JobState.DONE,
            job_rows.c.started_at.is_not(None),
        )
        .order_by(job_rows.c.finished_at.desc())
        .limit(_USUAL_OF)
        .subquery()
    )
    took_ms = tx.execute(select(func.avg(last.c.took_ms))).scalar()
    return None if took_ms is None else float(took_ms) / 1000


def oldest_queued_at(tx: Connection) -> int | None:
    """Give since when the job that is due longest could have started."""
    query = select(func.min(job_rows.c.due_at)).where(text("jobs.state = 'queued'"))
    found = tx.execute(query).scalar()
    return None if found is None else int(found)

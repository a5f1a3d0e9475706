"""What may be deleted: only what is final and, where it was to be sent, as sure as its peer says.

Rows say first that a file is gone, then the file goes: what a crash leaves behind is found by
`reconciliation.known_names` as purged, and deleted at the next start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, delete, or_, select, text, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import (
    OPEN_JOB_STATES,
    DeliveryState,
    InstanceState,
    Outcome,
    Role,
    StudyState,
)
from dicomnode.worklist import events
from dicomnode.worklist.claims import Condition
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.rows import chunks
from dicomnode.worklist.schema import (
    attempts,
    commitments,
    deliveries,
    instances,
    jobs,
    notifications,
    results,
    routes,
    series,
    studies,
)
from dicomnode.worklist.studies import Study, lock

_FINAL_OUTCOMES = (Outcome.DONE, Outcome.NO_ROUTE)
_PURGEABLE = text("studies.purged_at IS NULL AND studies.state = 'complete'")


@dataclass(frozen=True, slots=True)
class Purged:
    """What rows say no more: these files are to be deleted after the commit."""

    images: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


def purgeable(tx: Connection, *, older_than_ms: int | None, limit: int = 50) -> list[int]:
    """Give studies whose images may go, priors and what starts no work first, then the oldest.

    Parameters
    ----------
    older_than_ms
        Only those where nothing happened since; None where room is needed at once.
    """
    conditions = _final()
    if older_than_ms is not None:
        conditions.append(studies.c.last_event_at <= older_than_ms)
    found: list[int] = []
    for role in ((studies.c.role != Role.SOURCE), (studies.c.role == Role.SOURCE)):
        query = select(studies.c.id).where(*conditions, role)
        order = (studies.c.last_event_at, studies.c.id)
        rows = tx.execute(query.order_by(*order).limit(limit - len(found)))
        found += [int(row.id) for row in rows]
    return found


def _final() -> list[Condition]:
    open_job = select(jobs.c.id).where(
        jobs.c.study_id == studies.c.id, jobs.c.state.in_(OPEN_JOB_STATES)
    )
    return [
        _PURGEABLE,
        studies.c.hold.is_(False),
        studies.c.outcome.in_(_FINAL_OUTCOMES),
        studies.c.routed_generation >= studies.c.generation,
        ~open_job.exists(),
        ~_unsure_delivery(deliveries.c.study_id == studies.c.id).exists(),
        ~select(instances.c.id)
        .where(
            text("instances.state = 'pending'"),
            instances.c.study_id == studies.c.id,
        )
        .exists(),
    ]


def _unsure_delivery(of: ColumnElement[bool]) -> Select[tuple[int]]:
    """Select deliveries that are not as sure yet as their peer is asked to make them."""
    return select(deliveries.c.id).where(
        of,
        deliveries.c.state.not_in((DeliveryState.CONFIRMED, DeliveryState.WITHDRAWN)),
        or_(deliveries.c.state != DeliveryState.SENT, deliveries.c.confirm_at.is_not(None)),
    )


def purge_images(tx: Connection, study_id: int, act: Act) -> Purged:
    """Say that a study's images are gone, if they still may go, and give their files."""
    lock(tx, study_id)
    if tx.execute(select(studies.c.id).where(*_final(), studies.c.id == study_id)).first() is None:
        return Purged()
    kept = (instances.c.study_id == study_id, instances.c.purged_at.is_(None))
    rows = tx.execute(select(instances.c.path, instances.c.received_at).where(*kept)).all()
    tx.execute(update(instances).where(*kept).values(purged_at=act.now_ms))
    tx.execute(update(studies).where(studies.c.id == study_id).values(purged_at=act.now_ms))
    oldest = min((row.received_at for row in rows), default=act.now_ms)
    told = {"n": len(rows), "age_s": (act.now_ms - oldest) // 1000}
    events.add(tx, Reason("study.purged", told), act, Subject(study_id=study_id))
    return Purged(images=tuple(row.path for row in rows))


def purge_results(tx: Connection, act: Act, *, older_than_ms: int, limit: int = 200) -> Purged:
    """Say that old results are gone whose job is final and whose deliveries are sure."""
    open_job = select(jobs.c.id).where(
        jobs.c.id == results.c.job_id, jobs.c.state.in_(OPEN_JOB_STATES)
    )
    held = select(studies.c.id).where(studies.c.id == results.c.study_id, studies.c.hold)
    query = (
        select(results.c.id, results.c.path, results.c.study_id)
        .where(
            text("results.purged_at IS NULL"),
            results.c.created_at <= older_than_ms,
            ~open_job.exists(),
            ~held.exists(),
            ~_unsure_delivery(deliveries.c.job_id == results.c.job_id).exists(),
        )
        .order_by(results.c.created_at, results.c.id)
        .limit(limit)
    )
    study_ids = sorted({int(row.study_id) for row in tx.execute(query)})
    lock(tx, *study_ids)
    # Again under the locks: a resend may have come between.
    rows = [row for row in tx.execute(query) if row.study_id in study_ids]
    for part in chunks([int(row.id) for row in rows]):
        gone = update(results).where(results.c.id.in_(part))
        tx.execute(gone.values(purged_at=act.now_ms))
    for study_id in sorted({int(row.study_id) for row in rows}):
        n = sum(row.study_id == study_id for row in rows)
        what = Reason("study.results_purged", {"n": n})
        events.add(tx, what, act, Subject(study_id=study_id))
    return Purged(results=tuple(row.path for row in rows))


def delete_study(tx: Connection, study_id: int, act: Act) -> Purged | None:
    """Forget a study with everything below it; its events stay.

    Returns
    -------
    The files to delete, or None where the study is held or not final.
    """
    found = lock(tx, study_id)
    if not found or not _may_delete(tx, found[0]):
        return None
    images = tuple(
        row.path
        for row in tx.execute(
            select(instances.c.path).where(
                instances.c.study_id == study_id, instances.c.purged_at.is_(None)
            )
        )
    )
    made = tuple(
        row.path
        for row in tx.execute(
            select(results.c.path).where(
                results.c.study_id == study_id, results.c.purged_at.is_(None)
            )
        )
    )
    _delete_rows(tx, study_id)
    told = {"n": len(images), "m": len(made)}
    data = {"study_instance_uid": found[0].study_instance_uid}
    events.add(tx, Reason("study.deleted", told), act, Subject(study_id=study_id), data)
    return Purged(images, made)


def _may_delete(tx: Connection, study: Study) -> bool:
    if study.hold or study.state is not StudyState.COMPLETE:
        return False
    open_job = (jobs.c.study_id == study.id, jobs.c.state.in_(OPEN_JOB_STATES))
    pending = (
        instances.c.study_id == study.id,
        instances.c.state == InstanceState.PENDING,
    )
    moving = (
        deliveries.c.study_id == study.id,
        deliveries.c.state.in_((DeliveryState.QUEUED, DeliveryState.SENDING)),
    )
    queries: Sequence[tuple[ColumnElement[bool], ...]] = (open_job, pending, moving)
    ids = (jobs.c.id, instances.c.id, deliveries.c.id)
    return all(
        tx.execute(select(column).where(*where).limit(1)).first() is None
        for column, where in zip(ids, queries, strict=True)
    )


def _delete_rows(tx: Connection, study_id: int) -> None:
    """Delete from the leaves up, as the foreign keys want it."""
    job_ids = select(jobs.c.id).where(jobs.c.study_id == study_id)
    delivery_ids = select(deliveries.c.id).where(deliveries.c.study_id == study_id)
    tx.execute(delete(commitments).where(commitments.c.delivery_id.in_(delivery_ids)))
    tx.execute(delete(attempts).where(attempts.c.delivery_id.in_(delivery_ids)))
    tx.execute(delete(attempts).where(attempts.c.job_id.in_(job_ids)))
    tx.execute(delete(notifications).where(notifications.c.study_id == study_id))
    tx.execute(delete(notifications).where(notifications.c.job_id.in_(job_ids)))
    tx.execute(delete(routes).where(routes.c.study_id == study_id))
    of_study = update(deliveries).where(deliveries.c.study_id == study_id)
    tx.execute(of_study.values(after_id=None))
    tx.execute(update(jobs).where(jobs.c.study_id == study_id).values(superseded_by=None))
    for table in (deliveries, results, jobs, instances, series):
        tx.execute(delete(table).where(table.c.study_id == study_id))
    tx.execute(delete(studies).where(studies.c.id == study_id))

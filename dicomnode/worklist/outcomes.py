"""A study's outcome and its worst reason, computed in the transaction that moved something."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, text, update

from dicomnode.rules.outcome import (
    DecisionStanding,
    DeliveryStanding,
    JobStanding,
    StudyStanding,
    outcome,
)
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Decision, DeliveryState, JobState, Mode, Role, StudyState
from dicomnode.worklist.rows import reason_columns
from dicomnode.worklist.schema import (
    deliveries,
    instances,
    jobs,
    peers,
    pipelines,
    routes,
    studies,
)

_PENDING = text("instances.state = 'pending'")


def refresh_outcome(tx: Connection, study_id: int, now_ms: int | None = None) -> None:
    """Compute a study's outcome and reason again; the caller holds the study's lock.

    Parameters
    ----------
    now_ms
        When what moved is news: becomes the study's ``last_event_at``.
    """
    row = tx.execute(select(studies).where(studies.c.id == study_id)).first()
    if row is None:
        return
    became, reason = outcome(standing(tx, row))
    values: dict[str, Any] = {"outcome": became, **reason_columns(reason)}
    if now_ms is not None:
        values["last_event_at"] = now_ms
    tx.execute(update(studies).where(studies.c.id == study_id).values(**values))


def standing(tx: Connection, study: Row[Any]) -> StudyStanding:
    """Give everything that a study's outcome depends on; ``study`` is its row."""
    pending = select(func.count()).select_from(instances)
    return StudyStanding(
        state=StudyState(study.state),
        role=Role(study.role),
        reason=_waiting(study),
        pending_count=tx.execute(
            pending.where(_PENDING, instances.c.study_id == study.id)
        ).scalar_one(),
        instance_count=study.instance_count,
        is_routed=study.routed_generation >= study.generation,
        jobs=_jobs(tx, study.id),
        deliveries=_deliveries(tx, study.id),
        decisions=_decisions(tx, study.id),
    )


def _waiting(study: Row[Any]) -> Reason:
    said = Reason.of_row(study.waiting_code, study.waiting_parameters)
    if said is not None:
        return said
    came = {"peer": study.peer, "n": study.instance_count, "last_at": study.last_received_at}
    return Reason("study.receiving", came)


def _jobs(tx: Connection, study_id: int) -> tuple[JobStanding, ...]:
    return tuple(
        JobStanding(JobState(row.state), Mode(row.mode), job_reason(row))
        for row in _job_rows(tx, study_id)
    )


def job_reasons(tx: Connection, study_id: int) -> dict[int, Reason | None]:
    """Give what each job of a study says, or its pipeline's switch where that holds it back."""
    return {row.id: job_reason(row) for row in _job_rows(tx, study_id)}


def _job_rows(tx: Connection, study_id: int) -> Sequence[Row[Any]]:
    query = (
        select(jobs, pipelines.c.suspended_by, pipelines.c.suspended_at)
        .add_columns(func.coalesce(pipelines.c.suspended, False).label("suspended"))
        .select_from(jobs.outerjoin(pipelines, pipelines.c.name == jobs.c.pipeline))
        .where(jobs.c.study_id == study_id)
        .order_by(jobs.c.id)
    )
    return tx.execute(query).all()


def job_reason(row: Row[Any]) -> Reason | None:
    """Give a job's reason; a suspended pipeline's stands before its own while it waits."""
    if row.suspended and row.state in {JobState.QUEUED, JobState.HELD}:
        told = {"pipeline": row.pipeline, "since_at": row.suspended_at, "user": row.suspended_by}
        return Reason("job.suspended", told)
    return Reason.of_row(row.reason_code, row.reason_parameters)


def _deliveries(tx: Connection, study_id: int) -> tuple[DeliveryStanding, ...]:
    return tuple(
        DeliveryStanding(DeliveryState(row.state), delivery_reason(row))
        for row in _delivery_rows(tx, study_id)
    )


def delivery_reasons(tx: Connection, study_id: int) -> dict[int, Reason | None]:
    """Give what each delivery of a study says, or its peer where that holds it back."""
    return {row.id: delivery_reason(row) for row in _delivery_rows(tx, study_id)}


def _delivery_rows(tx: Connection, study_id: int) -> Sequence[Row[Any]]:
    query = (
        select(deliveries, *PEER_COLUMNS)
        .select_from(deliveries.outerjoin(peers, peers.c.name == deliveries.c.peer))
        .where(deliveries.c.study_id == study_id)
        .order_by(deliveries.c.id)
    )
    return tx.execute(query).all()


PEER_COLUMNS = (
    peers.c.suspended_by,
    peers.c.suspended_at,
    peers.c.reason_code.label("peer_reason_code"),
    peers.c.reason_parameters.label("peer_reason_parameters"),
    func.coalesce(peers.c.suspended, False).label("suspended"),
    func.coalesce(peers.c.down, False).label("down"),
)


def delivery_reason(row: Row[Any]) -> Reason | None:
    """Give a delivery's reason; the peer's stands before its own while it waits for the peer."""
    if row.state == DeliveryState.QUEUED and row.suspended:
        told = {"peer": row.peer, "since_at": row.suspended_at, "user": row.suspended_by}
        return Reason("delivery.suspended", told)
    if row.state == DeliveryState.QUEUED and row.down:
        return Reason.of_row(row.peer_reason_code, row.peer_reason_parameters)
    return Reason.of_row(row.reason_code, row.reason_parameters)


def _decisions(tx: Connection, study_id: int) -> tuple[DecisionStanding, ...]:
    query = select(routes).where(routes.c.study_id == study_id).order_by(routes.c.id)
    return tuple(
        DecisionStanding(
            Decision(row.decision), Reason.of_row(row.reason_code, row.reason_parameters)
        )
        for row in tx.execute(query)
    )

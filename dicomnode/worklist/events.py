"""What happened, when, to what and by whom: rows that are only ever added."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from dicomnode.rules.reasons import Reason
from dicomnode.worklist.rows import as_values, inserted, reason_columns
from dicomnode.worklist.schema import events

# Who acts where no person does.
NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an event happened to."""

    study_id: int | None = None
    job_id: int | None = None
    delivery_id: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One row; ``reason`` holds the sentence's code and parameters where there is one."""

    id: int
    at: int
    what: str
    study_id: int | None
    job_id: int | None
    delivery_id: int | None
    actor: str
    reason: Reason | None
    data: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does something, when, and why where that is asked for."""

    now_ms: int
    actor: str = NODE
    why: str | None = None


def add(
    tx: Connection,
    what: Reason,
    act: Act,
    subject: Subject = Subject(),
    data: Mapping[str, object] | None = None,
) -> int:
    """Write down what happened and give the event's id.

    ``what`` is a sentence of the catalogue; who acted and why are added to its parameters.
    """
    parameters = {"user": act.actor, **what.parameters}
    if act.why:
        parameters["why"] = act.why
    values = {
        "at": act.now_ms,
        "what": what.code,
        "study_id": subject.study_id,
        "job_id": subject.job_id,
        "delivery_id": subject.delivery_id,
        "actor": act.actor[:64],
        "data": None if data is None else dict(data),
        **reason_columns(Reason(what.code, parameters)),
    }
    return inserted(tx, events, values)


def of_study(tx: Connection, study_id: int, limit: int = 500) -> list[Event]:
    """Give a study's events, the newest first."""
    query = select(events).where(events.c.study_id == study_id).order_by(events.c.id.desc())
    return as_values(Event, tx.execute(query.limit(limit)))


def after(tx: Connection, event_id: int, limit: int = 500) -> list[Event]:
    """Give the events that followed one, the oldest first."""
    query = select(events).where(events.c.id > event_id).order_by(events.c.id).limit(limit)
    return as_values(Event, tx.execute(query))


def newest(tx: Connection) -> int:
    """Give the newest event's id, or 0: whether anything changed is one look at it."""
    return int(tx.execute(select(func.max(events.c.id))).scalar() or 0)

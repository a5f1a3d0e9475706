"""Lists and searches over many studies: each page by an index, from the key of the last row.

No page counts what it does not show, none skips rows by number: at a million rows that is what
keeps a page under milliseconds.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, func, select, text, tuple_

from dicomnode.rules.states import JobState, Outcome, StudyState
from dicomnode.worklist.claims import Condition
from dicomnode.worklist.jobs import Job
from dicomnode.worklist.keys import prefix_end, search_key, storable
from dicomnode.worklist.rows import as_values
from dicomnode.worklist.schema import events, jobs, studies
from dicomnode.worklist.studies import Study

OPEN_OUTCOMES = (Outcome.WAITING, Outcome.IN_PROGRESS, Outcome.NEEDS_ATTENTION)

Key = tuple[int, int]
"""Where a page goes on: the sorted-by time of the last row, and its id."""


class Order(StrEnum):
    """What a list is sorted by."""

    RECEIVED = "-received"  # newest first
    EVENT = "-event"  # last changed first
    OLDEST = "received"  # longest waiting first


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list shows; an empty or None filter lets everything pass, all must hold.

    ``open_since`` shows open studies of any age and finished ones received since that time: the
    page's default.
    """

    outcomes: tuple[Outcome, ...] = ()
    state: StudyState | None = None
    modality: str | None = None
    peer: str | None = None
    pipeline: str | None = None
    reason: str | None = None
    since_ms: int | None = None
    open_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some studies, and the key from which the next page goes on; None at the end."""

    studies: tuple[Study, ...]
    next_key: Key | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many studies are open, by what is to be done, and how old the oldest is."""

    receiving: int
    waiting: int
    in_progress: int
    needs_attention: int
    oldest_received_at: int | None


def list_studies(
    tx: Connection,
    filters: Filters | None = None,
    *,
    order: Order = Order.RECEIVED,
    after: Key | None = None,
    limit: int = 50,
) -> Page:
    """Give a page of studies; ``after`` is the page before's ``next_key``."""
    wanted = filters or Filters()
    column = studies.c.last_event_at if order is Order.EVENT else studies.c.last_received_at
    conditions = _conditions(wanted)
    if after is not None:
        key = tuple_(column, studies.c.id)
        conditions.append(key > after if order is Order.OLDEST else key < after)

    def page_of(driver: ColumnElement[bool] | None) -> list[Study]:
        query = select(studies).where(*conditions)
        if driver is not None:
            query = query.where(driver)
        return as_values(Study, tx.execute(_sorted(query, column, order).limit(limit + 1)))

    # One query for each value, each from its own index in order, then merged: a list of values in
    # one query would have to sort everything that has one of them.
    parts = [page_of(driver) for driver in _drivers(tx, wanted)]
    return _merged(parts, order, limit)


def _sorted(query: Select[Any], column: Column[int], order: Order) -> Select[Any]:
    if order is Order.OLDEST:
        return query.order_by(column, studies.c.id)
    return query.order_by(column.desc(), studies.c.id.desc())


def _merged(parts: Sequence[Sequence[Study]], order: Order, limit: int) -> Page:
    def key(study: Study) -> Key:
        return (study.last_event_at if order is Order.EVENT else study.last_received_at, study.id)

    newest_first = order is not Order.OLDEST
    merged = list(heapq.merge(*parts, key=key, reverse=newest_first))
    seen: dict[int, Study] = {study.id: study for study in merged}
    found = list(seen.values())
    shown = tuple(found[:limit])
    return Page(shown, key(shown[-1]) if len(found) > limit and shown else None)


def _drivers(tx: Connection, wanted: Filters) -> Sequence[ColumnElement[bool] | None]:
    """Give the alternatives whose index the list is read from, the most selective filter first."""
    if wanted.reason is not None:
        return [studies.c.reason_code == wanted.reason]
    if wanted.outcomes:
        return [studies.c.outcome == outcome for outcome in wanted.outcomes]
    if wanted.open_since_ms is not None:
        by_outcome: list[ColumnElement[bool]] = [studies.c.outcome == one for one in OPEN_OUTCOMES]
        return [*by_outcome, studies.c.last_received_at >= wanted.open_since_ms]
    if wanted.modality is not None:
        return [studies.c.modalities == found for found in _modalities(tx, wanted.modality)]
    if wanted.peer is not None:
        return [studies.c.peer == wanted.peer]
    return [None]


def _conditions(wanted: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        found.append(studies.c.state == wanted.state)
    if wanted.outcomes and wanted.reason is not None:
        found.append(studies.c.outcome.in_(wanted.outcomes))
    if wanted.modality is not None:
        padded = " " + studies.c.modalities + " "
        found.append(padded.contains(f" {wanted.modality} ", autoescape=True))
    if wanted.peer is not None:
        found.append(studies.c.peer == wanted.peer)
    if wanted.since_ms is not None:
        found.append(studies.c.last_received_at >= wanted.since_ms)
    if wanted.pipeline is not None:
        of_pipeline = select(jobs.c.id).where(
            jobs.c.study_id == studies.c.id, jobs.c.pipeline == wanted.pipeline
        )
        found.append(of_pipeline.exists())
    return found


def _modalities(tx: Connection, modality: str) -> list[str]:
    """Give the combinations of modalities that stand in the table and hold one.

    Walks the index from value to value: there are dozens, over any number of studies.
    """
    found: list[str] = []
    last = ""
    while True:
        query = select(func.min(studies.c.modalities)).where(studies.c.modalities > last)
        value = tx.execute(query).scalar()
        if value is None:
            return found
        last = str(value)
        if modality in last.split():
            found.append(last)


def find_studies(
    tx: Connection, typed: str, *, after_id: int | None = None, limit: int = 50
) -> list[Study]:
    """Give studies whose patient ID, name or accession number begins so, or with this UID or id.

    The newest first; ``after_id`` is the id of the last one seen.
    """
    key = search_key(typed)
    if not key:
        return []
    found: dict[int, Study] = {}
    for column in (studies.c.patient_id_key, studies.c.patient_name_key, studies.c.accession_key):
        query = select(studies).where(column >= key, column < prefix_end(key))
        found.update(_found(tx, query, after_id, limit))
    exact = select(studies).where(studies.c.study_instance_uid == storable(typed).strip())
    found.update(_found(tx, exact, after_id, limit))
    newest = sorted(found.values(), key=lambda study: -study.id)
    return newest[:limit]


def _found(
    tx: Connection, query: Select[Any], after_id: int | None, limit: int
) -> Iterable[tuple[int, Study]]:
    if after_id is not None:
        query = query.where(studies.c.id < after_id)
    rows = tx.execute(query.order_by(studies.c.id.desc()).limit(limit))
    return [(study.id, study) for study in as_values(Study, rows)]


def counts(tx: Connection) -> Counts:
    """Give how many studies are open; looks at these only, by index."""
    by_outcome = {
        outcome: int(tx.execute(_count(studies.c.outcome == outcome)).scalar_one())
        for outcome in OPEN_OUTCOMES
    }
    oldest = [
        tx.execute(select(func.min(studies.c.last_received_at)).where(is_open)).scalar()
        for is_open in (studies.c.outcome == outcome for outcome in OPEN_OUTCOMES)
    ]
    return Counts(
        receiving=int(tx.execute(_count(text("studies.state = 'receiving'"))).scalar_one()),
        waiting=by_outcome[Outcome.WAITING],
        in_progress=by_outcome[Outcome.IN_PROGRESS],
        needs_attention=by_outcome[Outcome.NEEDS_ATTENTION],
        oldest_received_at=min((at for at in oldest if at is not None), default=None),
    )


def _count(condition: Condition) -> Select[int]:
    return select(func.count()).select_from(studies).where(condition)


def finished_since(tx: Connection, since_ms: int) -> dict[str, int]:
    """Give how many studies that came since a time have which outcome."""
    query = (
        select(studies.c.outcome, func.count())
        .where(studies.c.last_received_at >= since_ms)
        .group_by(studies.c.outcome)
    )
    return {str(row[0]): int(row[1]) for row in tx.execute(query)}


def list_jobs(
    tx: Connection, state: JobState, *, after: Key | None = None, limit: int = 50
) -> list[Job]:
    """Give jobs in a state, the newest first, from after the (created_at, id) of the last seen."""
    query = select(jobs).where(jobs.c.state == state)
    if after is not None:
        query = query.where(tuple_(jobs.c.created_at, jobs.c.id) < after)
    order = (jobs.c.created_at.desc(), jobs.c.id.desc())
    return as_values(Job, tx.execute(query.order_by(*order).limit(limit)))


def changed_since(tx: Connection, event_id: int, limit: int = 200) -> list[int]:
    """Give the studies that events after one name: what a page has to draw again."""
    query = (
        select(events.c.study_id)
        .where(events.c.id > event_id, events.c.study_id.is_not(None))
        .distinct()
        .limit(limit)
    )
    return sorted(int(row.study_id) for row in tx.execute(query))

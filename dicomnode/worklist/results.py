"""Objects that jobs made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from dicomnode.rules.states import ResultKind
from dicomnode.worklist.rows import as_values, chunks
from dicomnode.worklist.schema import results


@dataclass(frozen=True, slots=True)
class Result:
    """One object, in one form; its file stands below ``out`` unless it was purged."""

    id: int
    job_id: int
    study_id: int
    kind: ResultKind
    form: str
    number: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    series_number: int | None
    path: str
    byte_count: int
    digest: str
    checks: Mapping[str, Any]
    created_at: int
    purged_at: int | None


def is_ours(tx: Connection, sop_instance_uid: str) -> bool:
    """Tell whether this node made an object."""
    query = select(results.c.id).where(results.c.sop_instance_uid == sop_instance_uid)
    return tx.execute(query).first() is not None


def of_job(tx: Connection, job_id: int) -> list[Result]:
    """Give a job's results in the order in which they are sent."""
    query = select(results).where(results.c.job_id == job_id)
    return as_values(Result, tx.execute(query.order_by(results.c.number, results.c.id)))


def of_study(tx: Connection, study_id: int) -> list[Result]:
    """Give every result of a study, the newest job last."""
    query = select(results).where(results.c.study_id == study_id)
    order = (results.c.job_id, results.c.number, results.c.id)
    return as_values(Result, tx.execute(query.order_by(*order)))


def of_ids(tx: Connection, result_ids: Sequence[int]) -> list[Result]:
    """Give results in the order of their ids as given; what is gone is left out."""
    found: dict[int, Result] = {}
    for part in chunks(result_ids):
        rows = tx.execute(select(results).where(results.c.id.in_(part)))
        found.update({result.id: result for result in as_values(Result, rows)})
    return [found[result_id] for result_id in result_ids if result_id in found]


def known_paths(tx: Connection, paths: Iterable[str]) -> set[str]:
    """Give those paths that a row which is not purged names: such a file is never discarded."""
    known: set[str] = set()
    for part in chunks(list(paths)):
        query = select(results.c.path).where(
            results.c.path.in_(part), results.c.purged_at.is_(None)
        )
        known.update(str(row.path) for row in tx.execute(query))
    return known

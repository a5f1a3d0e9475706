"""Series: what rules match on, and what pipelines found out about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from dicomnode.rules.states import Role
from dicomnode.worklist.rows import as_value, as_values
from dicomnode.worklist.schema import series, studies
from dicomnode.worklist.signals import Channel, wake


@dataclass(frozen=True, slots=True)
class Series:
    """One series; ``attributes`` are its first image's by keyword, each a list of text."""

    id: int
    study_id: int
    series_instance_uid: str
    modality: str
    role: Role
    series_number: int | None
    series_description: str
    body_part_examined: str
    instance_count: int
    image_count: int
    attributes: Mapping[str, list[str]]
    facts: Mapping[str, Any]
    first_received_at: int
    last_received_at: int


def get(tx: Connection, series_id: int) -> Series | None:
    """Give a series by its id."""
    row = tx.execute(select(series).where(series.c.id == series_id)).first()
    return None if row is None else as_value(Series, row)


def of_study(tx: Connection, study_id: int) -> list[Series]:
    """Give a study's series in the order in which they came."""
    query = select(series).where(series.c.study_id == study_id).order_by(series.c.id)
    return as_values(Series, tx.execute(query))


def add_facts(tx: Connection, series_id: int, facts: Mapping[str, Any]) -> bool:
    """Keep what an analysis found out about a series; the study's lock is held.

    Returns
    -------
    Whether anything is new: then the study is routed again.
    """
    found = get(tx, series_id)
    if found is None:
        return False
    merged = {**found.facts, **facts}
    if merged == dict(found.facts):
        return False
    tx.execute(update(series).where(series.c.id == series_id).values(facts=merged))
    raised = {"generation": studies.c.generation + 1}
    tx.execute(update(studies).where(studies.c.id == found.study_id).values(**raised))
    wake(tx, Channel.ROUTES)
    return True

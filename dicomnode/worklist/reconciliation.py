"""Files and rows made to agree before a door opens.

A file without a row was never acknowledged, or its row was not committed in time: it is taken in
again. A row without a file above the watermark was never acknowledged; below it, that is an event.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, func, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import InstanceState, Role
from dicomnode.worklist import events, intake
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.instances import get
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import chunks
from dicomnode.worklist.schema import events as events_table
from dicomnode.worklist.schema import instances, node, quarantine, series, studies
from dicomnode.worklist.studies import lock


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Which files rows name: those to keep, and those whose purge was not finished."""

    kept: frozenset[str]
    purged: frozenset[str]


@dataclass(frozen=True, slots=True)
class NamedFile:
    """An instance's row and the file that it names."""

    instance_id: int
    path: str
    is_proved: bool


def known_names(tx: Connection, names: Iterable[str]) -> KnownNames:
    """Tell which files below ``in`` a row names; what is in neither set is an orphan."""
    kept: set[str] = set()
    purged: set[str] = set()
    for part in chunks(list(names)):
        query = select(instances.c.path, instances.c.purged_at)
        for row in tx.execute(query.where(instances.c.path.in_(part))):
            (kept if row.purged_at is None else purged).add(row.path)
        aside = select(quarantine.c.path, quarantine.c.state)
        for row in tx.execute(aside.where(quarantine.c.path.in_(part))):
            (kept if row.state == "held" else purged).add(row.path)
    return KnownNames(frozenset(kept), frozenset(purged - kept))


def watermark(tx: Connection) -> int:
    """Give the id up to which every instance had its file when a start-up proved it."""
    return int(tx.execute(select(node.c.proved_instance_id)).scalar_one())


def named_files(tx: Connection, after_id: int = 0, limit: int = 1000) -> list[NamedFile]:
    """Give the rows that must have a file, by id from after one: to be looked for on disk."""
    proved = watermark(tx)
    query = (
        select(instances.c.id, instances.c.path)
        .where(instances.c.id > after_id, instances.c.purged_at.is_(None))
        .order_by(instances.c.id)
        .limit(limit)
    )
    return [NamedFile(row.id, row.path, row.id <= proved) for row in tx.execute(query)]


def prove(tx: Connection, instance_id: int) -> None:
    """Raise the watermark: every row up to this one has its file."""
    further = (node.c.proved_instance_id < instance_id,)
    tx.execute(update(node).where(*further).values(proved_instance_id=instance_id))


def drop_unacknowledged(tx: Connection, instance_id: int, act: Act) -> bool:
    """Delete a row above the watermark whose file is missing: its sender was told nothing.

    Returns
    -------
    False where it may not be dropped, because it was proved or another revision leans on it; then
    it is reported as missing.
    """
    found = get(tx, instance_id)
    if found is None:
        return True
    lock(tx, found.study_id)
    same = select(func.count()).select_from(instances)
    revisions = tx.execute(
        same.where(instances.c.sop_instance_uid == found.sop_instance_uid)
    ).scalar_one()
    is_alone = revisions == 1 or found.state is InstanceState.PENDING
    if instance_id <= watermark(tx) or not is_alone:
        report_missing(tx, instance_id, act)
        return False
    tx.execute(delete(instances).where(instances.c.id == instance_id))
    if found.state is InstanceState.CURRENT:
        _uncount(tx, found.study_id, found.series_id)
    refresh_outcome(tx, found.study_id, act.now_ms)
    return True


def _uncount(tx: Connection, study_id: int, series_id: int) -> None:
    """Count a series and a study anew; what is empty is deleted."""
    current = (instances.c.state == InstanceState.CURRENT,)
    counted = select(
        func.count(),
        func.coalesce(func.sum(case((instances.c.is_image, 1), else_=0)), 0),
        func.coalesce(func.sum(instances.c.byte_count), 0),
    )
    in_series = tx.execute(counted.where(*current, instances.c.series_id == series_id)).one()
    tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(instance_count=in_series[0], image_count=in_series[1])
    )
    in_study = counted.where(*current, instances.c.study_id == study_id)
    source = tx.execute(in_study.where(instances.c.role == Role.SOURCE)).one()
    values = {"instance_count": source[0], "image_count": source[1], "byte_count": source[2]}
    raised = {"generation": studies.c.generation + 1}
    tx.execute(update(studies).where(studies.c.id == study_id).values(**values, **raised))
    intake.forget_empty_study(tx, study_id)


def report_missing(tx: Connection, instance_id: int, act: Act) -> None:
    """Write down, once, that the file of an acknowledged image is gone; its row stays."""
    found = get(tx, instance_id)
    if found is None:
        return
    data = {"instance_id": instance_id}
    told = select(events_table.c.data).where(
        events_table.c.what == "node.file_missing", events_table.c.study_id == found.study_id
    )
    if any(row.data == data for row in tx.execute(told)):
        return
    subject = Subject(study_id=found.study_id)
    events.add(tx, Reason("node.file_missing", {"n": 1}), act, subject, data)

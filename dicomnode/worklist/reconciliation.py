"""Files and rows made to agree, before a door opens and whenever lost bytes come again.

A file without a row was never acknowledged, or its row was not committed in time: it is taken in
again. A row without a file lost it, for the file was durable before the row was written: that is an
event, never a dropped row, and the same bytes, sent again, take the lost file's place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.worklist import events
from dicomnode.worklist.arrivals import Arrival
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.instances import of_ids
from dicomnode.worklist.quarantine import DELETED, HELD
from dicomnode.worklist.rows import chunks, touched
from dicomnode.worklist.schema import events as events_table
from dicomnode.worklist.schema import instances, quarantine
from dicomnode.worklist.studies import lock

_MISSING, _RESTORED = "node.file_missing", "node.file_restored"


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


def known_names(tx: Connection, names: Iterable[str]) -> KnownNames:
    """Tell which files below ``in`` a row names; what is in neither set is an orphan."""
    kept: set[str] = set()
    purged: set[str] = set()
    for part in chunks(list(names)):
        query = select(instances.c.path, instances.c.purged_at)
        for row in tx.execute(query.where(instances.c.path.in_(part))):
            (kept if row.purged_at is None else purged).add(row.path)
        aside = select(quarantine.c.path, quarantine.c.state)
        # What was released is its instance's file; where it has none, somebody died in between.
        settled = aside.where(quarantine.c.path.in_(part), quarantine.c.state.in_((HELD, DELETED)))
        for row in tx.execute(settled):
            (kept if row.state == HELD else purged).add(row.path)
    return KnownNames(frozenset(kept), frozenset(purged - kept))


def named_files(tx: Connection, after_id: int = 0, limit: int = 1000) -> list[NamedFile]:
    """Give the rows that must have a file, by id from after one: to be looked for on disk."""
    query = (
        select(instances.c.id, instances.c.path)
        .where(instances.c.id > after_id, instances.c.purged_at.is_(None))
        .order_by(instances.c.id)
        .limit(limit)
    )
    return [NamedFile(row.id, row.path) for row in tx.execute(query)]


def report_missing(tx: Connection, instance_ids: Sequence[int], act: Act) -> None:
    """Write down, once for each, that the files of acknowledged images are gone; the rows stay."""
    found = of_ids(tx, instance_ids)
    told = _told_missing(tx, sorted({one.study_id for one in found}))
    for one in found:
        if one.id not in told:
            subject, data = Subject(study_id=one.study_id), {"instance_id": one.id}
            events.add(tx, Reason(_MISSING, {"n": 1}), act, subject, data)


def _told_missing(tx: Connection, study_ids: Sequence[int]) -> set[int]:
    """Give the instances of which the last that was told is that their files are missing."""
    last: dict[int, str] = {}
    for part in chunks(study_ids):
        query = select(events_table.c.what, events_table.c.data).where(
            events_table.c.what.in_((_MISSING, _RESTORED)), events_table.c.study_id.in_(part)
        )
        for row in tx.execute(query.order_by(events_table.c.id)):
            last[row.data.get("instance_id", 0)] = row.what
    return {instance_id for instance_id, what in last.items() if what == _MISSING}


def restore(tx: Connection, arrival: Arrival, broken: str, act: Act) -> bool:
    """Give the row whose file is gone or damaged the file of an arrival with the same bytes.

    Running it again with the same arrival changes nothing, so it may follow a commit whose answer
    was lost.

    Returns
    -------
    False where nothing asks for the arrival's file: the row has a whole one meanwhile, or is to
    have none.
    """
    if not known_names(tx, [arrival.path]).kept:
        return _restore_instance(tx, arrival, broken, act) or _restore_aside(
            tx, arrival, broken, act
        )
    return True


def _restore_instance(tx: Connection, arrival: Arrival, broken: str, act: Act) -> bool:
    has_it = (
        instances.c.path == broken,
        instances.c.digest == arrival.digest,
        instances.c.purged_at.is_(None),
    )
    row = tx.execute(select(instances.c.id, instances.c.study_id).where(*has_it)).first()
    if row is None:
        return False
    lock(tx, row.study_id)
    moving = update(instances).where(instances.c.id == row.id, *has_it)
    if not touched(tx, moving.values(path=arrival.path, byte_count=arrival.byte_count)):
        return False
    subject, data = Subject(study_id=row.study_id), {"instance_id": row.id}
    events.add(tx, Reason(_RESTORED, {"n": 1}), act, subject, data)
    return True


def _restore_aside(tx: Connection, arrival: Arrival, broken: str, act: Act) -> bool:
    has_it = (
        quarantine.c.path == broken,
        quarantine.c.digest == arrival.digest,
        quarantine.c.state == HELD,
    )
    row = tx.execute(select(quarantine.c.id, quarantine.c.study_id).where(*has_it)).first()
    if row is None:
        return False
    values = {
        "path": arrival.path,
        "byte_count": arrival.byte_count,
        "arrival": arrival.storable().to_data(),
    }
    if not touched(tx, update(quarantine).where(*has_it).values(**values)):
        return False
    subject, data = Subject(study_id=row.study_id), {"quarantine_id": row.id}
    events.add(tx, Reason(_RESTORED, {"n": 1}), act, subject, data)
    return True

"""Before the door opens: files and rows are brought together, whatever instant the node died at.

A file without a row was never acknowledged: it is adopted as if it had just come. A row whose file
is missing, above the last proved row, was never acknowledged either: it is dropped, and its sender
sends again. Below that a missing file is reported and its row kept: it was acknowledged once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dicomnode.dicom.files import FileMeta, data_set_digest, data_set_offset
from dicomnode.errors import UnreadableError
from dicomnode.stages.receive.take_in import Received, TakeIn
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import associations, reconciliation
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found: files adopted and deleted, rows dropped and reported, associations lost."""

    adopted: int
    deleted: int
    dropped: int
    missing: int
    lost: int


def reconcile(worklist: Worklist, storage: Storage, take_in: TakeIn) -> Reconciled:
    """Make files and rows agree; the receiver's lock is held and nothing is received meanwhile.

    Raises
    ------
    DatabaseUnavailableError, StorageError
        When either cannot be asked; running it again goes on where it stopped.
    """
    storage.clear_arrivals()
    adopted, deleted = _settle_files(worklist, storage, take_in)
    dropped, missing = _settle_rows(worklist, storage)
    now_ms = worklist.now()
    with worklist.write() as tx:
        lost = associations.lose_open(tx, now_ms)
    found = Reconciled(adopted, deleted, dropped, missing, lost)
    if found != Reconciled(0, 0, 0, 0, 0):
        logger("receive").warning(
            "reconciled",
            adopted=adopted,
            deleted=deleted,
            dropped=dropped,
            missing=missing,
            lost=lost,
        )
    return found


def _settle_files(worklist: Worklist, storage: Storage, take_in: TakeIn) -> tuple[int, int]:
    adopted = deleted = 0
    for names in _chunks(storage.kept_names()):
        with worklist.read() as tx:
            known = reconciliation.known_names(tx, names)
        for name in names:
            if name in known.purged:
                storage.delete_kept(name)
                deleted += 1
            elif name not in known.kept:
                take_in.adopt(name, _received(storage, name))
                adopted += 1
    return adopted, deleted


def _received(storage: Storage, name: str) -> Received:
    path = storage.kept(name)
    try:
        _, meta = data_set_offset(path)
        digest = data_set_digest(path)
    except UnreadableError:
        meta, digest = FileMeta("", "", ""), ""
    return Received(
        path, meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, digest
    )


def _settle_rows(worklist: Worklist, storage: Storage) -> tuple[int, int]:
    dropped = missing = last_id = 0
    while True:
        with worklist.read() as tx:
            rows = reconciliation.named_files(tx, last_id, _CHUNK)
        if not rows:
            break
        last_id = rows[-1].instance_id
        absent = [row for row in rows if not storage.kept(row.path).is_file()]
        for row in absent:
            act = Act(now_ms=worklist.now())
            with worklist.write() as tx:
                if row.is_proved:
                    reconciliation.report_missing(tx, row.instance_id, act)
                    missing += 1
                elif reconciliation.drop_unacknowledged(tx, row.instance_id, act):
                    dropped += 1
                else:
                    missing += 1
    if last_id:
        with worklist.write() as tx:
            reconciliation.prove(tx, last_id)
    return dropped, missing


def _chunks(names: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(names, _CHUNK)):
        yield chunk

"""Before the door opens: files and rows are brought together, whatever instant the node died at.

A file without a row was never acknowledged: it is adopted as if it had just come. A row whose file
is missing had one, and its sender may have been told so: it is reported and stays, and the same
image sent again takes the lost file's place.
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
    """What was found: files adopted and deleted, rows reported, associations lost."""

    adopted: int
    deleted: int
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
    missing = _report_rows(worklist, storage)
    now_ms = worklist.now()
    with worklist.write() as tx:
        lost = associations.lose_open(tx, now_ms)
    found = Reconciled(adopted, deleted, missing, lost)
    if found != Reconciled(0, 0, 0, 0):
        logger("receive").warning(
            "reconciled", adopted=adopted, deleted=deleted, missing=missing, lost=lost
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


def _report_rows(worklist: Worklist, storage: Storage) -> int:
    missing = last_id = 0
    while True:
        with worklist.read() as tx:
            rows = reconciliation.named_files(tx, last_id, _CHUNK)
        if not rows:
            return missing
        last_id = rows[-1].instance_id
        gone = [row.instance_id for row in rows if not storage.kept(row.path).is_file()]
        if gone:
            missing += len(gone)
            act = Act(now_ms=worklist.now())
            with worklist.write() as tx:
                reconciliation.report_missing(tx, gone, act)


def _chunks(names: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(names, _CHUNK)):
        yield chunk

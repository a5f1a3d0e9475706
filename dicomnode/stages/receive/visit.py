"""One accepted association: its objects are placed, taken in and counted, its end is written."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass

from dicomnode.dicom.files import file_meta_header
from dicomnode.dicom.uids import is_usable_uid
from dicomnode.errors import DatabaseUnavailableError, StorageError
from dicomnode.network.door import (
    Answer,
    Arrived,
    AssociationEnd,
    AssociationRequest,
    Destination,
    StoreCommand,
)
from dicomnode.rules.reasons import Reason
from dicomnode.stages.receive.policy import shown
from dicomnode.stages.receive.records import Progress, Records, end_in_words
from dicomnode.stages.receive.take_in import (
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    Received,
    Sender,
    TakeIn,
)
from dicomnode.storage import Storage
from dicomnode.telemetry import Metrics, logger

_NO_ROOM = Answer(OUT_OF_RESOURCES, "no room left")
# Free space is asked for at most this often; a disk does not fill faster than this matters.
_ROOM_S = 1.0


class Room:
    """Whether the disk has room, asked for at most once a second."""

    def __init__(self, storage: Storage, floor: float) -> None:
        self._storage = storage
        self.floor = floor
        self._asked_at = float("-inf")
        self._found: Reason | None = None

    def lacking(self) -> Reason | None:
        """Give the reason for taking nothing, or None where there is room."""
        now = time.monotonic()
        if now - self._asked_at > _ROOM_S:
            self._asked_at = now
            space = self._storage.free()
            self._found = (
                Reason("quarantine.no_room", {"free_bytes": space.free_bytes})
                if space.fraction < self.floor
                else None
            )
        return self._found


@dataclass(frozen=True, slots=True)
class Means:
    """What every visit works with."""

    records: Records
    take_in: TakeIn
    room: Room
    storage: Storage
    metrics: Metrics


@dataclass(slots=True)
class _Unkept:
    """Objects of one association that were refused for one cause, and the row that tells of it."""

    count: int = 0
    number: int | None = None


class Visit:
    """One accepted association: its objects and its row."""

    def __init__(
        self,
        means: Means,
        request: AssociationRequest,
        sender: Sender,
        association_id: int,
    ) -> None:
        self._means, self._request, self._sender = means, request, sender
        self._association_id = association_id
        self.is_over = False
        self._objects = self._refused = self._bytes = 0
        self._written = self._counts()
        self._unkept: dict[tuple[str, int], _Unkept] = {}
        self._nothing_in_common = not any(context.accepted for context in request.contexts)

    def arriving(self, command: StoreCommand) -> Destination | Answer:
        """Give an object a place in ``tmp``, unless it can be refused before its first byte."""
        keyword = (
            "SOPClassUID"
            if not is_usable_uid(command.sop_class_uid)
            else "SOPInstanceUID"
            if not is_usable_uid(command.sop_instance_uid)
            else None
        )
        if keyword is not None:
            answer = Answer(DOES_NOT_MATCH, "a UID of the command is not usable")
            return self._refuse_unkept(Reason("quarantine.bad_uid", {"keyword": keyword}), answer)
        lacking = self._means.room.lacking()
        if lacking is not None:
            return self._refuse_unkept(lacking, _NO_ROOM)
        header = file_meta_header(
            command.sop_class_uid, command.sop_instance_uid, command.transfer_syntax_uid
        )
        return Destination(self._means.storage.new_arrival(), header)

    def refused(self, answer: Answer) -> None:
        """Count an object that was refused without a question to us."""
        self._refuse_unkept(Reason("quarantine.not_taken", {"cause": answer.comment}), answer)

    def stored(self, arrived: Arrived) -> Answer:
        """Take a whole object in."""
        if arrived.fault is not None:
            return self._unwritten(arrived.fault)
        received = Received(
            path=arrived.path,
            sop_class_uid=arrived.command.sop_class_uid,
            sop_instance_uid=arrived.command.sop_instance_uid,
            transfer_syntax_uid=arrived.command.transfer_syntax_uid,
            digest=arrived.digest,
        )
        answer = self._means.take_in(received, self._sender)
        if not answer.is_success:
            return self._refuse(answer)
        self._objects += 1
        self._bytes += arrived.byte_count
        metrics, peer = self._means.metrics, self._sender.peer
        metrics.instances.labels(peer, "0000").inc()
        metrics.received_bytes.labels(peer).inc(arrived.byte_count)
        return answer

    def ended(self, end: AssociationEnd) -> None:
        """Write down how the association ended."""
        self.is_over = True
        calling, address = shown(self._request.calling_ae_title), shown(self._request.address)
        state, reason = end_in_words(end, calling, address, self._sender.peer, self._objects)
        # Many callers abort or hang up where nothing was accepted, and release nothing.
        if self._nothing_in_common and end.cut_off is None:
            reason = Reason("association.nothing_in_common", {"calling": calling})
        self._means.records.close(self._association_id, state, reason, self._counts())
        self._write_unkept()

    def write_progress(self) -> bool:
        """Bring the row's counts up to date; tell whether they had changed."""
        counts = self._counts()
        if counts == self._written:
            return False
        self._means.records.progress(self._association_id, counts)
        self._written = counts
        return True

    def _counts(self) -> Progress:
        return Progress(self._sender.peer, self._objects, self._refused, self._bytes)

    def _refuse(self, answer: Answer) -> Answer:
        self._refused += 1
        status = f"{answer.status:04X}"
        self._means.metrics.instances.labels(self._sender.peer, status).inc()
        return answer

    def _unwritten(self, fault: OSError) -> Answer:
        logger("receive").error("arrival_not_written", errno=fault.errno)
        if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free_bytes = self._means.storage.free().free_bytes
            lacking = Reason("quarantine.no_room", {"free_bytes": free_bytes})
            return self._refuse_unkept(lacking, _NO_ROOM)
        return self._refuse(Answer(OUT_OF_RESOURCES, "the object could not be written"))

    def _refuse_unkept(self, reason: Reason, answer: Answer) -> Answer:
        """Refuse an object of which nothing is kept.

        One row for each association and cause: neither a full disk nor a sender that is wrong in
        each of its objects makes the database grow by telling of it.
        """
        told = self._unkept.setdefault((reason.code, answer.status), _Unkept())
        told.count += 1
        if told.count == 1:
            status = f"{answer.status:04X}"
            try:
                told.number = self._means.take_in.note_unkept(
                    self._sender, Reason(reason.code, {**reason.parameters, "status": status})
                )
            except (DatabaseUnavailableError, StorageError) as fault:
                logger("receive").error("refusal_not_written", code=reason.code, fault=str(fault))
        return self._refuse(answer)

    def _write_unkept(self) -> None:
        for told in self._unkept.values():
            if told.number is not None and told.count > 1:
                try:
                    self._means.take_in.recount_unkept(told.number, told.count)
                except DatabaseUnavailableError as fault:
                    logger("receive").error("refusals_not_counted", fault=str(fault))

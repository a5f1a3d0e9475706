"""The one way in: an object is read, kept, written down, and only then acknowledged.

Every door hands its arrivals to `TakeIn`. A success status is given after the file's bytes, its
folder entry and its row are durable, and never before. What cannot be read or has no usable UIDs is
kept in quarantine and its sender is told; what fails for want of room or of a database is not kept,
and its sender is told to come again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicomnode.dicom.equipment import MANUFACTURER
from dicomnode.dicom.files import data_set_digest
from dicomnode.dicom.headers import Header, identity, read_header, to_row
from dicomnode.dicom.uids import is_usable_uid
from dicomnode.errors import DatabaseUnavailableError, DiskFullError, StorageError, UnreadableError
from dicomnode.network.door import Answer
from dicomnode.rules.reasons import Reason
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import instances, quarantine, reconciliation
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act

# PS3.4 table B.2-1 and PS3.7 C.5.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

# A sender waits for its answer: give up before it does.
_PATIENCE_S = 5.0
_MOST_UNSETTLED = 1000


@dataclass(frozen=True, slots=True)
class Sender:
    """Where an object came from; all empty for a file found at the start."""

    peer: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    association_id: int | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A whole file in ``tmp``: what its sender said of it, and what was counted on the way.

    ``digest`` is the SHA-256 of the data set's bytes as received, in hexadecimal.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str


class TakeIn:
    """The door behind all doors; safe for several threads.

    Parameters
    ----------
    worklist, storage
        Where rows and files go.
    """

    def __init__(self, worklist: Worklist, storage: Storage) -> None:
        self._worklist, self._storage = worklist, storage
        self._node_id = worklist.node_id
        # Kept files whose rows may be missing because the database went away: a help only, for the
        # next start finds them too.
        self._unsettled: deque[tuple[instances.Arrival, int]] = deque(maxlen=_MOST_UNSETTLED)

    def __call__(self, received: Received, sender: Sender) -> Answer:
        """Take an object in and give the status that its sender is to be told."""
        try:
            header = read_header(received.path)
        except UnreadableError as fault:
            reason = Reason("quarantine.unreadable", {"offset": fault.offset})
            return self._set_aside(received, sender, reason, CANNOT_UNDERSTAND)
        wrong = _unusable(header, received)
        if wrong is not None:
            reason = Reason("quarantine.bad_uid", {"keyword": wrong})
            return self._set_aside(received, sender, reason, DOES_NOT_MATCH)
        return self._keep(received, header, sender)

    def adopt(self, name: str, received: Received) -> None:
        """Give the row that a kept file lacks, as if it had just come.

        Raises
        ------
        DatabaseUnavailableError
            When the database does not answer; the file stays as it is.
        """
        now_ms = self._worklist.now()
        try:
            header = read_header(received.path)
            wrong = _unusable(header, received)
        except UnreadableError:
            header, wrong = None, "file"
        if header is None or wrong is not None:
            cause = "it is not readable as DICOM" if header is None else f"{wrong} is not usable"
            self._quarantine(
                name, received, Sender(), Reason("quarantine.orphan", {"cause": cause})
            )
            return
        self._write(self._arrival(name, received, header, Sender()), now_ms)

    def settle(self) -> bool:
        """Write the rows that the database did not take before; tell whether there were any.

        Raises
        ------
        DatabaseUnavailableError
            When it still does not answer.
        """
        did = False
        while self._unsettled:
            arrival, now_ms = self._unsettled[0]
            self._write(arrival, now_ms)
            self._unsettled.popleft()
            did = True
        return did

    def note_unkept(self, sender: Sender, reason: Reason) -> int:
        """Write down that something was refused of which no byte is kept; give the row's id."""
        new = quarantine.NewQuarantine(
            reason=reason,
            byte_count=0,
            peer=sender.peer,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            association_id=sender.association_id,
        )
        now_ms = self._worklist.now()
        with self._worklist.write() as tx:
            return quarantine.put(tx, new, Act(now_ms=now_ms))

    def recount_unkept(self, number: int, n: int) -> None:
        """Say in the row of what was refused for how many objects it stands."""
        with self._worklist.write() as tx:
            quarantine.recount(tx, number, n)

    def _keep(self, received: Received, header: Header, sender: Sender) -> Answer:
        try:
            now_ms = self._worklist.now()
            name = self._storage.keep(received.path, _day(now_ms))
        except (StorageError, DatabaseUnavailableError) as fault:
            return _come_again(fault)
        arrival = self._arrival(name, received, header, sender)
        try:
            self._write(arrival, now_ms)
        except DatabaseUnavailableError as fault:
            # The commit may have happened although its answer was lost: the file must stay. If it
            # did not, the file gets its row later, as one that was never acknowledged.
            self._unsettled.append((arrival, now_ms))
            return _come_again(fault)
        return Answer(SUCCESS)

    def _write(self, arrival: instances.Arrival, now_ms: int) -> None:
        taken = self._worklist.transact(
            lambda tx: instances.take_in(tx, arrival, now_ms), patience_s=_PATIENCE_S
        )
        if taken.keeps_file:
            return
        # A crash before this file has a row, or is gone, leaves it to the next start, which takes
        # it in the same way.
        if taken.standing is None or not self._restore(arrival, taken.standing, now_ms):
            self._delete(arrival.path)

    def _restore(self, arrival: instances.Arrival, standing: str, now_ms: int) -> bool:
        """Put an arrival where the file that its row names is not whole; tell whether it is."""
        if _holds(self._storage.kept(standing), arrival.digest):
            return False
        # First: a damaged file without a row would be adopted as other content.
        self._delete(standing)
        act = Act(now_ms=now_ms)
        return self._worklist.transact(
            lambda tx: reconciliation.restore(tx, arrival, standing, act), patience_s=_PATIENCE_S
        )

    def _delete(self, name: str) -> None:
        try:
            self._storage.delete_kept(name)
        except StorageError as fault:
            # It is in nobody's way, and what was taken in is.
            logger("receive").error("file_not_deleted", fault=str(fault))

    def _arrival(
        self, name: str, received: Received, header: Header, sender: Sender
    ) -> instances.Arrival:
        patient = header.patient
        is_own = (
            header.manufacturer == MANUFACTURER and header.device_serial_number == self._node_id
        )
        return instances.Arrival(
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
            path=name,
            byte_count=self._storage.kept(name).stat().st_size,
            digest=received.digest,
            identity=identity(patient),
            patient_id=patient.patient_id,
            issuer_of_patient_id=patient.issuer,
            patient_name=patient.name,
            patient_birth_date=patient.birth_date,
            patient_sex=patient.sex,
            accession_number=header.accession_number,
            study_date=header.study_date,
            study_description=header.study_description,
            modality=header.modality,
            series_number=header.series_number,
            series_description=header.series_description,
            body_part_examined=header.body_part_examined,
            is_image=header.has_pixels,
            is_own=is_own,
            attributes=header.attributes,
            header=to_row(header),
            peer=sender.peer,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            association_id=sender.association_id,
        )

    def _set_aside(self, received: Received, sender: Sender, reason: Reason, status: int) -> Answer:
        told = Reason(reason.code, {**reason.parameters, "status": f"{status:04X}"})
        try:
            with self._worklist.read() as tx:
                repeated = quarantine.holds(tx, received.digest, reason.code)
            if repeated:
                # A sender that tries again and again must not fill the disk.
                with suppress(OSError):
                    received.path.unlink(missing_ok=True)
                return Answer(status, _COMMENTS[reason.code])
            name = self._storage.keep(received.path, _day(self._worklist.now()))
            self._quarantine(name, received, sender, told)
        except (StorageError, DatabaseUnavailableError) as fault:
            return _come_again(fault)
        return Answer(status, _COMMENTS[reason.code])

    def _quarantine(self, name: str, received: Received, sender: Sender, reason: Reason) -> None:
        new = quarantine.NewQuarantine(
            reason=reason,
            byte_count=self._storage.kept(name).stat().st_size,
            path=name,
            digest=received.digest,
            peer=sender.peer,
            calling_ae_title=sender.calling_ae_title,
            called_ae_title=sender.called_ae_title,
            association_id=sender.association_id,
        )
        now_ms = self._worklist.now()
        self._worklist.transact(
            lambda tx: quarantine.put(tx, new, Act(now_ms=now_ms)), patience_s=_PATIENCE_S
        )


_COMMENTS = {
    "quarantine.unreadable": "the data set cannot be read",
    "quarantine.bad_uid": "a UID is missing, not usable, or not that of the command",
}


def _unusable(header: Header, received: Received) -> str | None:
    """Name the attribute that makes an object impossible to file, or None."""
    if header.sop_class_uid != received.sop_class_uid:
        return "SOPClassUID"
    if header.sop_instance_uid != received.sop_instance_uid:
        return "SOPInstanceUID"
    uids = {
        "SOPClassUID": header.sop_class_uid,
        "SOPInstanceUID": header.sop_instance_uid,
        "StudyInstanceUID": header.study_instance_uid,
        "SeriesInstanceUID": header.series_instance_uid,
    }
    return next((keyword for keyword, uid in uids.items() if not is_usable_uid(uid)), None)


def _holds(path: Path, digest: str) -> bool:
    """Tell whether a kept file has the data set that it is to have."""
    try:
        return data_set_digest(path) == digest
    except (OSError, UnreadableError):
        return False


def _day(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d")


def _come_again(fault: StorageError | DatabaseUnavailableError) -> Answer:
    logger("receive").error("object_not_kept", fault=str(fault))
    if isinstance(fault, DiskFullError):
        return Answer(OUT_OF_RESOURCES, "no room left")
    if isinstance(fault, StorageError):
        return Answer(OUT_OF_RESOURCES, "the object could not be written")
    return Answer(OUT_OF_RESOURCES, "the database does not answer")

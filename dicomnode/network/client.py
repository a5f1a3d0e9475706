"""What we ask of peers: verification, storage, and what they hold (PS3.4 annexes A, B and C)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association

from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network.connect import MOST_CONTEXTS, Remote, associate

_EXPLICIT, _IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
# PS3.4 A.4 and C.6.2.2: Verification, and Study Root Query/Retrieve Information Model - FIND.
_VERIFICATION = "1.2.840.10008.1.1"
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4
# A list of UIDs in one query stays below what a PACS takes as one element.
_UIDS_PER_QUERY = 50


def echo(remote: Remote) -> float:
    """Ask whether the peer answers; give the milliseconds that its answer took.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        With the words for why not.
    """
    with associate(remote, {_VERIFICATION: (_IMPLICIT,)}) as association:
        started = time.perf_counter()
        response = association.send_c_echo()
        elapsed_ms = (time.perf_counter() - started) * 1000
    if "Status" not in response:
        raise PeerUnreachableError(f"{remote.called_ae_title} does not answer C-ECHO")
    if response.Status != _SUCCESS:
        raise PeerRefusedError(
            f"{remote.called_ae_title} answers C-ECHO with status {response.Status:04X}"
        )
    return elapsed_ms


def accepted_contexts(
    remote: Remote, classes: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Tell for each SOP class which of the transfer syntaxes the peer accepts; maybe none.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        When the peer cannot be asked at all.
    """
    accepted: dict[str, tuple[str, ...]] = dict.fromkeys(classes, ())
    pairs = [(sop_class, syntax) for sop_class, given in classes.items() for syntax in given]
    # Verification goes along: a peer that takes none of the classes still opens an association.
    size = MOST_CONTEXTS - 1
    for start in range(0, len(pairs), size):
        asked: dict[str, list[str]] = {_VERIFICATION: [_IMPLICIT]}
        for sop_class, syntax in pairs[start : start + size]:
            asked.setdefault(sop_class, []).append(syntax)
        with associate(remote, asked) as association:
            for context in association.accepted_contexts:
                sop_class = str(context.abstract_syntax)
                if sop_class in accepted:
                    accepted[sop_class] += (str(context.transfer_syntax[0]),)
    return accepted


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to send: a DICOM file with a file meta header (PS3.10)."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Told(StrEnum):
    """What we know about an object after sending."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"  # the peer may hold it
    NOT_NEGOTIATED = "not negotiated"
    NOT_SENT = "not sent"  # the association ended before its turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object; ``status`` and the peer's ``comment`` where it answered.

    ``comment`` is the peer's own text: quote it cleaned, and log it never.
    """

    told: Told
    status: int | None = None
    comment: str = ""

    @property
    def is_stored(self) -> bool:
        """Success, or one of the warnings with which an object is stored (PS3.4 table B.2-1)."""
        return self.status is not None and (
            self.status == _SUCCESS or self.status in (0xB000, 0xB006, 0xB007)
        )


def store(
    remote: Remote,
    files: Sequence[Outgoing],
    on_outcome: Callable[[int, Outcome], None] = lambda _index, _outcome: None,
) -> list[Outcome]:
    """Send files on one association, in order; give what became of each, in the same order.

    A file lies in Explicit VR Little Endian and goes out as its bytes are, or in Implicit VR to a
    peer that takes nothing else. ``on_outcome`` is called with the index in ``files`` as soon as
    each outcome is known; what it raises ends the sending.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        When no association comes about; nothing was sent then.
    """
    classes: dict[str, list[str]] = {}
    for file in files:
        wanted = classes.setdefault(file.sop_class_uid, [])
        for syntax in _syntaxes_for(file.transfer_syntax_uid):
            if syntax not in wanted:
                wanted.append(syntax)
    outcomes: list[Outcome] = []
    with associate(remote, classes) as association:
        for index, file in enumerate(files):
            outcome = _send(association, file, message_id=index % 0xFFFF + 1)
            outcomes.append(outcome)
            on_outcome(index, outcome)
    return outcomes


def _syntaxes_for(transfer_syntax_uid: str) -> tuple[str, ...]:
    if transfer_syntax_uid in (_EXPLICIT, _IMPLICIT):
        return (_EXPLICIT, _IMPLICIT)
    return (transfer_syntax_uid,)


def _send(association: Association, file: Outgoing, message_id: int) -> Outcome:
    if not association.is_established:
        return Outcome(Told.NOT_SENT)
    syntaxes = {
        str(context.transfer_syntax[0])
        for context in association.accepted_contexts
        if context.abstract_syntax == file.sop_class_uid
    }
    if file.transfer_syntax_uid in syntaxes:
        what: Path | Dataset = file.path
    elif syntaxes:
        what = dcmread(file.path)
    else:
        return Outcome(Told.NOT_NEGOTIATED)
    try:
        response = association.send_c_store(what, msg_id=message_id)
    except RuntimeError:
        # The peer ended the association between our look at it and the call.
        return Outcome(Told.NOT_SENT)
    # An abort or a broken connection shows as a response without Status.
    if "Status" not in response:
        return Outcome(Told.NO_ANSWER)
    return Outcome(Told.ANSWERED, int(response.Status), str(response.get("ErrorComment", "")))


def instance_count(remote: Remote, study_instance_uid: str) -> int | None:
    """Give how many instances the peer says a study has; None if it does not say.

    0 means that it does not know the study.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        When it cannot be asked, or answers with a failure.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_instance_uid
    query.NumberOfStudyRelatedInstances = ""
    with associate(remote, {_STUDY_ROOT_FIND: (_EXPLICIT, _IMPLICIT)}) as association:
        found = [
            match
            for match in _find(association, query, remote)
            if match.get("StudyInstanceUID") == study_instance_uid
        ]
    if not found:
        return 0
    count = str(found[0].get("NumberOfStudyRelatedInstances", ""))
    return int(count) if count.isdigit() else None


@dataclass(frozen=True, slots=True)
class SeriesInstances:
    """Instances of one series to look for."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]


def held_instances(remote: Remote, series: Sequence[SeriesInstances]) -> frozenset[str]:
    """Give those of the SOP Instance UIDs that the peer says it holds.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        When it cannot be asked, or answers with a failure.
    """
    held: set[str] = set()
    with associate(remote, {_STUDY_ROOT_FIND: (_EXPLICIT, _IMPLICIT)}) as association:
        for one in series:
            for start in range(0, len(one.sop_instance_uids), _UIDS_PER_QUERY):
                asked = one.sop_instance_uids[start : start + _UIDS_PER_QUERY]
                query = Dataset()
                query.QueryRetrieveLevel = "IMAGE"
                query.StudyInstanceUID = one.study_instance_uid
                query.SeriesInstanceUID = one.series_instance_uid
                query.SOPInstanceUID = list(asked)
                matches = _find(association, query, remote)
                held |= {str(match.get("SOPInstanceUID", "")) for match in matches} & set(asked)
    return frozenset(held)


def _find(association: Association, query: Dataset, remote: Remote) -> Iterator[Dataset]:
    for response, match in association.send_c_find(query, _STUDY_ROOT_FIND):
        if "Status" not in response:
            raise PeerUnreachableError(f"{remote.called_ae_title} does not answer C-FIND")
        if response.Status in _PENDING:
            if match is not None:
                yield match
        elif response.Status != _SUCCESS:
            raise PeerRefusedError(
                f"{remote.called_ae_title} answers C-FIND with status {response.Status:04X}"
            )

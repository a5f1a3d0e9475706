"""What the encoder is asked for and what it gives: frozen values, no DICOM inside the request."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset

from dicomnode.dicom.sources import SourceSeries
from dicomnode.rules.states import ResultKind
from dicomnode.sdk import Code, Findings, Images, Volume


@dataclass(frozen=True, slots=True)
class Equipment:
    """The node as the device that made a result; ``serial_number`` is the node's id."""

    serial_number: str
    software_version: str


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The pipeline that a result speaks for.

    ``rule_based`` means that no trained bundle took part: such a pipeline may raise a suspicion
    and never rule anything out, and its report carries no probability. ``series_number`` is the
    base; the segmentation gets the number after it, the report the one after that.
    """

    name: str
    version: str
    rule_based: bool
    series_number: int


@dataclass(frozen=True, slots=True)
class Form:
    """What one peer gets: the kinds of object, and the SR class that it takes.

    ``presents`` holds ``"sr"``, and usually ``"seg"``; ``"status"`` adds a report of a run that
    ended without a result. ``sr`` is ``"3d"`` (Comprehensive 3D SR) or ``"2d"`` (Comprehensive
    SR, for archives that refuse the other).
    """

    presents: frozenset[str] = frozenset({"seg", "sr"})
    sr: str = "3d"


@dataclass(frozen=True, slots=True)
class PredecessorRef:
    """The report of an older set that this one replaces."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRequest:
    """What every set of results needs, whatever it says.

    Parameters
    ----------
    source
        Headers of the analysed series, in the order of the volume's axis 0.
    key
        The set's key: the same key gives the same UIDs and, with the same findings and
        ``finished_at``, the same bytes.
    finished_at
        When the job ended, aware; all dates of the objects come from it, in the zone that it
        carries, or in the source's where that states one.
    """

    source: SourceSeries
    algorithm: Algorithm
    equipment: Equipment
    key: str
    finished_at: datetime
    form: Form = field(default_factory=Form)
    predecessors: tuple[PredecessorRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeRequest(SetRequest):
    """A run that could look, and what it found. ``volume`` is what the pipeline was given."""

    findings: Findings
    volume: Volume | Images


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest(SetRequest):
    """A run that ended without a result: ``text`` says why, in a sentence without numbers."""

    text: str
    sought: Collection[Code] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EncodedObject:
    """One result object, ready to be written; ``number`` counts within its series."""

    kind: ResultKind
    number: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data_set: Dataset

    def write(self, target: Path | BinaryIO) -> None:
        """Write the object as a DICOM file (PS3.10), Explicit VR Little Endian."""
        pydicom.dcmwrite(target, self.data_set, enforce_file_format=True)

    def to_bytes(self) -> bytes:
        """Give the DICOM file as bytes."""
        buffer = BytesIO()
        self.write(buffer)
        return buffer.getvalue()

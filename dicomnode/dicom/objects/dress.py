"""What every result object carries, whichever kind it is: identity, series, dates, equipment."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode.dicom.equipment import MANUFACTURER, MODEL_NAME
from dicomnode.dicom.objects.request import EncodedObject, SetRequest
from dicomnode.dicom.sanitise import IDENTIFIERS, INHERITED, is_date, sanitised
from dicomnode.dicom.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_uid,
)
from dicomnode.errors import EncodingError
from dicomnode.rules.states import ResultKind

SERIES_OFFSETS: Final = {ResultKind.SEG: 1, ResultKind.SR: 2}
_TAKEN_STEP: Final = 10
_LONGEST: Final = 64
_CLOCKS_APART: Final = timedelta(hours=26)  # no two zones of the earth lie further apart


@dataclass(frozen=True, slots=True)
class Moment:
    """When a result was made, as DICOM date and time, and the offset of its zone where stated."""

    date: str
    time: str
    offset: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Where one object of a set belongs: its kind, UIDs and numbers."""

    kind: ResultKind
    series_instance_uid: str
    sop_instance_uid: str
    series_number: int
    description: str
    number: int = 1


def series(request: SetRequest, kind: ResultKind) -> Series:
    """Derive UIDs and numbers of the one object of ``kind`` from the set's key.

    A Series Number that the source already uses is left to it: ours then lies ten above.
    """
    series_instance_uid = derived_uid(request.key, kind)
    taken = {str(header.get("SeriesNumber")) for header in request.source.datasets}
    series_number = request.algorithm.series_number + SERIES_OFFSETS[kind]
    while str(series_number) in taken:
        series_number += _TAKEN_STEP
    tail = f" {request.algorithm.version} {kind} (research use)"
    name = f"AI {request.algorithm.name}"[: _LONGEST - len(tail)]
    return Series(
        kind=kind,
        series_instance_uid=series_instance_uid,
        sop_instance_uid=derived_uid(series_instance_uid, "1"),
        series_number=series_number,
        description=(name + tail)[:_LONGEST],
    )


def headers(request: SetRequest) -> tuple[Dataset, ...]:
    """Give clean headers of the source images, one for each, in order.

    Raises
    ------
    EncodingError
        They are not images of one series of one study, or a header cannot be repeated truly.
    """
    copies = tuple(sanitised(dataset) for dataset in request.source.datasets)
    if not copies:
        raise EncodingError("There are no source images to report on.")
    if len({(c.StudyInstanceUID, c.SeriesInstanceUID) for c in copies}) > 1:
        raise EncodingError("The source images are of several studies or series.")
    if len({c.SOPInstanceUID for c in copies}) < len(copies):
        raise EncodingError("Two source images have the same SOP Instance UID.")
    return copies


def moment(finished_at: datetime, header: Dataset) -> Moment:
    """Give the time of the objects, in the source's zone where it states one.

    A study dated up to a day ahead comes from a clock in another zone: its own time is taken then,
    because a result cannot be older than its study.

    Raises
    ------
    EncodingError
        The study lies in the future.
    """
    if finished_at.tzinfo is None:
        raise ValueError("finished_at carries no zone")
    offset = str(header.get("TimezoneOffsetFromUTC", ""))
    local = finished_at
    if offset:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
        local = finished_at.astimezone(zone)
    made = Moment(local.strftime("%Y%m%d"), local.strftime("%H%M%S"), offset)
    study_date, study_time = str(header.StudyDate), str(header.StudyTime)
    if not is_date(study_date) or study_date <= made.date:
        return made
    if study_date > (local + _CLOCKS_APART).strftime("%Y%m%d"):
        raise EncodingError(
            f"The study is dated {study_date}, in the future; nothing can follow it."
        )
    return Moment(study_date, (study_time + "000000")[:6] if study_time else "000000", offset)


def dressed(
    data_set: Dataset, request: SetRequest, header: Dataset, place: Series
) -> EncodedObject:
    """Complete ``data_set`` in place with what the library leaves out or takes from the clock."""
    made = moment(request.finished_at, header)
    for keyword in INHERITED:
        if keyword in header:
            setattr(data_set, keyword, header[keyword].value)
    for keyword in IDENTIFIERS:
        data_set[keyword] = header[keyword]
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SeriesDescription = place.description
    for prefix in ("Series", "InstanceCreation", "Content"):
        setattr(data_set, prefix + "Date", made.date)
        setattr(data_set, prefix + "Time", made.time)
    data_set.Manufacturer = MANUFACTURER
    data_set.ManufacturerModelName = MODEL_NAME
    data_set.DeviceSerialNumber = request.equipment.serial_number
    data_set.SoftwareVersions = request.equipment.software_version
    # highdicom names the scanner and itself there, with the clock's time; ours says who we are.
    data_set.pop("ContributingEquipmentSequence", None)
    data_set.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    data_set.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return EncodedObject(
        kind=place.kind,
        number=place.number,
        sop_class_uid=str(data_set.SOPClassUID),
        sop_instance_uid=place.sop_instance_uid,
        series_instance_uid=place.series_instance_uid,
        data_set=data_set,
    )

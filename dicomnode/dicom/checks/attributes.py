"""Attribute rules: what every object must carry, whichever kind it is (PS3.3 C.7, C.12)."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from pydicom.multival import MultiValue

from dicomnode.dicom.checks.reading import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    SEGMENTATION,
    text,
)
from dicomnode.dicom.checks.results import ResultObject
from dicomnode.dicom.checks.rules import Rule
from dicomnode.dicom.uids import is_valid_uid

Texts = Iterator[str]

_TRANSFER_SYNTAXES: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
_MODALITY: Final[Mapping[str, str]] = MappingProxyType(
    {SEGMENTATION: "SEG", COMPREHENSIVE_3D_SR: "SR", COMPREHENSIVE_SR: "SR"}
)
_PATIENT: Final = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
)
_STUDY: Final = (
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
)
_EQUIPMENT: Final = (
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
# Present in every object of its kind, empty only where the standard says type 2.
_COMMON: Final = (
    *(k for k in _PATIENT + _STUDY if k not in ("IssuerOfPatientID", "StudyDescription")),
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "InstanceNumber",
    "SeriesNumber",
)
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "SEG": (
            *_COMMON,
            "ContentLabel",
            "ContentDescription",
            "ContentCreatorName",
            "ImageType",
            "LossyImageCompression",
            "SegmentationType",
            "SegmentSequence",
            "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence",
            "NumberOfFrames",
            "DimensionOrganizationSequence",
            "DimensionIndexSequence",
            "FrameOfReferenceUID",
            "PositionReferenceIndicator",
            "SamplesPerPixel",
            "PixelData",
        ),
        "SR": (
            *_COMMON,
            "ReferencedPerformedProcedureStepSequence",
            "PerformedProcedureCodeSequence",
            "CurrentRequestedProcedureEvidenceSequence",
            "CompletionFlag",
            "VerificationFlag",
            "ValueType",
            "ConceptNameCodeSequence",
            "ContinuityOfContent",
            "ContentSequence",
        ),
    }
)
_FOREIGN: Final = (
    "PatientComments",
    "AdmissionID",
    "OperatorsName",
    "StationName",
    "InstitutionAddress",
    "WindowCenter",
    "WindowWidth",
    "BurnedInAnnotation",
)
_LONGEST: Final[Mapping[str, int]] = MappingProxyType(
    {"SH": 16, "LO": 64, "CS": 16, "UI": 64, "AS": 4, "ST": 1024, "LT": 10240}
)
_TEXT_VRS: Final = frozenset({*_LONGEST, "UT", "UC", "PN"})
_DATES: Final = ("ContentDate", "InstanceCreationDate", "SeriesDate")
_TIMES: Final = ("ContentTime", "InstanceCreationTime", "SeriesTime")
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")


def _file_meta(o: ResultObject) -> Texts:
    meta = o.data.file_meta
    if text(meta, "MediaStorageSOPInstanceUID") != text(o.data, "SOPInstanceUID"):
        yield "file meta and data set name different instances"
    if text(meta, "MediaStorageSOPClassUID") != o.sop_class_uid:
        yield "file meta and data set name different classes"


def _transfer_syntax(o: ResultObject) -> Texts:
    uid = text(o.data.file_meta, "TransferSyntaxUID")
    if uid not in _TRANSFER_SYNTAXES:
        yield f"transfer syntax {uid} is not one that every archive takes"


def _sop_class(o: ResultObject) -> Texts:
    if o.sop_class_uid not in _MODALITY:
        yield f"SOP class {o.sop_class_uid or '(none)'} is not sent by this node"


def _present(o: ResultObject) -> Texts:
    missing = [
        k for k in _REQUIRED.get(_MODALITY.get(o.sop_class_uid, ""), _COMMON) if k not in o.data
    ]
    if missing:
        yield f"lacks {', '.join(missing)}"


def _study(o: ResultObject) -> Texts:
    if text(o.data, "StudyInstanceUID") != text(o.source.header, "StudyInstanceUID"):
        yield "Study Instance UID is not the source's"


def _patient(o: ResultObject) -> Texts:
    for keyword in _PATIENT:
        yield from _same(o, keyword)


def _study_attributes(o: ResultObject) -> Texts:
    for keyword in _STUDY:
        yield from _same(o, keyword)


def _same(o: ResultObject, keyword: str) -> Texts:
    """Compare without quoting: values that name a person stay out of messages."""
    wanted, got = text(o.source.header, keyword), text(o.data, keyword)
    if wanted == got or (got == "" and not _is_legal(keyword, wanted)):
        return
    yield f"{keyword} is not what the source has"


def _is_legal(keyword: str, value: str) -> bool:
    if keyword == "PatientSex":
        return value in ("M", "F", "O")
    if keyword.endswith("Date"):
        return _date(value) is not None
    return not keyword.endswith("Time") or _TIME.fullmatch(value) is not None


def _date(value: str) -> datetime | None:
    if re.fullmatch(r"\d{8}", value) is None:
        return None
    try:
        return datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _uids(o: ResultObject) -> Texts:
    keywords = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]
    for keyword in [
        *keywords,
        *(["FrameOfReferenceUID"] if "FrameOfReferenceUID" in o.data else []),
    ]:
        if not is_valid_uid(text(o.data, keyword)):
            yield f"{keyword} is not a valid UID"


def _own_instance(o: ResultObject) -> Texts:
    if text(o.data, "SOPInstanceUID") in o.source.by_uid:
        yield "has the SOP Instance UID of a source image"


def _own_series(o: ResultObject) -> Texts:
    if text(o.data, "SeriesInstanceUID") in o.source.series_uids:
        yield "lies in a series of the source"


def _dates(o: ResultObject) -> Texts:
    study = _date(text(o.source.header, "StudyDate"))
    latest = datetime.now(UTC) + timedelta(days=1)
    for keyword in _DATES:
        made = _date(text(o.data, keyword))
        if made is None:
            yield f"{keyword} '{text(o.data, keyword)}' is not a date"
        elif study is not None and made < study:
            yield f"{keyword} lies before the study"
        elif made > latest:
            yield f"{keyword} lies in the future"


def _times(o: ResultObject) -> Texts:
    for keyword in _TIMES:
        if _TIME.fullmatch(text(o.data, keyword)) is None:
            yield f"{keyword} '{text(o.data, keyword)}' is not a time"


def _timezone(o: ResultObject) -> Texts:
    offset = text(o.data, "TimezoneOffsetFromUTC")
    if offset and offset != text(o.source.header, "TimezoneOffsetFromUTC"):
        yield "states a zone that the source does not state"


def _series_description(o: ResultObject) -> Texts:
    described = text(o.data, "SeriesDescription")
    if not described.startswith("AI ") or "research use" not in described:
        yield f"Series Description '{described}' lacks AI or research use"


def _series_number(o: ResultObject) -> Texts:
    number = text(o.data, "SeriesNumber")
    if not number.isdigit() or number == "0":
        yield f"Series Number '{number}' is none"
    elif number in {text(header, "SeriesNumber") for header in o.source.headers}:
        yield f"Series Number {number} is a source series'"


def _modality(o: ResultObject) -> Texts:
    wanted = _MODALITY.get(o.sop_class_uid)
    if wanted is not None and text(o.data, "Modality") != wanted:
        yield f"Modality {text(o.data, 'Modality')} does not fit the SOP class"


def _instance_number(o: ResultObject) -> Texts:
    if not text(o.data, "InstanceNumber"):
        yield "has no Instance Number"


def _equipment(o: ResultObject) -> Texts:
    for keyword in _EQUIPMENT:
        if not text(o.data, keyword):
            yield f"{keyword} is missing"


def _not_scanner(o: ResultObject) -> Texts:
    for keyword in ("ManufacturerModelName", "DeviceSerialNumber"):
        if text(o.data, keyword) and text(o.data, keyword) == text(o.source.header, keyword):
            yield f"{keyword} is the scanner's"


def _foreign(o: ResultObject) -> Texts:
    for keyword in _FOREIGN:
        if keyword in o.data:
            yield f"{keyword} must not travel into a result"


def _no_private(o: ResultObject) -> Texts:
    found = {str(e.tag) for e in o.data.iterall() if e.tag.is_private}
    if found:
        yield f"holds private attributes: {', '.join(sorted(found))}"


def _values(o: ResultObject) -> Iterator[tuple[str, str, str]]:
    """Give keyword, VR and text of every text value anywhere in the object."""
    for element in o.data.iterall():
        if element.VR in _TEXT_VRS and element.value:
            several = element.value if isinstance(element.value, MultiValue) else [element.value]
            for each in several:
                yield element.keyword or str(element.tag), element.VR, str(each)


def _characters(o: ResultObject) -> Texts:
    declared = o.data.get("SpecificCharacterSet")
    several = isinstance(declared, MultiValue) and len(declared) > 1
    is_ascii = not several and text(o.data, "SpecificCharacterSet") in ("", "ISO_IR 6")
    for keyword, _, value in _values(o):
        if "\ufffd" in value or (is_ascii and not value.isascii()):
            yield f"{keyword}: text does not fit the character set"


def _inherited(o: ResultObject, keyword: str) -> bool:
    return keyword in _PATIENT + _STUDY and o.data.get(keyword) == o.source.header.get(keyword)


def _lengths(o: ResultObject) -> Texts:
    for keyword, vr, value in _values(o):
        if vr in _LONGEST and len(value) > _LONGEST[vr] and not _inherited(o, keyword):
            yield f"{keyword} has {len(value)} characters, {vr} allows {_LONGEST[vr]}"


def _multiplicity(o: ResultObject) -> Texts:
    for keyword in (*_PATIENT, *_STUDY, "SeriesDescription", "Modality", "SeriesInstanceUID"):
        if isinstance(o.data.get(keyword), MultiValue) and not _inherited(o, keyword):
            yield f"{keyword} has several values"


def _age(o: ResultObject) -> Texts:
    age = text(o.data, "PatientAge")
    if age and re.fullmatch(r"\d{3}[DWMY]", age) is None:
        yield f"Patient Age '{age}' is none"


RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("file.meta", "File meta and data set name the same instance", _file_meta),
    Rule("file.transfer_syntax", "Explicit or Implicit VR Little Endian", _transfer_syntax),
    Rule("object.class", "Segmentation or structured report", _sop_class),
    Rule("object.required", "Every attribute that its kind requires is there", _present),
    Rule("object.study", "Study Instance UID is the source's", _study),
    Rule("object.patient", "Patient ID, issuer, name, birth date, sex are the source's", _patient),
    Rule("object.study_attributes", "Study date, time, ID, accession number … are the source's",
         _study_attributes),
    Rule("object.uids", "UIDs are valid", _uids),
    Rule("object.own_instance_uid", "The instance is not a source image's", _own_instance),
    Rule("object.own_series_uid", "The series is not a source series", _own_series),
    Rule("object.dates", "Dates are valid, not before the study, not in the future", _dates),
    Rule("object.times", "Times are valid", _times),
    Rule("object.timezone", "A zone is stated only where the source states it", _timezone),
    Rule("object.series_description", "Series Description says AI and research use",
         _series_description),
    Rule("object.series_number", "Series Number is not a source series'", _series_number),
    Rule("object.modality", "Modality fits the SOP class", _modality),
    Rule("object.instance_number", "Instance Number is there", _instance_number),
    Rule("object.equipment", "Manufacturer, model, serial number, software are there", _equipment),
    Rule("object.not_scanner", "The equipment is not the scanner", _not_scanner),
    Rule("object.not_copied", "Nothing is copied that does not belong in a result", _foreign),
    Rule("object.private", "No private attribute", _no_private),
    Rule("object.characters", "Text fits the declared character set", _characters),
    Rule("object.lengths", "Values are no longer than their VR allows", _lengths),
    Rule("object.multiplicity", "Single-valued attributes have one value", _multiplicity),
    Rule("object.age", "Patient Age is valid", _age),
)  # fmt: skip

"""A copy of a source header that result objects may be built from.

Headers from the field break encoders: empty or missing identity, sex ``U``, birth date 00000000,
two names in one element, character sets that do not fit the text. The copy holds what a result
may inherit and nothing else (no private attribute, no comment on the patient, no scanner), each
value either exactly as received or, where the standard forbids it, empty. Identifiers are never
cut or cleaned: a shortened Patient ID is another patient.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from dicomnode.dicom.stored_images import PYDICOM_FAULTS
from dicomnode.dicom.uids import is_valid_uid
from dicomnode.errors import EncodingError

IDENTIFIERS = ("PatientID", "StudyID", "AccessionNumber")
# Type 1 or 2 in every result: present, if need be empty.
REQUIRED = (
    *IDENTIFIERS,
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
# Copied only when the source has them.
OPTIONAL = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "TimezoneOffsetFromUTC")
INHERITED = REQUIRED + OPTIONAL
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_GEOMETRY = (
    "Modality",
    "Rows",
    "Columns",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_MULTI_FRAME = (
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_REPLACEMENT_CHARACTER = "\ufffd"


def is_date(text: str) -> bool:
    """Tell whether ``text`` is a DA value of PS3.5 6.2: eight digits that name a day."""
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007  only the calendar is asked
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """Tell whether ``text`` is a TM value of PS3.5 6.2, to the microsecond at most."""
    return _TIME.fullmatch(text) is not None


_ALLOWED: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "PatientBirthDate": is_date,
        "StudyDate": is_date,
        "StudyTime": is_time,
        "PatientSex": lambda text: text in {"M", "F", "O"},
        "PatientAge": lambda text: _AGE.fullmatch(text) is not None,
        "TimezoneOffsetFromUTC": lambda text: _OFFSET.fullmatch(text) is not None,
    }
)


def unusable(dataset: Dataset) -> str | None:
    """Name the first attribute for which no result could be built, None where there is none.

    For who declines images before they are analysed, rather than let their result fail: a UID that
    is missing or invalid, a SOP class that the standard does not have or has retired, text that
    does not fit its character set, a value that cannot be read at all.
    """
    for keyword in (*UIDS, *INHERITED, *_GEOMETRY):
        try:
            usable = _is_usable(dataset, keyword)
        except PYDICOM_FAULTS:
            usable = False
        if not usable:
            return keyword
    return None


def _is_usable(dataset: Dataset, keyword: str) -> bool:
    value = dataset.get(keyword)
    if keyword in UIDS:
        uid = UID(str(value or ""))
        is_known = keyword != "SOPClassUID" or (uid.type == "SOP Class" and not uid.is_retired)
        return is_valid_uid(uid) and is_known
    return keyword in _GEOMETRY or not any(map(_is_misfit, _texts(value)))


def sanitised(dataset: Dataset) -> Dataset:
    """Give the header that results of ``dataset`` inherit from, text in ISO_IR 192 (UTF-8).

    Raises
    ------
    EncodingError
        A UID is missing or invalid, or text does not fit the character set that it declares, so
        that no result could name the patient or the study truly.
    """
    copy = Dataset()
    copy.SpecificCharacterSet = "ISO_IR 192"
    for keyword in UIDS:
        setattr(copy, keyword, _uid(dataset, keyword))
    for keyword in INHERITED:
        value = _inherited(dataset, keyword)
        if keyword in REQUIRED or value:
            setattr(copy, keyword, value)
    is_multi_frame = "PerFrameFunctionalGroupsSequence" in dataset
    for keyword in _GEOMETRY + (_MULTI_FRAME if is_multi_frame else ()):
        if keyword in dataset and dataset[keyword].value not in (None, ""):
            setattr(copy, keyword, dataset[keyword].value)
    return copy


def _uid(dataset: Dataset, keyword: str) -> str:
    text = str(dataset.get(keyword) or "")
    if not is_valid_uid(text):
        raise EncodingError(f"The source image has no valid {keyword}, so no result can name it.")
    return text


def _inherited(dataset: Dataset, keyword: str) -> str | list[str]:
    """Give one inherited value: all values of an identifier, the first of everything else."""
    values = _texts(dataset.get(keyword))
    if any(map(_is_misfit, values)):
        raise EncodingError(
            f"The source's {keyword} does not fit the character set that it declares; a result "
            "cannot repeat it truly."
        )
    if keyword in IDENTIFIERS and len(values) > 1:
        return values
    text = values[0] if values else ""
    return text if _ALLOWED.get(keyword, bool)(text) else ""


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, MultiValue | list) else [str(value or "")]


def _is_misfit(text: str) -> bool:
    return _REPLACEMENT_CHARACTER in text

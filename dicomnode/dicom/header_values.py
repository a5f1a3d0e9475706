"""Values of a scanned data set as text and numbers, and which attributes rules may see."""

import math
import struct
from collections.abc import Mapping
from types import MappingProxyType

from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]  # public, not listed

from dicomnode.dicom.elements import RawValue, Scan
from dicomnode.dicom.text import CharacterSet
from dicomnode.dicom.uids import LONGEST_UID

MOST_ATTRIBUTES = 200
LONGEST_VALUE = 256
_MOST_VALUES = 64

_TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UC", "UI"})
_SINGLE_TEXT_VRS = frozenset({"LT", "ST", "UT", "UR"})
_NUMBERS: Mapping[bytes, str] = MappingProxyType(
    {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
)
# Rules ask for age, sex and size of a patient; what else group 0010 holds names a person.
_PATIENT_ATTRIBUTES = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight"})
_IDENTIFYING = frozenset(
    {
        "AccessionNumber",
        "StudyID",
        "RequestAttributesSequence",
        "ImageComments",
        "AdditionalPatientHistory",
        "DeviceSerialNumber",
        "SpecificCharacterSet",
        "PersonAddress",
        "PersonTelephoneNumbers",
        "ReferringPhysicianAddress",
        "ReferringPhysicianTelephoneNumbers",
        "InstitutionAddress",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PerformedProcedureStepID",
    }
)


def _rule_attributes() -> Mapping[int, str]:
    """Tags that rules may ask for, each with its keyword."""
    vrs = _TEXT_VRS | _SINGLE_TEXT_VRS | {"US", "SS", "UL", "SL", "FL", "FD", "US or SS"}
    found = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if vr not in vrs or not keyword or keyword in _IDENTIFYING:
            continue
        if (vr == "UI" and keyword != "SOPClassUID") or group in (0x0002, 0x0004, 0x0038, 0x4008):
            continue
        if group == 0x0010 and keyword not in _PATIENT_ATTRIBUTES:
            continue
        found[tag] = keyword
    return MappingProxyType(found)


RULE_ATTRIBUTES = _rule_attributes()


class Values:
    """The small top-level values of one scanned data set, decoded on demand.

    Nothing here raises for a bad value: it counts as absent, or is shortened, with a note.
    """

    def __init__(self, scanned: Scan) -> None:
        self._values, self._grouped = scanned.values, scanned.grouped
        self._byte_order = scanned.byte_order
        self._notes: dict[str, None] = dict.fromkeys(scanned.warnings)
        terms = self._raw(0x00080005)
        words = terms.value.decode("latin_1").strip(" \x00").split("\\") if terms else []
        self._character_set = CharacterSet.of(words if any(words) else [])
        if self._character_set.unknown:
            self.note("Specific Character Set has a value that is not of the standard.")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was doubtful so far, one sentence each, never with a value of the patient's."""
        return tuple(self._notes)

    def note(self, sentence: str) -> None:
        """Add a warning once."""
        self._notes[sentence] = None

    def _raw(self, tag: int) -> RawValue | None:
        found = self._values.get(tag)
        return found if found is not None and found.value else self._grouped.get(tag, found)

    def text(self, tag: int, longest: int = LONGEST_VALUE) -> str:
        """The whole value as one text, empty if absent, cut at ``longest`` characters."""
        raw = self._raw(tag)
        return self._decoded(raw)[:longest].rstrip() if raw is not None else ""

    def texts(self, tag: int) -> list[str]:
        """Each value as text; an absent or empty element gives an empty list."""
        raw = self._raw(tag)
        if raw is None or not raw.value:
            return []
        if raw.vr in _NUMBERS:
            return [_number_text(number) for number in self._unpacked(raw)[:_MOST_VALUES]]
        decoded = self._decoded(raw)
        parts = [decoded] if raw.vr.decode("ascii") in _SINGLE_TEXT_VRS else decoded.split("\\")
        return [part.strip()[:LONGEST_VALUE] for part in parts[:_MOST_VALUES]]

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """Exactly ``count`` finite numbers, or None if the element has anything else."""
        texts = self.texts(tag)
        if len(texts) != count:
            return None
        try:
            found = tuple(float(text) for text in texts)
        except ValueError:
            return None
        return found if all(map(math.isfinite, found)) else None

    def integer(self, tag: int) -> int | None:
        """A whole number within 32 bits, or None."""
        texts = self.texts(tag)
        if not texts:
            return None
        try:
            number = float(texts[0])
        except ValueError:
            return None
        is_whole = math.isfinite(number) and number == int(number)
        return int(number) if is_whole and abs(number) < 2**31 else None

    def uid(self, tag: int) -> str:
        """A UID as it stands, without padding; not checked. An over-long one stays over-long."""
        raw = self._values.get(tag)
        if raw is None:
            return ""
        # Cut at the 64 that are allowed, two studies of one beginning would become one.
        return raw.value.decode("latin_1").strip(" \x00")[: LONGEST_UID + 1]

    def attributes(self) -> Mapping[str, list[str]]:
        """Top-level attributes for rules by keyword; see `RULE_ATTRIBUTES`."""
        found: dict[str, list[str]] = {}
        for tag in self._values:
            keyword = RULE_ATTRIBUTES.get(tag)
            if keyword is None:
                continue
            if len(found) == MOST_ATTRIBUTES:
                self.note(f"Only the first {MOST_ATTRIBUTES} attributes can be asked for in rules.")
                break
            found[keyword] = self.texts(tag)
        return MappingProxyType(found)

    def _decoded(self, raw: RawValue) -> str:
        text, is_understood = self._character_set.decode(raw.value.rstrip(b"\x00 "))
        if not is_understood:
            self.note("A text does not fit its Specific Character Set and was read as it could be.")
        return text

    def _unpacked(self, raw: RawValue) -> tuple[float, ...]:
        code = _NUMBERS[raw.vr]
        count = len(raw.value) // struct.calcsize("<" + code)
        return struct.unpack_from(f"{self._byte_order}{count}{code}", raw.value)


def _number_text(number: float) -> str:
    return str(number) if isinstance(number, int) else repr(number)

"""What the node knows of one image without looking at its pixels.

Text never makes an object unreadable; structure does. The result is bounded in every field, so
that it can be stored, and nothing in ``warnings`` names a patient.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dicomnode.dicom.elements import DEFAULT_LIMITS, PixelDataPlace, Scan, ScanLimits, scan
from dicomnode.dicom.header_values import RULE_ATTRIBUTES, Values

_LONGEST_IDENTITY = 400
_LARGEST_DIMENSION = 0xFFFF


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Who the patient is, as the sender writes it; `identity` says what counts."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """One SOP instance as its header describes it; an absent text is empty, a number None.

    UIDs are as received and may be unusable (see `dicomnode.dicom.uids`). Positions are patient
    LPS in mm, ``pixel_spacing`` is mm between (rows, columns). Of an enhanced multi-frame object
    the geometry is the first frame's. ``attributes`` are for rules: DICOM keyword to values as
    text, bounded, without what identifies a person.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    patient: PatientIdentity = PatientIdentity()
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    body_part_examined: str = ""
    instance_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    has_pixels: bool = False
    image_position: tuple[float, float, float] | None = None
    image_orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    kernel: str = ""
    manufacturer: str = ""
    device_serial_number: str = ""
    attributes: Mapping[str, list[str]] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()


_PATIENT_TEXTS = MappingProxyType(
    {
        "patient_id": (0x00100020, 256),
        "issuer": (0x00100021, 256),
        "name": (0x00100010, 256),
        "birth_date": (0x00100030, 16),
        "sex": (0x00100040, 16),
    }
)
_TEXTS = MappingProxyType(
    {
        "accession_number": (0x00080050, 64),
        "study_id": (0x00200010, 64),
        "study_date": (0x00080020, 16),
        "study_time": (0x00080030, 16),
        "study_description": (0x00081030, 256),
        "modality": (0x00080060, 16),
        "series_description": (0x0008103E, 256),
        "body_part_examined": (0x00180015, 64),
        "kernel": (0x00181210, 64),
        "manufacturer": (0x00080070, 64),
        "device_serial_number": (0x00181000, 64),
    }
)
_UIDS = MappingProxyType(
    {
        "study_instance_uid": 0x0020000D,
        "series_instance_uid": 0x0020000E,
        "sop_instance_uid": 0x00080018,
        "sop_class_uid": 0x00080016,
    }
)
_ROWS, _COLUMNS, _FRAMES, _BITS_ALLOCATED, _SAMPLES = (
    0x00280010,
    0x00280011,
    0x00280008,
    0x00280100,
    0x00280002,
)
_PHOTOMETRIC = 0x00280004
_POSITION, _ORIENTATION, _SPACING, _THICKNESS = 0x00200032, 0x00200037, 0x00280030, 0x00180050
_WANTED = frozenset(
    {
        *RULE_ATTRIBUTES,
        *(tag for tag, _ in _PATIENT_TEXTS.values()),
        *(tag for tag, _ in _TEXTS.values()),
        *_UIDS.values(),
        0x00080005,
    }
)


def read_header(path: Path, limits: ScanLimits = DEFAULT_LIMITS) -> Header:
    """Read what a file says of itself, without its pixels, in bounded time and memory.

    Raises
    ------
    UnreadableError
        Not DICOM, cut off, an element longer than the file, or over a limit; with the offset.
        A bad text is not an error, and neither are missing UIDs.
    """
    scanned = scan(path, _WANTED, limits)
    values = Values(scanned)
    rows, columns = values.integer(_ROWS), values.integer(_COLUMNS)
    frames = max(values.integer(_FRAMES) or 1, 1)
    thickness = values.numbers(_THICKNESS, 1)
    if scanned.pixel_data is not None:
        _check_pixel_length(scanned, scanned.pixel_data, values)
    attributes = values.attributes()
    return Header(
        **{name: values.uid(tag) for name, tag in _UIDS.items()},
        **{name: values.text(tag, longest) for name, (tag, longest) in _TEXTS.items()},
        transfer_syntax_uid=scanned.file_meta.transfer_syntax_uid,
        patient=PatientIdentity(
            **{name: values.text(tag, longest) for name, (tag, longest) in _PATIENT_TEXTS.items()}
        ),
        series_number=values.integer(0x00200011),
        instance_number=values.integer(0x00200013),
        rows=_dimension(rows),
        columns=_dimension(columns),
        frames=frames,
        has_pixels=scanned.pixel_data is not None,
        image_position=values.numbers(_POSITION, 3),  # type: ignore[arg-type]  # three, as asked for
        image_orientation=values.numbers(_ORIENTATION, 6),  # type: ignore[arg-type]
        pixel_spacing=values.numbers(_SPACING, 2),  # type: ignore[arg-type]
        slice_thickness_mm=thickness[0] if thickness else None,
        attributes=attributes,
        warnings=values.warnings,
    )


def _dimension(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= _LARGEST_DIMENSION else None


def _check_pixel_length(scanned: Scan, pixels: PixelDataPlace, values: Values) -> None:
    """Note uncompressed pixel data that is shorter than the image's dimensions say."""
    if pixels.is_encapsulated or scanned.file_meta.transfer_syntax_uid == "":
        return
    needed_bits = 1
    for tag, default in (
        (_ROWS, 0), (_COLUMNS, 0), (_FRAMES, 1), (_BITS_ALLOCATED, 0), (_SAMPLES, 1),
    ):  # fmt: skip
        needed_bits *= max(values.integer(tag) or default, 0)
    if values.text(_PHOTOMETRIC) == "YBR_FULL_422":  # two of three samples are left out
        needed_bits = needed_bits * 2 // 3
    if pixels.length * 8 < needed_bits:
        values.note(
            f"Pixel Data has {pixels.length} bytes, and its dimensions need {needed_bits // 8}."
        )


def identity(patient: PatientIdentity) -> str:
    r"""Give one text that is equal for the same patient.

    It is made of Patient ID and issuer; both empty, of name and birth date. The parts are
    separated by a backslash, which no value can contain; at most 400 characters,
    longer ones as a digest.
    """
    if patient.patient_id or patient.issuer:
        parts = ("id", patient.patient_id, patient.issuer)
    else:
        parts = ("name", patient.name, patient.birth_date)
    text = "\\".join(parts)
    if len(text) <= _LONGEST_IDENTITY:
        return text
    return "digest\\" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def to_row(header: Header) -> dict[str, object]:
    """Give what a database keeps of an instance as JSON, ``attributes`` left out.

    Rules ask a series, not an image, so the attributes are kept once, with the series.
    """
    names = (f.name for f in dataclasses.fields(header))
    row = {n: getattr(header, n) for n in names if n not in ("patient", "attributes")}
    row["patient"] = dataclasses.asdict(header.patient)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def from_row(row: Mapping[str, object]) -> Header:
    """Give the header that `to_row` made a row of; keys of a newer program are ignored."""
    known = {f.name for f in dataclasses.fields(Header)}
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
        if name in known and name != "patient"
    }
    patient = row.get("patient")
    identity_of = PatientIdentity(**patient) if isinstance(patient, Mapping) else PatientIdentity()
    return Header(patient=identity_of, **given)  # type: ignore[arg-type]  # as to_row wrote them

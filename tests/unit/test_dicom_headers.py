from __future__ import annotations

import contextlib
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomnode.dicom.elements import ScanLimits
from dicomnode.dicom.files import file_meta_header
from dicomnode.dicom.headers import (
    Header,
    PatientIdentity,
    from_row,
    identity,
    read_header,
    to_row,
)
from dicomnode.dicom.text import CharacterSet
from dicomnode.dicom.uids import is_usable_uid
from dicomnode.errors import UnreadableError
from tests import data


def raw_file(path: Path, elements: bytes, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    path.write_bytes(file_meta_header("1.2", "1.2.3", transfer_syntax) + elements)
    return path


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"SQ", b"OB", b"OW", b"UN"):
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


@pytest.mark.parametrize("transfer_syntax", data.NATIVE)
def test_header_says_the_same_in_every_encoding(transfer_syntax: str, tmp_path: Path) -> None:
    image = data.ct_series(slices=3, transfer_syntax=transfer_syntax)[1]
    header = read_header(data.save(image, tmp_path / "x"))
    assert header.study_instance_uid == data.uid("study")
    assert header.series_instance_uid == data.uid("study", "ct")
    assert header.sop_instance_uid == data.uid("study", "ct", 2)
    assert header.transfer_syntax_uid == transfer_syntax
    assert header.patient == PatientIdentity(
        patient_id="PHANTOM-1", name="Phantom^Chest", birth_date="19600101", sex="O"
    )
    assert (header.modality, header.series_number, header.instance_number) == ("CT", 2, 2)
    assert (header.rows, header.columns, header.frames, header.has_pixels) == (64, 64, 1, True)
    assert header.image_position == (-40.0, -40.0, -97.5)
    assert header.image_orientation == (1, 0, 0, 0, 1, 0)
    assert header.pixel_spacing == (1.25, 1.25)
    assert header.slice_thickness_mm == 2.5
    assert header.kernel == "STANDARD"
    assert header.warnings == ()


def test_attributes_serve_rules_and_tell_no_identity(tmp_path: Path) -> None:
    image = data.ct_series(slices=1)[0]
    image.PatientAge = "064Y"
    image.ReferringPhysicianName = "Doctor^Who"
    image.PatientComments = "secret"
    image.OtherPatientIDs = "secret"
    image.add_new(0x00091001, "LO", "private")
    attributes = read_header(data.save(image, tmp_path / "x")).attributes
    assert attributes["ImageType"] == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert attributes["Rows"] == ["64"]
    assert [float(value) for value in attributes["KVP"]] == [120]
    assert attributes["PatientAge"] == ["064Y"]
    told = json.dumps(dict(attributes))
    for secret in ("PHANTOM-1", "Phantom", "1960", "Who", "secret", "private", "ACC1"):
        assert secret not in told


def test_attributes_are_bounded(tmp_path: Path) -> None:
    image = data.ct_series(slices=1)[0]
    image.SeriesDescription = "x" * 3000
    image.ImageType = ["A"] * 500
    attributes = read_header(data.save(image, tmp_path / "x")).attributes
    assert len(attributes) <= 200
    assert all(len(values) <= 64 for values in attributes.values())
    assert all(len(value) <= 256 for values in attributes.values() for value in values)


def test_enhanced_image_has_the_geometry_of_its_first_frame(tmp_path: Path) -> None:
    header = read_header(data.save(data.enhanced_ct(frames=4), tmp_path / "x"))
    assert header.frames == 4
    assert header.image_orientation == (1, 0, 0, 0, 1, 0)
    assert header.pixel_spacing == (1.0, 1.0)
    assert header.image_position is not None


@settings(max_examples=30)
@given(
    position=st.tuples(*[st.floats(-1e4, 1e4)] * 3) | st.none(),
    name=st.text(max_size=50),
    warnings=st.lists(st.text(max_size=20), max_size=3),
)
def test_a_row_gives_the_header_back(
    position: tuple[float, float, float] | None, name: str, warnings: list[str]
) -> None:
    header = Header(
        *["1.2", "1.3", "1.4", "1.5", "1.6"],
        patient=PatientIdentity(name=name),
        image_position=position,
        warnings=tuple(warnings),
        attributes={"Modality": ["CT"]},
    )
    row = json.loads(json.dumps(to_row(header)))
    assert from_row(row | {"of_a_newer_program": 1}) == replace(header, attributes={})


@pytest.mark.parametrize(
    ("patient", "wanted"),
    [
        (PatientIdentity("7", "HOSPITAL", "A^B", "19700101"), "id\\7\\HOSPITAL"),
        (PatientIdentity("7", "", "A^B", "19700101"), "id\\7\\"),
        (PatientIdentity("", "", "A^B", "19700101"), "name\\A^B\\19700101"),
        (PatientIdentity(), "name\\\\"),
    ],
)
def test_identity_is_number_and_issuer_else_name_and_birth_date(
    patient: PatientIdentity, wanted: str
) -> None:
    assert identity(patient) == wanted


def test_identity_always_fits_its_column() -> None:
    one, other = (PatientIdentity("7" * 256, "H" * 255 + end) for end in "ab")
    assert len(identity(one)) <= 400
    assert identity(one) != identity(other)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_file_is_unreadable_with_its_place(keep: float, tmp_path: Path) -> None:
    image = data.ct_series(slices=1)[0]
    path = tmp_path / "x"
    path.write_bytes(data.truncated(image, keep))
    with pytest.raises(UnreadableError) as raised:
        read_header(path)
    assert 0 < raised.value.offset <= path.stat().st_size


def test_an_over_long_uid_stays_over_long_and_is_not_taken_for_one(tmp_path: Path) -> None:
    image = data.ct_series(slices=1, rows=8)[0]
    value = str(image.StudyInstanceUID).encode()
    known = element(0x0020, 0x000D, b"UI", value + b"\0" * (len(value) % 2))
    content = data.as_bytes(image)
    assert known in content
    path = tmp_path / "x"
    path.write_bytes(content.replace(known, element(0x0020, 0x000D, b"UI", b"1." + b"3" * 72)))
    assert not is_usable_uid(read_header(path).study_instance_uid)


def test_an_element_of_four_gigabytes_with_a_hundred_bytes_is_found(tmp_path: Path) -> None:
    claimed = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0) + bytes(100)
    path = raw_file(tmp_path / "x", element(0x0008, 0x0060, b"CS", b"CT") + claimed)
    with pytest.raises(UnreadableError, match=r"4294967280 bytes, and 100 follow"):
        read_header(path)


def test_deep_nesting_is_unreadable_and_no_recursion_error(tmp_path: Path) -> None:
    nested = b""
    for _ in range(400):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
        nested = element(0x0040, 0xA730, b"SQ", item)
    path = raw_file(tmp_path / "x", element(0x0008, 0x0060, b"CS", b"SR") + nested)
    with pytest.raises(UnreadableError, match="Nested more than 50 deep"):
        read_header(path)


def test_deep_nesting_of_undefined_length_is_unreadable(tmp_path: Path) -> None:
    opened = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    opened += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    path = raw_file(tmp_path / "x", element(0x0008, 0x0060, b"CS", b"SR") + opened * 5000)
    with pytest.raises(UnreadableError, match="Nested more than 50 deep"):
        read_header(path)


def test_too_many_elements_are_unreadable(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "x", element(0x0008, 0x0060, b"CS", b"CT") * 2000)
    with pytest.raises(UnreadableError, match="More than 1000 elements"):
        read_header(path, ScanLimits(elements=1000))


def test_a_deflate_bomb_is_unreadable(tmp_path: Path) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = element(0x0008, 0x0060, b"CS", b"CT") + element(0x7FE0, 0x0010, b"OW", bytes(1 << 24))
    deflated = deflater.compress(bomb) + deflater.flush()
    path = raw_file(tmp_path / "x", deflated, DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnreadableError, match="inflates to more than"):
        read_header(path, ScanLimits(inflated_bytes=1 << 20))


def test_a_broken_sequence_of_known_length_costs_a_warning_and_no_image(tmp_path: Path) -> None:
    broken = element(0x0008, 0x1115, b"SQ", b"\x01\x02\x03\x04\x05\x06\x07\x08")
    after = element(0x0010, 0x0020, b"LO", b"P1")
    header = read_header(raw_file(tmp_path / "x", broken + after))
    assert header.patient.patient_id == "P1"
    assert any("(0008,1115)" in warning for warning in header.warnings)


def test_zeros_behind_the_last_element_are_passed_over(tmp_path: Path) -> None:
    header = read_header(
        raw_file(tmp_path / "x", element(0x0010, 0x0020, b"LO", b"P1") + bytes(37))
    )
    assert header.patient.patient_id == "P1"
    assert header.warnings == ("Zero bytes follow the last element.",)


def test_short_pixel_data_is_noted(tmp_path: Path) -> None:
    image = data.ct_series(slices=1)[0]
    image.PixelData = image.PixelData[:1000]
    header = read_header(data.save(image, tmp_path / "x"))
    assert header.warnings == ("Pixel Data has 1000 bytes, and its dimensions need 8192.",)


def test_numbers_that_are_none_count_as_absent(tmp_path: Path) -> None:
    elements = (
        element(0x0018, 0x0050, b"DS", b"thick ")
        + element(0x0020, 0x0011, b"IS", b"1A")
        + element(0x0020, 0x0013, b"IS", b"99999999999 ")
        + element(0x0020, 0x0032, b"DS", b"1\\2 ")
        + element(0x0020, 0x0037, b"DS", b"1\\0\\0\\0\\nan\\0 ")
        + element(0x0028, 0x0008, b"IS", b"-4")
    )
    header = read_header(raw_file(tmp_path / "x", elements))
    assert header.slice_thickness_mm is None
    assert header.series_number is None
    assert header.instance_number is None
    assert header.image_position is None
    assert header.image_orientation is None
    assert header.frames == 1


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300), implicit=st.booleans())
def test_random_bytes_give_a_header_or_unreadable(
    junk: bytes, implicit: bool, tmp_path: Path
) -> None:
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    path = raw_file(tmp_path / "x", junk, syntax)
    try:
        header = read_header(path)
    except UnreadableError:
        return
    json.dumps(to_row(header))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(132, 2000), new=st.binary(min_size=1, max_size=8))
def test_a_damaged_header_gives_a_header_or_unreadable(
    place: int, new: bytes, tmp_path: Path
) -> None:
    image = data.ct_series(slices=1, rows=8)[0]
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    image.ReferencedImageSequence = Sequence([item, item])
    whole = bytearray(data.as_bytes(image))
    whole[place : place + len(new)] = new
    path = tmp_path / "x"
    path.write_bytes(bytes(whole))
    with contextlib.suppress(UnreadableError):
        read_header(path)


@pytest.mark.parametrize(
    ("charset", "name", "stored"),
    [
        ("ISO_IR 100", "Müller^Jürgen", "Müller^Jürgen".encode("latin_1")),
        ("ISO_IR 192", "王^小東", "王^小東".encode()),
        ("ISO IR 100", "Müller", "Müller".encode("latin_1")),
        ("GB18030", "王^小东", "王^小东".encode("gb18030")),
        ("ISO_IR 144", "Люк", "Люк".encode("iso8859_5")),
        (
            "\\ISO 2022 IR 87",
            "Yamada^Tarou=山田^太郎",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        ),
        ("\\ISO 2022 IR 149", "Hong=洪", b"Hong=\x1b$)C" + "洪".encode("euc_kr")),
    ],
)
def test_text_is_read_in_its_character_set(
    charset: str, name: str, stored: bytes, tmp_path: Path
) -> None:
    assert CharacterSet.of(charset.split("\\")).decode(stored) == (name, True)
    elements = element(0x0008, 0x0005, b"CS", charset.encode().ljust(len(charset) + 1)[:16])
    value = stored if len(stored) % 2 == 0 else stored + b" "
    header = read_header(raw_file(tmp_path / "x", elements + element(0x0010, 0x0010, b"PN", value)))
    assert header.patient.name == name


@pytest.mark.parametrize(
    ("charset", "stored", "name"),
    [
        ("ISO_IR 192", "Müller".encode("latin_1"), "Müller"),
        ("NONSENSE", "Müller".encode("latin_1"), "Müller"),
        ("NONSENSE", "Müller".encode(), "Müller"),
        ("ISO_IR 100", b"A\x1b$ZB", "A$ZB"),
        ("\\ISO 2022 IR 87", b"A\x1b$B\xff\xff", "A$Bÿÿ"),
    ],
)
def test_a_wrong_character_set_costs_a_note_and_no_image(
    charset: str, stored: bytes, name: str
) -> None:
    assert CharacterSet.of(charset.split("\\")).decode(stored) == (name, False)


def test_text_never_carries_control_characters(tmp_path: Path) -> None:
    header = read_header(
        raw_file(tmp_path / "x", element(0x0010, 0x0020, b"LO", b"A\x00B\nC\x1b[31mD "))
    )
    assert header.patient.patient_id == "A B C[31mD"


@given(st.binary(max_size=100), st.sampled_from(["ISO_IR 13", "ISO 2022 IR 58", "GBK", "x"]))
def test_no_bytes_make_text_fail(stored: bytes, charset: str) -> None:
    text, _ = CharacterSet.of([charset, "ISO 2022 IR 87"]).decode(stored)
    assert "\x00" not in text
    text.encode()


def test_big_endian_numbers_are_turned_round(tmp_path: Path) -> None:
    image = data.ct_series(slices=1, rows=8, columns=16, transfer_syntax=ExplicitVRBigEndian)[0]
    header = read_header(data.save(image, tmp_path / "x"))
    assert (header.rows, header.columns) == (8, 16)

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomnode.dicom.files import data_set_digest, data_set_offset, file_meta_header
from dicomnode.dicom.uids import derived_uid, device_uid, is_usable_uid, is_valid_uid
from dicomnode.errors import UnreadableError
from tests import data


@pytest.mark.parametrize(
    ("text", "usable", "valid"),
    [
        ("1.2.840.10008.1.2", True, True),
        ("2.25.0", True, True),
        ("1.2.03", True, False),
        ("1..2", True, False),
        ("1.2.", True, False),
        ("1" * 64, True, False),
        ("1." + "2" * 62, True, True),
        ("1." + "2" * 63, False, False),
        ("", False, False),
        ("...", False, False),
        ("../../etc/passwd", False, False),
        ("1.2\n", False, False),
        ("1.2\x00", False, False),
        ("١.٢", False, False),
    ],
)
def test_sloppy_uids_may_come_in_but_are_not_valid(text: str, usable: bool, valid: bool) -> None:
    assert is_usable_uid(text) is usable
    assert is_valid_uid(text) is valid


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_derived_uids_are_valid_and_always_the_same(parts: list[str]) -> None:
    assert is_valid_uid(derived_uid(*parts))
    assert derived_uid(*parts) == derived_uid(*parts)


def test_derived_uids_are_fixed_for_ever() -> None:
    assert derived_uid("key", "seg", "1") == "2.25.118257992556351677047619659901082710898"
    assert device_uid("node") != device_uid("other node")


def test_our_file_meta_is_read_by_pydicom_and_keeps_the_data_set_to_the_byte(
    tmp_path: Path,
) -> None:
    whole = data.as_bytes(data.ct_series(slices=1)[0])
    (tmp_path / "theirs").write_bytes(whole)
    offset, _ = data_set_offset(tmp_path / "theirs")
    head = file_meta_header("1.2.840.10008.5.1.4.1.1.2", "1.2.3", ExplicitVRLittleEndian)
    ours = tmp_path / "ours"
    ours.write_bytes(head + whole[offset:])

    read = dcmread(ours)
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.FileMetaInformationGroupLength == len(head) - 144
    our_offset, meta = data_set_offset(ours)
    assert our_offset == len(head)
    assert meta.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert not meta.transfer_syntax_is_guessed


def test_digest_counts_the_data_set_and_not_the_file_meta(tmp_path: Path) -> None:
    whole = data.as_bytes(data.ct_series(slices=1)[0])
    theirs = tmp_path / "theirs"
    theirs.write_bytes(whole)
    offset, _ = data_set_offset(theirs)
    ours = tmp_path / "ours"
    ours.write_bytes(file_meta_header("1.2", "1.2.3", ExplicitVRLittleEndian) + whole[offset:])
    bare = tmp_path / "bare"
    bare.write_bytes(whole[offset:])

    wanted = hashlib.sha256(whole[offset:]).hexdigest()
    assert data_set_digest(theirs) == data_set_digest(ours) == data_set_digest(bare) == wanted


@pytest.mark.parametrize(
    "transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_transfer_syntax_of_a_bare_data_set_is_guessed(
    transfer_syntax: str, tmp_path: Path
) -> None:
    whole = data.as_bytes(data.ct_series(slices=1, transfer_syntax=transfer_syntax)[0])
    path = tmp_path / "whole"
    path.write_bytes(whole)
    offset, _ = data_set_offset(path)
    path.write_bytes(whole[offset:])
    bare_offset, meta = data_set_offset(path)
    assert (bare_offset, meta.transfer_syntax_uid) == (0, transfer_syntax)
    assert meta.transfer_syntax_is_guessed


def test_file_meta_without_preamble_is_read(tmp_path: Path) -> None:
    whole = data.as_bytes(
        data.ct_series(slices=1, transfer_syntax=DeflatedExplicitVRLittleEndian)[0]
    )
    path = tmp_path / "no preamble"
    path.write_bytes(whole[132:])
    _, meta = data_set_offset(path)
    assert meta.transfer_syntax_uid == DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("content", [b"", b"short", data.not_dicom(), b"<html>" * 100])
def test_what_is_not_dicom_is_unreadable_in_words(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"[A-Z].*\."):
        data_set_offset(path)


def test_cut_file_meta_is_unreadable(tmp_path: Path) -> None:
    whole = data.as_bytes(data.ct_series(slices=1)[0])
    path = tmp_path / "x"
    path.write_bytes(io.BytesIO(whole).read(190))
    with pytest.raises(UnreadableError):
        data_set_offset(path)

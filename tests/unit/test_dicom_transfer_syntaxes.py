from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from dicomnode.dicom.probe_frames import probe_frames
from dicomnode.dicom.transfer_syntaxes import (
    LOSSLESS,
    NATIVE,
    PixelForm,
    decodable,
    decode_frame,
    settle_bits,
)
from dicomnode.errors import NotDecodableError, UnreadableError


def test_every_decoder_that_the_node_depends_on_is_proved() -> None:
    assert decodable() == NATIVE | frozenset(probe_frames())
    assert all(UID(uid).is_transfer_syntax for uid in decodable())
    assert decodable() > LOSSLESS


def test_deflated_is_never_offered() -> None:
    assert DeflatedExplicitVRLittleEndian not in decodable()
    assert JPEGExtended12Bit not in decodable()


@pytest.mark.parametrize("uid", sorted(probe_frames()))
def test_a_broken_stream_is_unreadable_and_nothing_else(uid: str) -> None:
    probe = probe_frames()[uid]
    rows, columns = probe.expected.shape
    with pytest.raises(UnreadableError):
        decode_frame(probe.encoded[: len(probe.encoded) // 3], uid, PixelForm(rows, columns))
    with pytest.raises(UnreadableError):
        decode_frame(b"", uid, PixelForm(rows, columns))


@pytest.mark.parametrize("uid", sorted(probe_frames()))
def test_a_frame_of_another_size_than_the_header_says_is_unreadable(uid: str) -> None:
    with pytest.raises(UnreadableError):
        decode_frame(probe_frames()[uid].encoded, uid, PixelForm(16, 7))


def test_a_stream_that_claims_a_huge_image_takes_no_memory() -> None:
    encoded = bytearray(probe_frames()["1.2.840.10008.1.2.4.90"].encoded)
    for at in (8, 12, 24, 28):
        struct.pack_into(">I", encoded, at, 60000)
    with pytest.raises(UnreadableError):
        decode_frame(bytes(encoded), "1.2.840.10008.1.2.4.90", PixelForm(32, 32))


def test_an_unknown_transfer_syntax_is_not_decodable() -> None:
    with pytest.raises(NotDecodableError):
        decode_frame(b"", "1.2.3", PixelForm(8, 8))


@pytest.mark.parametrize(
    ("signed", "stored", "high_bit", "given", "wanted"),
    [
        (False, 12, 11, 0xF123, 0x123),
        (True, 12, 11, 0x0FFF, -1),
        (True, 12, 11, 0x07FF, 2047),
        (False, 12, 15, 0x1230, 0x123),
        (True, 16, 15, 0xF830, -2000),
    ],
)
def test_bits_outside_of_bits_stored_are_dropped_and_the_sign_is_kept(
    signed: bool, stored: int, high_bit: int, given: int, wanted: int
) -> None:
    form = PixelForm(1, 1, 1, 16, stored, high_bit, signed)
    settled = settle_bits(np.array([[given]], dtype=np.uint16), form, high_bit)
    assert settled[0, 0] == wanted


def test_native_frames_are_read_in_both_byte_orders() -> None:
    form = PixelForm(1, 2, 1, 16, 16, 15, True)
    for uid, order in (("1.2.840.10008.1.2.1", "<"), ("1.2.840.10008.1.2.2", ">")):
        encoded = np.array([-2000, 3000], dtype=f"{order}i2").tobytes()
        assert decode_frame(encoded, uid, form).tolist() == [[-2000, 3000]]
    with pytest.raises(UnreadableError):
        decode_frame(b"\x00\x00", "1.2.840.10008.1.2.1", form)


def test_planes_of_colours_become_pixels() -> None:
    form = PixelForm(1, 2, 3, 8, 8, 7, planar=True, photometric="RGB")
    assert decode_frame(bytes([1, 2, 3, 4, 5, 6]), "1.2.840.10008.1.2.1", form).tolist() == [
        [[1, 3, 5], [2, 4, 6]]
    ]

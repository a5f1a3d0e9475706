"""DIMSE command sets: read as pynetdicom writes them, written as pydicom reads them."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode

from dicomnode.network.commands import (
    Command,
    CommandField,
    MalformedError,
    encode_response,
    parse_command,
)
from tests.network_data import CT, store_rq


def encoded_store_request() -> bytes:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3.45"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\x08\0\x18\0\x02\0\0\x001\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    first = next(message.encode_msg(1, 16382))
    return bytes(first.presentation_data_value_list[0][1][1:])


def test_a_store_request_is_read_as_the_library_writes_it() -> None:
    assert parse_command(encoded_store_request()) == Command(
        CommandField.C_STORE_RQ, 7, True, CT, "1.2.3.45"
    )


def test_an_echo_request_has_no_data_set() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 9
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    encoded = next(message.encode_msg(1, 16382)).presentation_data_value_list[0][1][1:]

    command = parse_command(bytes(encoded))

    assert command.field == CommandField.C_ECHO_RQ
    assert not command.has_data_set


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (b"", "COMMAND_FIELD"),
        (b"\0\0\0\1\2", "cut off"),
        (store_rq()[:-1], "longer than its command set"),
        (store_rq() + store_rq(), "repeated"),
        (b"\x08\0\x18\0\2\0\0\0" + b"1\0", "foreign"),
        (b"\0\0\0\1\xff\xff\xff\xff" + b"1\0", "longer than its command set"),
    ],
)
def test_a_broken_command_set_is_named_malformed(encoded: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        parse_command(encoded)


@given(st.binary(max_size=300))
def test_no_bytes_lead_to_another_error(encoded: bytes) -> None:
    try:
        parse_command(encoded)
    except MalformedError:
        return


@given(st.integers(0, 199), st.integers(0, 255))
def test_a_request_with_one_byte_changed_parses_or_is_malformed(position: int, value: int) -> None:
    encoded = bytearray(store_rq())
    encoded[position % len(encoded)] = value
    try:
        parse_command(bytes(encoded))
    except MalformedError:
        return


@pytest.mark.parametrize("padding", [b"", b"\0", b" "])
def test_uids_lose_their_padding(padding: bytes) -> None:
    assert parse_command(store_rq(b"1.2.3" + padding)).sop_instance_uid == "1.2.3"


@pytest.mark.parametrize("comment", ["", "odd", "even", "x" * 200, "größer"])
def test_a_response_is_read_by_pydicom_as_it_was_meant(comment: str) -> None:
    command = Command(CommandField.C_STORE_RQ, 513, True, CT, "1.2.3")

    found = decode(BytesIO(encode_response(command, 0xA700, comment)), True, True)

    assert found.CommandField == CommandField.C_STORE_RSP
    assert found.MessageIDBeingRespondedTo == 513
    assert found.CommandDataSetType == 0x0101
    assert found.Status == 0xA700
    assert found.AffectedSOPClassUID == CT
    assert found.AffectedSOPInstanceUID == "1.2.3"
    assert found.get("ErrorComment", "") == comment[:64].encode("ascii", "replace").decode()
    group_length = found.CommandGroupLength
    assert group_length == len(encode_response(command, 0xA700, comment)) - 12


@pytest.mark.parametrize("uid", ["../../x", "", "1.2\n3", "<script>", "1" * 65])
def test_a_made_up_uid_is_not_told_back(uid: str) -> None:
    command = Command(CommandField.C_STORE_RQ, 1, True, CT, uid)

    found = decode(BytesIO(encode_response(command, 0xA900)), True, True)

    assert "AffectedSOPInstanceUID" not in found

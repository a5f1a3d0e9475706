"""DIMSE command sets as bytes: Implicit VR Little Endian, group 0000 only (PS3.7 6.3.1, annex E).

They come from strangers, so parsing raises nothing but `MalformedError`, whatever the bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

# A command set is a few hundred bytes; more is an attack on memory.
LARGEST_COMMAND = 64 * 1024
_NO_DATA_SET = 0x0101
_LONGEST_ERROR_COMMENT = 64  # PS3.7 E.1: LO


class MalformedError(ValueError):
    """What a peer sent breaks PS3.7 or PS3.8; the message says how."""


class CommandField(IntEnum):
    """Command Field (0000,0100) of the messages that the server knows (PS3.7 E.1)."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    C_CANCEL_RQ = 0x0FFF
    C_STORE_RSP = 0x8001
    C_ECHO_RSP = 0x8030


class _Element(IntEnum):
    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000


@dataclass(frozen=True, slots=True)
class Command:
    """What a request asks; UIDs as the peer wrote them, unproved, empty where absent."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str


def _elements(encoded: bytes) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if len(encoded) - position < 8:
            raise MalformedError("a command element is cut off")
        group, element, length = struct.unpack_from("<HHL", encoded, position)
        position += 8
        if group != 0 or element in found:
            raise MalformedError("a command set holds a foreign or repeated element")
        if length > len(encoded) - position:
            raise MalformedError("a command element is longer than its command set")
        found[element] = encoded[position : position + length]
        position += length
    return found


def _number(elements: Mapping[int, bytes], element: _Element) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise MalformedError(f"the command set has no usable {element.name}")
    return int.from_bytes(value, "little")


def _uid(elements: Mapping[int, bytes], element: _Element) -> str:
    # Some senders pad a UID with a space, where PS3.5 9.1 wants a NUL.
    return elements.get(element, b"").decode("latin-1").rstrip("\0 ")


def parse_command(encoded: bytes) -> Command:
    """Read a request's command set.

    Raises
    ------
    MalformedError
        When it is not a command set with a Command Field, a Message ID and a data set type.
    """
    elements = _elements(encoded)
    field = _number(elements, _Element.COMMAND_FIELD)
    # PS3.7 9.3.2.3: C-CANCEL-RQ alone names another message instead of having an ID of its own.
    is_cancel = field == CommandField.C_CANCEL_RQ
    message_id = 0 if is_cancel else _number(elements, _Element.MESSAGE_ID)
    data_set_type = _number(elements, _Element.COMMAND_DATA_SET_TYPE)
    return Command(
        field=field,
        message_id=message_id,
        has_data_set=data_set_type != _NO_DATA_SET,
        sop_class_uid=_uid(elements, _Element.AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_uid(elements, _Element.AFFECTED_SOP_INSTANCE_UID),
    )


def _element(element: _Element, value: bytes, padding: bytes = b"\0") -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HHL", 0, element, len(value)) + value


def encode_response(command: Command, status: int, comment: str = "") -> bytes:
    """Give the command set that answers a C-STORE-RQ or C-ECHO-RQ with ``status``.

    ``comment`` becomes the Error Comment (0000,0902), cut to its 64 characters. UIDs are repeated
    only if they could stand in a UID: a peer is not told back what it made up.
    """

    def number(element: _Element, value: int) -> bytes:
        return _element(element, struct.pack("<H", value))

    parts = []
    if _is_plain(command.sop_class_uid):
        parts.append(_element(_Element.AFFECTED_SOP_CLASS_UID, command.sop_class_uid.encode()))
    parts.append(number(_Element.COMMAND_FIELD, command.field | 0x8000))
    parts.append(number(_Element.MESSAGE_ID_BEING_RESPONDED_TO, command.message_id))
    parts.append(number(_Element.COMMAND_DATA_SET_TYPE, _NO_DATA_SET))
    parts.append(number(_Element.STATUS, status))
    if comment:
        words = comment[:_LONGEST_ERROR_COMMENT].encode("ascii", "replace")
        parts.append(_element(_Element.ERROR_COMMENT, words, b" "))
    if command.field == CommandField.C_STORE_RQ and _is_plain(command.sop_instance_uid):
        parts.append(
            _element(_Element.AFFECTED_SOP_INSTANCE_UID, command.sop_instance_uid.encode())
        )
    body = b"".join(parts)
    return _element(_Element.GROUP_LENGTH, struct.pack("<L", len(body))) + body


def _is_plain(uid: str) -> bool:
    return 0 < len(uid) <= 64 and all(character in "0123456789." for character in uid)

"""DICOM files (PS3.10): our file meta in front of a data set's bytes exactly as they came.

Never re-encodes a data set. Files from elsewhere may lack preamble, file meta or both.
"""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from dicomnode.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.errors import UnreadableError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

_PREAMBLE_BYTES = 132
_LARGEST_META_BYTES = 1 << 20
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What stands in front of a data set; texts are empty where the file does not say.

    ``transfer_syntax_uid`` is guessed from the first element where ``transfer_syntax_is_guessed``.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    transfer_syntax_is_guessed: bool = False


def file_meta_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) to write before a data set."""
    body = b"".join(
        (
            struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\x00\x01",
            _text_element(0x0002, b"UI", sop_class_uid, b"\x00"),
            _text_element(0x0003, b"UI", sop_instance_uid, b"\x00"),
            _text_element(0x0010, b"UI", transfer_syntax_uid, b"\x00"),
            _text_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\x00"),
            _text_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _text_element(element: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += pad
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def data_set_offset(path: Path) -> tuple[int, FileMeta]:
    """Where the data set's bytes begin in a file, and what its file meta says.

    Raises
    ------
    UnreadableError
        Neither file meta nor a first element of a data set is found.
    """
    with path.open("rb") as file:
        return parse_file_meta(file.read(_LARGEST_META_BYTES))


def parse_file_meta(head: bytes) -> tuple[int, FileMeta]:
    """Give the same as `data_set_offset` from the first bytes of a file."""
    offset = _PREAMBLE_BYTES if head[128:132] == b"DICM" else 0
    values: dict[int, bytes] = {}
    while len(head) >= offset + 8:
        group, element = struct.unpack_from("<HH", head, offset)
        if group != 2:
            break
        start, length = _value_span(head, offset)
        if start + length > len(head):
            raise UnreadableError("The file meta information is cut off.", offset)
        values[element] = head[start : start + length]
        offset = start + length
    transfer_syntax_uid = _text(values.get(0x0010, b""))
    is_guessed = not transfer_syntax_uid
    if is_guessed:
        transfer_syntax_uid = _guess_transfer_syntax(head, offset)
    meta = FileMeta(
        _text(values.get(0x0002, b"")),
        _text(values.get(0x0003, b"")),
        transfer_syntax_uid,
        is_guessed,
    )
    return offset, meta


def _value_span(head: bytes, offset: int) -> tuple[int, int]:
    """Start and length of the value of the file meta element at ``offset``."""
    vr = head[offset + 4 : offset + 6]
    if not vr.isalpha():  # some writers encode their file meta in implicit VR
        return offset + 8, struct.unpack_from("<I", head, offset + 4)[0]
    if vr not in _LONG_VRS:
        return offset + 8, struct.unpack_from("<H", head, offset + 6)[0]
    if len(head) < offset + 12:
        raise UnreadableError("The file meta information is cut off.", offset)
    return offset + 12, struct.unpack_from("<I", head, offset + 8)[0]


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \x00")[:64]


def _guess_transfer_syntax(head: bytes, offset: int) -> str:
    """Tell the byte order and VR form from the first element, which lies in group 2 to 28 hex."""
    if len(head) < offset + 8:
        raise UnreadableError("The file holds no DICOM data set.", offset)
    little, big = (struct.unpack_from(order + "H", head, offset)[0] for order in "<>")
    is_explicit = head[offset + 4 : offset + 6].isalpha()
    if 4 <= little <= 0x28:
        if is_explicit:
            return EXPLICIT_LITTLE
        if struct.unpack_from("<I", head, offset + 4)[0] <= 0xFFFF:
            return IMPLICIT_LITTLE
    if 4 <= big <= 0x28 and is_explicit:
        return EXPLICIT_BIG
    raise UnreadableError("The bytes do not begin like DICOM.", offset)


def data_set_digest(path: Path) -> str:
    """SHA-256, in hex, of the data set's bytes; preamble and file meta do not count."""
    offset, _ = data_set_offset(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()

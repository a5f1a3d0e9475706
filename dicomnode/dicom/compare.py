"""Whether two files of one SOP Instance UID hold the same content.

A PACS that forwards an image may write it in another transfer syntax, with other VRs, paddings,
group lengths or delimiters. None of that is another image; one changed value is. Call it only in a
process that may die: both files come from a peer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.values import convert_SQ

from dicomnode.dicom.files import DEFLATED_LITTLE, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomnode.dicom.stored_images import PYDICOM_FAULTS, StoredImage, open_image
from dicomnode.dicom.transfer_syntaxes import LOSSLESS, NATIVE
from dicomnode.errors import NotDecodableError, UnreadableError

_PIXEL_DATA = 0x7FE00010
# Say how pixels are stored; the pixels themselves are compared. Compressors without loss write
# their name into Derivation Description (0008,2111).
_STORAGE_TAGS = frozenset({0x00082111, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00003})
_PHOTOMETRIC = 0x00280004
# Colour as such and the forms that JPEG 2000 stores it in (PS3.3 C.7.6.3.1.2).
_RGB_FORMS = frozenset({"RGB", "YBR_RCT"})
_TRAILING_PADDING = 0xFFFCFFFC
_MOST_NESTING = 60
# Little endian and not encapsulated: the pixels are the same bytes in each.
_PLAIN = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE})


def same_content(path_a: Path, path_b: Path) -> bool:
    """Tell whether both files say the same, element by element, nested ones too.

    Pixels are compared decoded when both sides are uncompressed or lossless, else as bytes in one
    transfer syntax. Whatever cannot be read or decoded counts as not the same.
    """
    try:
        a, b = open_image(path_a), open_image(path_b)
        whole_a, whole_b = (dcmread(path, force=True) for path in (path_a, path_b))
        return _same_dataset(whole_a, whole_b, 0) and (
            _same_pixel_bytes(whole_a, whole_b, a, b) or _same_pixels(a, b)
        )
    except (UnreadableError, NotDecodableError, OSError, *PYDICOM_FAULTS):
        return False


def _same_pixel_bytes(whole_a: Dataset, whole_b: Dataset, a: StoredImage, b: StoredImage) -> bool:
    """Tell whether neither has pixels, or both the same bytes in forms that store pixels alike."""
    if _PIXEL_DATA not in whole_a and _PIXEL_DATA not in whole_b:
        return True
    forms = {a.transfer_syntax_uid, b.transfer_syntax_uid}
    if len(forms) > 1 and not forms <= _PLAIN:
        return False
    raw_a, raw_b = _raw(whole_a, _PIXEL_DATA), _raw(whole_b, _PIXEL_DATA)
    return raw_a is not None and raw_b is not None and _equal_bytes(raw_a, raw_b)


def _same_pixels(a: StoredImage, b: StoredImage) -> bool:
    """Compare frame by frame: as stored if compressed alike, else decoded if nothing was lost."""
    if not (a.has_integer_pixels and b.has_integer_pixels) or a.frame_count != b.frame_count:
        return False
    if a.transfer_syntax_uid == b.transfer_syntax_uid and _equal_frames(a, b):
        return True
    if not {a.transfer_syntax_uid, b.transfer_syntax_uid} <= NATIVE | LOSSLESS:
        return False
    return all(np.array_equal(a.decode(frame), b.decode(frame)) for frame in range(a.frame_count))


def _equal_frames(a: StoredImage, b: StoredImage) -> bool:
    """Whether the frames are the same bytes, whatever fragments and offset tables they lie in."""
    pairs = zip(a.encoded_frames(), b.encoded_frames(), strict=True)
    return all(_equal_bytes(one, other) for one, other in pairs)


def _counted(dataset: Dataset, depth: int) -> Iterator[BaseTag]:
    """Tags whose values count, ascending."""
    for tag in sorted(dataset.keys()):
        is_storage = tag.element == 0 or tag in _STORAGE_TAGS or tag == _TRAILING_PADDING
        if not (is_storage or (depth == 0 and tag == _PIXEL_DATA)):
            yield tag


def _same_dataset(a: Dataset, b: Dataset, depth: int) -> bool:
    if depth > _MOST_NESTING:
        return False
    tags = list(_counted(a, depth))
    if tags != list(_counted(b, depth)):
        return False
    return all(_same_element(a, b, tag, depth) for tag in tags)


def _same_element(a: Dataset, b: Dataset, tag: BaseTag, depth: int) -> bool:
    raw_a, raw_b = _raw(a, tag), _raw(b, tag)
    if raw_a is not None and raw_b is not None:
        endings_agree = a.original_encoding[1] == b.original_encoding[1]
        if endings_agree and _equal_bytes(raw_a, raw_b):
            return True
    one, other = a[tag], b[tag]
    if one.VR == "SQ" or other.VR == "SQ":
        return _same_items(_items(one), _items(other), depth)
    if tag == _PHOTOMETRIC and {one.value, other.value} <= _RGB_FORMS:
        return True
    if "UN" in (one.VR, other.VR):
        return _same_unknown(one, other, raw_a, raw_b)
    return _normal(one.value) == _normal(other.value)


def _raw(dataset: Dataset, tag: int) -> bytes | None:
    """The element's bytes as they stand in the file, None for a sequence already parsed."""
    element: Any = dataset.get_item(tag) if tag in dataset else None
    return (element.value or b"") if isinstance(element, RawDataElement) else None


def _same_unknown(
    one: DataElement, other: DataElement, raw_a: bytes | None, raw_b: bytes | None
) -> bool:
    """One side has lost its VR: what is left to compare is bytes, padding aside."""
    values = [
        raw if raw is not None else element.value for element, raw in ((one, raw_a), (other, raw_b))
    ]
    if not all(isinstance(value, bytes) for value in values):
        return False
    return _equal_bytes(values[0], values[1]) or (
        values[0].rstrip(b" \x00") == values[1].rstrip(b" \x00")
        and not {one.VR, other.VR} & {"OB", "OW", "OF", "OD", "OL", "OV", "US", "SS", "UL", "SL"}
    )


def _items(element: DataElement) -> Sequence | None:
    """A sequence, one of unknown VR too, which is then in implicit VR (PS3.5 6.2.2)."""
    if element.VR == "SQ":
        return element.value
    if element.VR == "UN" and isinstance(element.value, bytes):
        return convert_SQ(element.value, True, True)
    return None


def _same_items(a: Sequence | None, b: Sequence | None, depth: int) -> bool:
    if a is None or b is None or len(a) != len(b):
        return False
    return all(_same_dataset(one, other, depth + 1) for one, other in zip(a, b, strict=True))


def _equal_bytes(a: bytes, b: bytes) -> bool:
    """Equal, or equal but for the one byte that makes a length even."""
    if a == b:
        return True
    if abs(len(a) - len(b)) != 1:
        return False
    shorter, longer = sorted((a, b), key=len)
    return len(longer) % 2 == 0 and longer[:-1] == shorter and longer[-1] in b"\x00 "


def _normal(value: Any) -> Any:
    """A value without what encodes it: padding of text, one value or a list of one."""
    if isinstance(value, MultiValue | list | tuple):
        parts = [_normal(part) for part in value]
        return parts[0] if len(parts) == 1 else parts
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.strip(" \x00")
    if type(value).__name__ == "PersonName":
        return str(value).rstrip("=^ \x00")
    return getattr(value, "original_string", value)

"""The elements of a data set by place and length, walked without decoding and within limits.

A file from a peer is hostile until it has been walked once: a value may claim more bytes than the
file has, sequences may nest until a recursive reader dies, a few bytes may inflate to gigabytes.
This walk (PS3.5 7) is iterative, reads no pixels and keeps only small values that were asked for.
It must never raise anything but `UnreadableError` (and OSError).
"""

import os
import struct
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]  # public, not listed

from dicomnode.dicom.files import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    FileMeta,
    parse_file_meta,
)
from dicomnode.errors import UnreadableError

_BLOCK_BYTES = 1 << 16
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FUNCTIONAL_GROUPS = frozenset({0x52009229, 0x52009230})
# Root, functional groups sequence, item, macro sequence, item.
_FUNCTIONAL_GROUP_DEPTH = 5
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What one object may cost before it is refused as unreadable."""

    elements: int = 1_000_000
    nesting: int = 50
    value_bytes: int = 4096
    inflated_bytes: int = 64 << 20


DEFAULT_LIMITS = ScanLimits()


class RawValue(NamedTuple):
    """A value as it stands in the file."""

    vr: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class PixelDataPlace:
    """Where pixel data lies in the file.

    ``fragments`` are the offset and length of each item of encapsulated pixel data (PS3.5 A.4), the
    first of them the Basic Offset Table; None if the pixels are not encapsulated.
    """

    tag: int
    offset: int
    length: int
    fragments: tuple[tuple[int, int], ...] | None = None

    @property
    def is_encapsulated(self) -> bool:
        return self.fragments is not None


@dataclass(slots=True)
class Scan:
    """What one walk over a data set saw: small wanted values at the top, and where pixels lie.

    ``grouped`` holds wanted values of the functional groups: shared ones and the first frame's.
    """

    file_meta: FileMeta
    byte_order: str
    values: dict[int, RawValue] = field(default_factory=dict)
    grouped: dict[int, RawValue] = field(default_factory=dict)
    pixel_data: PixelDataPlace | None = None
    warnings: list[str] = field(default_factory=list)


class _Frame(NamedTuple):
    """One open data set, item or sequence; ``end`` is the enclosing one's where undefined."""

    end: int
    is_sequence: bool
    is_undefined: bool
    is_implicit: bool
    tag: int


class _BrokenStructureError(Exception):
    """A fault that a sequence of known length around it can contain."""


def scan(path: Path, wanted: Container[int], limits: ScanLimits = DEFAULT_LIMITS) -> Scan:
    """Walk a file's data set and keep the values of ``wanted`` tags.

    Raises
    ------
    UnreadableError
        Not DICOM, cut off, an element longer than the file, or over a limit; with the offset.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = os.pread(file.fileno(), _BLOCK_BYTES, 0)
        offset, meta = parse_file_meta(head)
        if meta.transfer_syntax_uid == DEFLATED_LITTLE:
            head = _inflate(file.fileno(), offset, limits.inflated_bytes)
            offset, size = 0, len(head)
        walk = _Walk(file.fileno(), head, size, meta, limits)
        walk.run(offset, wanted)
        return walk.found


def _inflate(descriptor: int, offset: int, limit: int) -> bytes:
    """The data set of a deflated file, refused where it would grow over ``limit``."""
    deflated = os.pread(descriptor, limit, offset)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data_set = inflater.decompress(deflated, limit)
    except zlib.error as fault:
        raise UnreadableError("The deflated data set cannot be inflated.", offset) from fault
    if inflater.unconsumed_tail:
        raise UnreadableError(f"The data set inflates to more than {limit} bytes.", offset)
    return data_set


class _Walk:
    """One pass over a data set with an explicit stack instead of recursion."""

    def __init__(
        self, descriptor: int, head: bytes, size: int, meta: FileMeta, limits: ScanLimits
    ) -> None:
        big = meta.transfer_syntax_uid == EXPLICIT_BIG
        self.found = Scan(meta, ">" if big else "<")
        self._descriptor, self._block, self._base, self._size = descriptor, head, 0, size
        self._limits = limits
        order = self.found.byte_order
        self._tag = struct.Struct(order + "HH")
        self._short, self._long = struct.Struct(order + "H"), struct.Struct(order + "I")
        self._position, self._count, self._stack = 0, 0, list[_Frame]()

    def run(self, offset: int, wanted: Container[int]) -> None:
        implicit = self.found.file_meta.transfer_syntax_uid == IMPLICIT_LITTLE
        self._position, self._wanted = offset, wanted
        self._stack.append(_Frame(self._size, False, False, implicit, 0))
        while self._stack:
            try:
                self._step()
            except _BrokenStructureError as fault:
                self._leave_broken_sequence(str(fault))

    def _step(self) -> None:
        top = self._stack[-1]
        if self._position >= top.end:
            self._close(top)
        elif top.is_sequence:
            tag, _, length, start = self._element_head(self._position, top)
            self._check(tag, length, start, top.end)
            self._open_item(tag, length, start, top)
        else:
            self._pass_elements(top)

    def _pass_elements(self, top: _Frame) -> None:
        """Pass over elements up to the end of this data set or the next sequence."""
        end, depth, wanted = top.end, len(self._stack), self._wanted
        while self._position < end:
            at = self._position
            if depth == 1 and end - at < 8 and self._is_padding(end):
                return
            tag, vr, length, start = self._element_head(at, top)
            if tag == 0 and depth == 1 and self._is_padding(end):
                return
            self._check(tag, length, start, end)
            if tag == _ITEM_END:
                self._position = start
                self._stack.pop()
                return
            if vr == b"SQ" or length == _UNDEFINED:
                self._open_sequence(tag, vr, length, start)
                return
            if tag in wanted or tag in _PIXEL_DATA:
                self._keep(tag, vr, length, start)
            self._position = start + length

    def _check(self, tag: int, length: int, start: int, end: int) -> None:
        """Hold one element against the limits and the end of what encloses it."""
        self._count += 1
        if self._count > self._limits.elements:
            raise UnreadableError(f"More than {self._limits.elements} elements.", start)
        if length != _UNDEFINED and start + length > end:
            left = max(end - start, 0)
            raise _BrokenStructureError(
                f"Element {tag_text(tag)} says that it holds {length} bytes, and {left} follow."
            )

    def _bytes(self, at: int, length: int) -> int:
        """Bring ``length`` bytes at ``at`` into the block and give their index in it."""
        index = at - self._base
        if index < 0 or index + length > len(self._block):
            if at + length > self._size:
                raise _BrokenStructureError("The data set ends inside an element.")
            self._block = os.pread(self._descriptor, max(_BLOCK_BYTES, length), at)
            self._base, index = at, 0
            if len(self._block) < length:
                raise UnreadableError("The file became shorter while it was read.", at)
        return index

    def _element_head(self, at: int, top: _Frame) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and start of the value of the element at ``at``."""
        index = self._bytes(at, 8)
        block = self._block
        group, element = self._tag.unpack_from(block, index)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, b"", self._long.unpack_from(block, index + 4)[0], at + 8
        vr = block[index + 4 : index + 6]
        if top.is_implicit or not (vr.isalpha() and vr.isupper()):
            # Some writers fall back to implicit VR in the middle of an explicit data set.
            vr = _dictionary_vr(tag)
            return tag, vr, self._long.unpack_from(block, index + 4)[0], at + 8
        if vr not in _LONG_VRS:
            return tag, vr, self._short.unpack_from(block, index + 6)[0], at + 8
        index = self._bytes(at, 12)
        return tag, vr, self._long.unpack_from(self._block, index + 8)[0], at + 12

    def _is_padding(self, end: int) -> bool:
        """Zeros behind the last element: padding of a writer that fills blocks."""
        left = min(end - self._position, 8)
        index = self._bytes(self._position, left)
        if any(self._block[index : index + left]):
            return False
        self._position = end
        self.found.warnings.append("Zero bytes follow the last element.")
        return True

    def _open_item(self, tag: int, length: int, start: int, top: _Frame) -> None:
        self._position = start
        if tag == _SEQUENCE_END:
            self._stack.pop()
        elif tag == _ITEM:
            undefined = length == _UNDEFINED
            end = top.end if undefined else start + length
            self._push(_Frame(end, False, undefined, top.is_implicit, tag), start)
        else:
            raise _BrokenStructureError(f"{tag_text(tag)} stands where an item should begin.")

    def _open_sequence(self, tag: int, vr: bytes, length: int, start: int) -> None:
        top = self._stack[-1]
        if vr in (b"OB", b"OW") or (tag in _PIXEL_DATA and length == _UNDEFINED):
            self._skip_fragments(tag, start)
            return
        undefined = length == _UNDEFINED
        # A sequence of unknown VR is in implicit VR whatever stands around it (PS3.5 6.2.2).
        implicit = top.is_implicit or vr != b"SQ"
        self._position = start
        end = top.end if undefined else start + length
        self._push(_Frame(end, True, undefined, implicit, tag), start)

    def _push(self, frame: _Frame, at: int) -> None:
        self._stack.append(frame)
        if len(self._stack) > 2 * self._limits.nesting + 1:
            raise UnreadableError(f"Nested more than {self._limits.nesting} deep.", at)

    def _skip_fragments(self, tag: int, start: int) -> None:
        """Pass over encapsulated pixel data (PS3.5 A.4) up to its delimiter."""
        at, end = start, self._stack[-1].end
        fragments = []
        while at < end:
            self._check(tag, 0, at, end)
            index = self._bytes(at, 8)
            group, element = self._tag.unpack_from(self._block, index)
            length = self._long.unpack_from(self._block, index + 4)[0]
            at += 8
            if (group << 16 | element) == _SEQUENCE_END:
                break
            if (group << 16 | element) != _ITEM or at + length > end:
                raise _BrokenStructureError("Encapsulated pixel data is cut off or broken.")
            fragments.append((at, length))
            at += length
        else:
            self.found.warnings.append("Encapsulated pixel data has no delimiter.")
        if tag in _PIXEL_DATA and len(self._stack) == 1:
            self.found.pixel_data = PixelDataPlace(tag, start, at - start, tuple(fragments))
        self._position = at

    def _keep(self, tag: int, vr: bytes, length: int, start: int) -> None:
        depth = len(self._stack)
        if depth == 1 and tag in _PIXEL_DATA:
            self.found.pixel_data = PixelDataPlace(tag, start, length)
            return
        if length > self._limits.value_bytes:
            return
        if depth == 1:
            kept = self.found.values
        elif depth == _FUNCTIONAL_GROUP_DEPTH and self._stack[1].tag in _FUNCTIONAL_GROUPS:
            kept = self.found.grouped
            if tag in kept:
                return
        else:
            return
        index = self._bytes(start, length)
        kept[tag] = RawValue(vr, self._block[index : index + length])

    def _close(self, top: _Frame) -> None:
        if top.is_undefined and top.end == self._size:
            raise _BrokenStructureError("The file ends inside a sequence.")
        self._stack.pop()

    def _leave_broken_sequence(self, fault: str) -> None:
        """Go on behind the outermost sequence of known length, if the fault lies in one."""
        for depth, frame in enumerate(self._stack):
            if frame.is_sequence and not frame.is_undefined:
                self.found.warnings.append(f"Sequence {tag_text(frame.tag)} is broken: {fault}")
                self._position = frame.end
                del self._stack[depth:]
                return
        raise UnreadableError(fault, self._position)


def tag_text(tag: int) -> str:
    """A tag as the standard writes it: ``(7FE0,0010)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _dictionary_vr(tag: int) -> bytes:
    entry = DicomDictionary.get(tag)
    return entry[0][:2].encode("ascii") if entry else b"UN"

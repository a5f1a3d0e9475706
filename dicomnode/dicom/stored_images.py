"""One stored image: its header, where its pixels lie, and its frames, decoded on demand.

A file is walked within limits (`dicomnode.dicom.elements`) before pydicom sees it.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicomnode.dicom.elements import PixelDataPlace, scan
from dicomnode.dicom.files import DEFLATED_LITTLE, FileMeta
from dicomnode.dicom.header_values import Values
from dicomnode.dicom.transfer_syntaxes import (
    NATIVE,
    PixelForm,
    Samples,
    decodable,
    decode_frame,
)
from dicomnode.errors import UnreadableError

# What pydicom raises when a value is not what its VR says, or a structure deceives it.
PYDICOM_FAULTS = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    EOFError,
    BytesLengthException,
    InvalidDicomError,
)
_PIXEL_DATA_TAG = 0x7FE00010
_IMAGE_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0054)


class _WantedTags:
    """Tags of the groups that describe an image and its acquisition."""

    def __contains__(self, tag: object) -> bool:
        return isinstance(tag, int) and tag >> 16 in _IMAGE_GROUPS


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """An image file: small values, the whole header without pixels, and its pixels' place."""

    path: Path
    dataset: Dataset
    values: Values
    file_meta: FileMeta
    pixel_data: PixelDataPlace | None

    @property
    def number(self) -> int | None:
        """Instance Number, for naming the image to a person."""
        return self.values.integer(0x00200013)

    @property
    def modality(self) -> str:
        return self.values.text(0x00080060, 16)

    @property
    def image_type(self) -> tuple[str, ...]:
        return tuple(value.upper() for value in self.values.texts(0x00080008))

    @property
    def frame_count(self) -> int:
        return max(self.values.integer(0x00280008) or 1, 1)

    @property
    def transfer_syntax_uid(self) -> str:
        return self.file_meta.transfer_syntax_uid

    @property
    def is_decodable(self) -> bool:
        return self.transfer_syntax_uid in decodable()

    @property
    def has_integer_pixels(self) -> bool:
        return self.pixel_data is not None and self.pixel_data.tag == _PIXEL_DATA_TAG

    @property
    def form(self) -> PixelForm:
        """How its samples are described; numbers that are missing are 0."""
        number = self.values.integer
        stored = number(0x00280101) or number(0x00280100) or 0
        high_bit = number(0x00280102)
        return PixelForm(
            rows=number(0x00280010) or 0,
            columns=number(0x00280011) or 0,
            samples=number(0x00280002) or 1,
            bits_allocated=number(0x00280100) or 0,
            bits_stored=stored,
            high_bit=stored - 1 if high_bit is None else high_bit,
            is_signed=number(0x00280103) == 1,
            photometric=self.values.text(0x00280004, 16) or "MONOCHROME2",
            planar=number(0x00280006) == 1,
        )

    def decode(self, frame: int = 0) -> Samples:
        """Decode one frame, counted from 0; see `dicomnode.dicom.transfer_syntaxes.decode_frame`.

        Raises
        ------
        NotDecodableError
            No decoder for its transfer syntax.
        UnreadableError
            No such frame, or its bytes are broken.
        """
        return decode_frame(self._encoded(frame), self.transfer_syntax_uid, self.form)

    def _encoded(self, frame: int) -> bytes:
        place = self.pixel_data
        if place is None or not self.form.is_usable:
            raise UnreadableError("There is no usable pixel data.")
        if place.is_encapsulated == (self.transfer_syntax_uid in NATIVE):
            raise UnreadableError("Pixel data is not encoded as its transfer syntax says.")
        if place.fragments is not None:
            spans = self._fragments_of(frame, place.fragments)
        else:
            size = self.form.frame_bytes
            spans = [(place.offset + frame * size, min(size, place.length - frame * size))]
        with self.path.open("rb", buffering=0) as file:
            return b"".join(
                os.pread(file.fileno(), max(length, 0), start) for start, length in spans
            )

    def _fragments_of(
        self, frame: int, fragments: tuple[tuple[int, int], ...]
    ) -> Sequence[tuple[int, int]]:
        """Place of the fragments of one frame: one each, or as the Basic Offset Table says."""
        table, parts = fragments[:1], fragments[1:]
        if self.frame_count == 1:
            return parts
        if len(parts) == self.frame_count:
            return parts[frame : frame + 1]
        starts = self._offset_table(table)
        if len(starts) != self.frame_count or not parts:
            raise UnreadableError("Frames cannot be told apart in the pixel data.")
        ends = (*starts[1:], parts[-1][0])
        first = parts[0][0]
        return [part for part in parts if starts[frame] <= part[0] - first < ends[frame]]

    def _offset_table(self, table: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        start, length = table[0] if table else (0, 0)
        with self.path.open("rb", buffering=0) as file:
            read = os.pread(file.fileno(), min(length, 4 * self.frame_count), start)
        return struct.unpack(f"<{len(read) // 4}I", read[: len(read) // 4 * 4])

    def encoded_frames(self) -> Iterator[bytes]:
        """Give each frame as it is stored, compressed or not; raises `UnreadableError`."""
        for frame in range(self.frame_count):
            yield self._encoded(frame)


def open_image(path: Path) -> StoredImage:
    """Read everything of a file but its pixels.

    Raises
    ------
    UnreadableError
        The file is not DICOM, is cut off, or breaks a limit.
    """
    scanned = scan(path, _WantedTags())
    return StoredImage(
        path=path,
        dataset=_read_dataset(path),
        values=Values(scanned),
        file_meta=scanned.file_meta,
        pixel_data=None
        if scanned.file_meta.transfer_syntax_uid == DEFLATED_LITTLE
        else scanned.pixel_data,
    )


def _read_dataset(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True, force=True)
    except PYDICOM_FAULTS as fault:
        raise UnreadableError("The header cannot be read.") from fault

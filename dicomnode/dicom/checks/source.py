"""The source images as the gate sees them: read again from their files, geometry and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.dicom.checks.reading import first, text
from dicomnode.dicom.codes import RADIOGRAPH_MODALITIES
from dicomnode.dicom.transfer_syntaxes import PixelForm, decode_frame

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
_AIR_HU: Final = -500.0
# The middle of the patient needs no more than this many slices, and pixels along each side of them.
_SLICES, _PIXELS = 40, 128
_MOST_CUT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of the source: its image, its frame there (None in single-frame images), place."""

    sop_instance_uid: str
    frame: int | None
    position: Vector
    path: Path


class Source:
    """The analysed images. ``headers`` in the order of the files, without pixels."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.headers = tuple(
            pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in paths
        )
        self.by_uid: dict[str, Dataset] = {str(h.SOPInstanceUID): h for h in self.headers}
        self.series_uids = {str(h.SeriesInstanceUID) for h in self.headers}

    @property
    def header(self) -> Dataset:
        """The first image's header: identity and study of all of them."""
        return self.headers[0]

    @property
    def is_radiograph(self) -> bool:
        """True when no image belongs to a volume."""
        return all(text(h, "Modality") in RADIOGRAPH_MODALITIES for h in self.headers)

    @cached_property
    def grid(self) -> Grid:
        """Geometry of the volume; raises ValueError where the images have none."""
        return Grid(self)


class Grid:
    """Straight stack of slices in ascending order along the normal, from the headers alone."""

    def __init__(self, source: Source) -> None:
        self._first = source.header
        found = [
            s for pair in zip(source.headers, source.paths, strict=True) for s in _slices(*pair)
        ]
        if not found:
            raise ValueError("the source images have no slice geometry")
        orientation = _group(self._first, "PlaneOrientationSequence", 0)
        measures = _group(self._first, "PixelMeasuresSequence", 0)
        self.orientation: Vector = np.array(orientation.ImageOrientationPatient, dtype=np.float64)
        self.row_step, self.column_step = (float(v) for v in measures.PixelSpacing)
        self.normal: Vector = np.cross(self.orientation[:3], self.orientation[3:])
        self.slices = tuple(sorted(found, key=lambda s: float(s.position @ self.normal)))
        self.positions: Vector = np.array([s.position for s in self.slices])
        along = self.positions @ self.normal
        thickness = float(measures.get("SliceThickness") or 0)
        # The mean step: positions that were rounded to 0.1 mm may all have another median.
        steps = len(along) - 1
        self.gap = float(along[-1] - along[0]) / steps if steps else thickness
        self.shape = (int(self._first.Rows), int(self._first.Columns))
        self.is_hounsfield = text(self._first, "Modality") == "CT"
        self._open: tuple[Path, FileDataset] | None = None

    @property
    def voxel_mm3(self) -> float:
        """Row spacing × column spacing × distance of neighbouring positions."""
        return self.row_step * self.column_step * self.gap

    def patient(self, k: int, row: float, column: float) -> Vector:
        """Patient LPS point in mm of a pixel centre (row, column) of slice ``k``."""
        across = self.orientation[:3] * column * self.column_step
        down = self.orientation[3:] * row * self.row_step
        point: Vector = self.positions[k] + across + down
        return point

    def pixel(self, k: int, point: Vector) -> tuple[int, int]:
        """Row and column on slice ``k`` next to a patient point."""
        offset = point - self.positions[k]
        row = offset @ self.orientation[3:] / self.row_step
        return round(float(row)), round(float(offset @ self.orientation[:3] / self.column_step))

    def nearest(self, point: Vector) -> tuple[int, float]:
        """Slice whose position is nearest to ``point``, and the largest difference in mm."""
        apart = np.abs(self.positions - point).max(axis=1)
        return int(apart.argmin()), float(apart.min())

    def at_height(self, point: Vector) -> int:
        """Slice nearest to ``point`` along the normal."""
        return int(np.abs((self.positions - point) @ self.normal).argmin())

    def calibrated(self, k: int) -> NDArray[np.float32]:
        """Pixels of slice ``k``, rescaled (PS3.3 C.11.1), decoded from the file again.

        NaN where the scanner measured nothing and says so by Pixel Padding Value.
        """
        place = self.slices[k]
        if self._open is None or self._open[0] != place.path:
            self._open = (place.path, pydicom.dcmread(place.path, force=True))
        image = self._open[1]
        frame = (place.frame or 1) - 1
        scale = _group(image, "PixelValueTransformationSequence", frame)
        slope, intercept = (
            float(scale.get("RescaleSlope", 1)),
            float(scale.get("RescaleIntercept", 0)),
        )
        stored = decode_frame(*_encoded(image, frame))
        calibrated: NDArray[np.float32] = stored.astype(np.float32) * slope + intercept
        if padding := _padding(image):
            calibrated[(stored >= padding[0]) & (stored <= padding[1])] = np.nan
        return calibrated

    def body(self, pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Filled outline of the patient on a slice: what has tissue on all sides of it.

        Above and below are no such sides: the airways and the lungs leave a coronal or sagittal
        picture there.
        """
        tissue = self._tissue(pixels)
        filled: Mask = np.ones(tissue.shape, dtype=np.bool_)
        for axis, along in enumerate((self.orientation[3:], self.orientation[:3])):
            if np.abs(along).argmax() != 2:
                filled &= _enclosed(tissue, axis)
        return filled

    @cached_property
    def midline(self) -> float | None:
        """LPS x of the patient's middle: the mean of the filled body over the whole stack.

        None where the images do not show it: without a body, or where more than a quarter of the
        body goes on beyond the images on the right or on the left.
        """
        wanted = np.linspace(0, len(self.slices) - 1, min(len(self.slices), _SLICES))
        places = [int(k) for k in np.unique(wanted.round())]
        rows, columns = (np.arange(0, n, max(1, n // _PIXELS)) for n in self.shape)
        values = np.stack([self.calibrated(k)[np.ix_(rows, columns)] for k in places])
        tissue = np.stack([self._tissue(pixels) for pixels in values])
        # Of the three axes of the stack, the one from side to side and the one from front to back.
        axes = np.abs([self.normal, self.orientation[3:], self.orientation[:3]])
        axes[axes[:, 2].argmax()] = -1
        side = int(axes[:, 0].argmax())
        axes[side] = -1
        deep = _enclosed(tissue, int(axes[:, 1].argmax()))
        body = deep & _enclosed(tissue, side)
        if not body.any() or _goes_on(deep, np.isnan(values), side):
            return None
        found = [
            (int(np.count_nonzero(part)), self.patient(k, rows[r].mean(), columns[c].mean())[0])
            for k, part in zip(places, body, strict=True)
            if part.any()
            for r, c in (np.nonzero(part),)
        ]
        return float(np.average([x for _, x in found], weights=[n for n, _ in found]))

    def _tissue(self, pixels: NDArray[np.float32]) -> Mask:
        threshold = _AIR_HU
        measured = pixels[~np.isnan(pixels)]
        if not self.is_hounsfield and measured.size:
            low = float(measured.min())
            threshold = low + 0.1 * (float(np.percentile(measured, 99)) - low)
        tissue: Mask = pixels > threshold
        return tissue


def _enclosed(tissue: Mask, axis: int) -> Mask:
    """Give what has tissue before and behind it along ``axis``, or is tissue."""
    lines = np.moveaxis(tissue, axis, 0)
    before = np.logical_or.accumulate(lines, axis=0)
    behind = np.logical_or.accumulate(lines[::-1], axis=0)[::-1]
    return np.moveaxis(before & behind, 0, axis)


def _goes_on(body: Mask, unmeasured: Mask, axis: int) -> bool:
    """Tell whether the body meets the end of what was measured at one end of ``axis``."""
    lines = np.moveaxis(body, axis, 0)
    beyond = np.pad(
        np.moveaxis(unmeasured, axis, 0), ((1, 1), (0, 0), (0, 0)), constant_values=True
    )
    ends = (np.count_nonzero(lines & beyond[:-2]), np.count_nonzero(lines & beyond[2:]))
    return bool(max(ends) > _MOST_CUT * np.count_nonzero(lines.any(axis=0)))


def _padding(image: Dataset) -> tuple[int, int] | None:
    """Give the least and the greatest stored value that means "not measured" (PS3.3 C.7.5.1.1.2).

    Some scanners write a negative one as if it had no sign.
    """
    value = image.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = image.get("PixelPaddingRangeLimit")
    ends = [end & 0xFFFF for end in (value, limit if isinstance(limit, int) else value)]
    if image.PixelRepresentation:
        ends = [end - 0x10000 if end & 0x8000 else end for end in ends]
    return min(ends), max(ends)


def _slices(header: Dataset, path: Path) -> list[Slice]:
    uid = str(header.SOPInstanceUID)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        if "ImagePositionPatient" not in header or "ImageOrientationPatient" not in header:
            return []
        return [Slice(uid, None, np.array(header.ImagePositionPatient, dtype=np.float64), path)]
    return [
        Slice(uid, n + 1, np.array(_group(header, "PlanePositionSequence", n).ImagePositionPatient,
                                   dtype=np.float64), path)
        for n in range(len(frames))
    ]  # fmt: skip


def _group(header: Dataset, keyword: str, frame: int) -> Dataset:
    """Give a functional group of a multi-frame image, a single-frame image as it is."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return header
    own = first(per_frame[frame], keyword)
    shared = first(first(header, "SharedFunctionalGroupsSequence"), keyword)
    return own if own is not None else (shared if shared is not None else Dataset())


def _encoded(image: FileDataset, frame: int) -> tuple[bytes, str, PixelForm]:
    """Give one frame as it is stored, its transfer syntax, and how its samples are to be read."""
    form = PixelForm(
        rows=int(image.Rows),
        columns=int(image.Columns),
        bits_allocated=int(image.BitsAllocated),
        bits_stored=int(image.BitsStored),
        high_bit=int(image.HighBit),
        is_signed=bool(image.PixelRepresentation),
    )
    transfer_syntax_uid = _transfer_syntax(image)
    if transfer_syntax_uid.is_encapsulated:
        frames = int(image.get("NumberOfFrames") or 1)
        encoded = get_frame(image.PixelData, frame, number_of_frames=frames)
    else:
        encoded = image.PixelData[frame * form.frame_bytes : (frame + 1) * form.frame_bytes]
    return encoded, str(transfer_syntax_uid), form


def _transfer_syntax(image: FileDataset) -> UID:
    """Give the transfer syntax, of a file without file meta the one that it was read in."""
    named = image.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(named)
    is_implicit, _ = image.original_encoding
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian

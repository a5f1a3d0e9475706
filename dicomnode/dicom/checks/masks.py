"""The segments of a Segmentation, recounted from its pixel data frame by frame."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.dicom.checks.reading import Coded, coded, first, text
from dicomnode.dicom.checks.source import Grid, Mask
from dicomnode.dicom.codes import ABNORMAL_STRUCTURE

_LESION = Coded(ABNORMAL_STRUCTURE.value, ABNORMAL_STRUCTURE.scheme)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its segment, the source slice at its position, and how far that is away (mm)."""

    index: int
    segment: int
    slice: int
    apart_mm: float
    sources: tuple[tuple[str, int | None], ...]


@dataclass(slots=True)
class Count:
    """What one segment's voxels add up to; ``points`` and ``values`` are sums.

    ``measured`` of the voxels have a value, the others are the scanner's padding.
    """

    voxels: int = 0
    measured: int = 0
    in_body: int = 0
    values: float = 0.0
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    long_mm: float = 0.0
    short_mm: float = 0.0

    @property
    def mean(self) -> float:
        """Mean rescaled value under the segment, NaN where nothing was measured."""
        return self.values / self.measured if self.measured else math.nan

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centroid in patient LPS mm."""
        return self.points / self.voxels


@dataclass(frozen=True, slots=True)
class Described:
    """What Segment Sequence says of one segment."""

    number: int
    type: Coded | None
    is_lesion: bool
    tracking_id: str
    tracking_uid: str
    item: Dataset


class Masks:
    """Recount of one Segmentation against the grid of its source; reads each slice once."""

    def __init__(self, data: Dataset, grid: Grid) -> None:
        self._data = data
        self.grid = grid
        self._size = int(data.Rows) * int(data.Columns)
        self._bits = np.frombuffer(data.PixelData, dtype=np.uint8)
        self.described = [_described(item) for item in data.SegmentSequence]
        self.by_number = {d.number: d for d in self.described}
        self.frames = [
            self._frame(n, item) for n, item in enumerate(data.PerFrameFunctionalGroupsSequence)
        ]
        self.counts: dict[int, Count] = defaultdict(Count)
        self.empty_frames: list[int] = []
        self.overlaps: list[tuple[int, int]] = []
        self.bodies: dict[int, Mask] = {}
        if (int(data.Rows), int(data.Columns)) == grid.shape:
            self._recount()

    def group(self, index: int, keyword: str) -> Dataset | None:
        """Give a functional group of frame ``index``, its own or the shared one."""
        own = first(self._data.PerFrameFunctionalGroupsSequence[index], keyword)
        if own is not None:
            return own
        return first(first(self._data, "SharedFunctionalGroupsSequence"), keyword)

    def mask(self, index: int) -> Mask:
        """Give the pixels ``(rows, columns)`` of frame ``index``; short pixel data counts as 0."""
        begin, end = index * self._size, (index + 1) * self._size
        bits = np.unpackbits(self._bits[begin // 8 : (end + 7) // 8], bitorder="little")
        bits = bits[begin % 8 : begin % 8 + self._size]
        if len(bits) < self._size:
            bits = np.pad(bits, (0, self._size - len(bits)))
        return bits.reshape(int(self._data.Rows), int(self._data.Columns)).view(np.bool_)

    def frame_of(self, segment: int, slice_index: int) -> Frame | None:
        """Give the frame of a segment on a slice, None where it has none there."""
        found = (f for f in self.frames if (f.segment, f.slice) == (segment, slice_index))
        return next(found, None)

    def body_at(self, slice_index: int) -> Mask:
        """Give the body outline on a slice."""
        if slice_index not in self.bodies:
            self.bodies[slice_index] = self.grid.body(self.grid.calibrated(slice_index))
        return self.bodies[slice_index]

    def _frame(self, index: int, item: Dataset) -> Frame:
        identification = self.group(index, "SegmentIdentificationSequence")
        place = self.group(index, "PlanePositionSequence")
        number = int(identification.ReferencedSegmentNumber) if identification is not None else 0
        nearest, apart = -1, math.inf
        if place is not None:
            position = np.array(place.ImagePositionPatient, dtype=np.float64)
            nearest, apart = self.grid.nearest(position)
        return Frame(index, number, nearest, apart, _sources(item))

    def _recount(self) -> None:
        by_slice: dict[int, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            by_slice[frame.slice].append(frame)
        for slice_index, frames in sorted(by_slice.items()):
            if slice_index < 0:
                continue
            values = self.grid.calibrated(slice_index)
            body = self.grid.body(values)
            taken: Mask = np.zeros(body.shape, dtype=np.bool_)
            for frame in frames:
                self._add(frame, values, body, taken)

    def _add(self, frame: Frame, values: NDArray[np.float32], body: Mask, taken: Mask) -> None:
        mask = self.mask(frame.index)
        rows = np.flatnonzero(mask.any(axis=1))
        if not len(rows):
            self.empty_frames.append(frame.index)
            return
        columns = np.flatnonzero(mask.any(axis=0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        part = mask[box]
        voxels = int(np.count_nonzero(part))
        row = float(part.sum(axis=1) @ np.arange(rows[0], rows[-1] + 1)) / voxels
        column = float(part.sum(axis=0) @ np.arange(columns[0], columns[-1] + 1)) / voxels
        count = self.counts[frame.segment]
        count.voxels += voxels
        count.in_body += int(np.count_nonzero(part & body[box]))
        measured = part & ~np.isnan(values[box])
        count.measured += int(np.count_nonzero(measured))
        count.values += float(values[box].sum(where=measured, dtype=np.float64))
        count.points += voxels * self.grid.patient(frame.slice, row, column)
        described = self.by_number.get(frame.segment)
        if described is not None and described.is_lesion:
            if (taken[box] & part).any():
                self.overlaps.append((frame.segment, frame.slice))
            taken[box] |= part
            long_mm, short_mm = axes(part, self.grid.row_step, self.grid.column_step)
            if long_mm > count.long_mm + 1e-9:
                count.long_mm, count.short_mm = long_mm, short_mm


def axes(mask: Mask, row_step: float, column_step: float) -> tuple[float, float]:
    """Largest distance between two pixel corners of a 2D mask, and the extent across it, in mm."""
    corners = set()
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        columns = np.flatnonzero(mask[row])
        for edge in (row, row + 1):
            corners |= {(int(columns[0]), edge), (int(columns[-1]) + 1, edge)}
    points = np.array(sorted(corners), dtype=np.float64) * [column_step, row_step]
    longest, ends = -1.0, (0, 0)
    for n, point in enumerate(points):
        squares = ((points - point) ** 2).sum(axis=1)
        far = int(squares.argmax())
        if squares[far] > longest + 1e-9:
            longest, ends = float(squares[far]), (n, far)
    along = (points[ends[1]] - points[ends[0]]) / math.sqrt(longest)
    across = points @ np.array([-along[1], along[0]])
    return math.sqrt(longest), float(across.max() - across.min())


def inside(polygon: NDArray[np.float64], rows: int, columns: int) -> Mask:
    """Pixels whose centre lies in a closed polygon of (column, row), by the even-odd rule."""
    x, y = np.arange(columns) + 0.5, np.arange(rows) + 0.5
    within: Mask = np.zeros((rows, columns), dtype=np.bool_)
    for (x0, y0), (x1, y1) in pairwise(polygon):
        crossed = np.flatnonzero((y0 > y) != (y1 > y))
        if len(crossed):
            edge = x0 + (y[crossed] - y0) * (x1 - x0) / (y1 - y0)
            within[crossed] ^= x[None, :] < edge[:, None]
    return within


def _described(item: Dataset) -> Described:
    return Described(
        number=int(item.get("SegmentNumber") or 0),
        type=coded(first(item, "SegmentedPropertyTypeCodeSequence")),
        is_lesion=coded(first(item, "SegmentedPropertyCategoryCodeSequence")) == _LESION,
        tracking_id=text(item, "TrackingID"),
        tracking_uid=text(item, "TrackingUID"),
        item=item,
    )


def _sources(item: Dataset) -> tuple[tuple[str, int | None], ...]:
    """Give the source images that a frame says it was made from, with the frame there if named."""
    named = []
    for derivation in item.get("DerivationImageSequence") or []:
        for source in derivation.get("SourceImageSequence") or []:
            frame = source.get("ReferencedFrameNumber")
            named.append((text(source, "ReferencedSOPInstanceUID"), int(frame) if frame else None))
    return tuple(named)

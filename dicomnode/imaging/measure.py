"""Measures of a segment in the geometry of its source: volume, mean, axes, outline.

The definitions are those that a reader of the results can check by hand: the long axis is the
largest distance between two pixel corners of the segment in one slice, the short axis the extent
of the same slice across that line, the volume the number of voxels times a voxel's volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.sdk import Volume

Mask = NDArray[np.bool_]
Offset = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """The two axes of a lesion and the slice that they stand in.

    ``slice_index`` counts along axis 0 of the mask's grid. ``outline`` is the convex hull of that
    slice as a closed polygon ``(n, 2)`` in (column, row), last point equal to the first; 0, 0 is
    the outer corner of the first pixel (PS3.3 C.18.6). ``long_ends`` and ``short_ends`` are
    ``(2, 2)`` in (column, row); the short axis is drawn through the middle of its extent.
    """

    long_mm: float
    short_mm: float
    slice_index: int
    outline: NDArray[np.float64]
    long_ends: NDArray[np.float64]
    short_ends: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Volume and mean of one segment, and its axes where it is a lesion.

    The volume counts every voxel, the mean those that the scanner measured; None without any.
    """

    volume_mm3: float
    mean: float | None
    axes: Axes | None


def measured(
    volume: Volume, mask: Mask, offset: Offset = (0, 0, 0), *, axes: bool = True
) -> Measures:
    """Measure a segment of ``volume``.

    Parameters
    ----------
    mask
        bool (z, y, x), a box of the volume's grid that starts at ``offset``.
    axes
        False for organs, whose axes nobody asks for.

    Raises
    ------
    ValueError
        When the mask is empty or leaves the volume.
    """
    box = tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))
    values = volume.array[box]
    if values.shape != mask.shape or min(offset) < 0:
        raise ValueError(f"a mask of {mask.shape} at {offset} leaves the volume {volume.shape}")
    count = int(np.count_nonzero(mask))
    if count == 0:
        raise ValueError("an empty mask has no measures")
    values = values[mask]
    values = values[volume.is_measured(values)]
    mean = float(values.mean(dtype=np.float64)) if len(values) else None
    found = axes_of(mask, (volume.spacing[1], volume.spacing[2]), offset) if axes else None
    return Measures(count * volume.voxel_volume_mm3, mean, found)


def axes_of(mask: Mask, pixel_spacing: tuple[float, float], offset: Offset = (0, 0, 0)) -> Axes:
    """Long and short axis over all slices; of slices with equal long axes the first.

    ``pixel_spacing`` in mm along (rows, columns), as in Pixel Spacing (0028,0030).

    Raises
    ------
    ValueError
        When the mask is empty.
    """
    best: tuple[float, int, NDArray[np.int64], tuple[int, int]] | None = None
    scale = np.array([pixel_spacing[1], pixel_spacing[0]])
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        hull = corner_hull(mask[index])
        length_mm, ends = _farthest(hull * scale)
        if best is None or length_mm > best[0] + 1e-9:
            best = (length_mm, index, hull, ends)
    if best is None:
        raise ValueError("an empty mask has no axes")
    length_mm, index, hull, ends = best
    shift = np.array([offset[2], offset[1]], dtype=np.float64)
    short_mm, short_ends = _across(hull * scale, ends)
    closed = np.vstack([hull, hull[:1]]) + shift
    return Axes(
        long_mm=length_mm,
        short_mm=short_mm,
        slice_index=index + offset[0],
        outline=closed,
        long_ends=hull[list(ends)] + shift,
        short_ends=short_ends / scale + shift,
    )


def corner_hull(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Convex hull of the pixel corners of a 2D mask, (n, 2) in (column, row), not closed.

    Starts at the leftmost (then uppermost) corner; points on an edge of the hull are left out.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    points = {
        (int(column), int(corner))
        for row, left, right in zip(rows, first, last, strict=True)
        for column in (left, right)
        for corner in (row, row + 1)
    }
    ordered = sorted(points)
    lower, upper = _chain(ordered), _chain(ordered[::-1])
    return np.array(lower[:-1] + upper[:-1], dtype=np.int64)


def _chain(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """One side of the convex hull of sorted points (Andrew's monotone chain)."""
    chain: list[tuple[int, int]] = []
    for point in points:
        while len(chain) >= 2 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _farthest(points_mm: NDArray[np.float64]) -> tuple[float, tuple[int, int]]:
    """Largest distance between two of the points, and which two (the first such pair)."""
    between = np.linalg.norm(points_mm[:, None] - points_mm[None], axis=2)
    # Equal distances differ in their last bits; the first of them must win on every machine.
    first = int(np.argmax(between >= between.max() - 1e-9))
    one, other = divmod(first, len(points_mm))
    return float(between[one, other]), (one, other)


def _across(
    points_mm: NDArray[np.float64], ends: tuple[int, int]
) -> tuple[float, NDArray[np.float64]]:
    """Extent of the points across the line of the long axis, and a line that shows it."""
    start, stop = points_mm[ends[0]], points_mm[ends[1]]
    along = (stop - start) / np.linalg.norm(stop - start)
    across = np.array([-along[1], along[0]])
    heights = (points_mm - start) @ across
    low, high = float(heights.min()), float(heights.max())
    widest = points_mm[int(np.argmax(np.abs(heights)))]
    foot = start + along * float((widest - start) @ along)
    return high - low, np.array([foot + across * low, foot + across * high])

"""Every segment measured in source geometry: what a report says in numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.dicom.objects.outlines import Points, close, outline
from dicomnode.errors import EncodingError
from dicomnode.imaging import measure as imaging
from dicomnode.sdk import Segment, Volume

HOUNSFIELD_UNIT = "[hnsf'U]"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Numbers of one segment.

    ``mean`` is None where the values are not calibrated or none was measured. ``slices`` are those
    that hold voxels, ``centre_zyx`` the mean voxel index. ``key_slice`` is the slice of the longest
    axis for a lesion, the largest one for an organ, and ``outline`` a closed polygon on it,
    ``(n, 2)`` in (column, row); axes are given for lesions only.
    """

    volume_mm3: float
    mean: float | None
    slices: tuple[int, ...]
    centre_zyx: tuple[float, float, float]
    key_slice: int
    outline: Points
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None


def measured(volume: Volume, segment: Segment, name: str, *, is_lesion: bool) -> Measured:
    """Measure ``segment`` on the grid of ``volume``; ``name`` is for the message.

    Raises
    ------
    EncodingError
        The segment holds no voxel, or leaves the grid.
    """
    mask, offset = cropped(segment, volume.shape, name)
    numbers = imaging.measured(volume, mask, offset, axes=is_lesion)
    counts = mask.sum(axis=(1, 2))
    axes = numbers.axes
    key = axes.slice_index - offset[0] if axes else int(counts.argmax())
    hull = imaging.corner_hull(mask[key]).astype(np.float64)
    polygon = outline(mask[key], hull) if is_lesion else close(hull)
    return Measured(
        volume_mm3=numbers.volume_mm3,
        mean=numbers.mean if volume.unit == HOUNSFIELD_UNIT else None,
        slices=tuple(int(z) + offset[0] for z in np.flatnonzero(counts)),
        centre_zyx=_centre(mask, offset),
        key_slice=key + offset[0],
        outline=polygon + np.array([offset[2], offset[1]], dtype=np.float64),
        long_axis_mm=axes.long_mm if axes else None,
        short_axis_mm=axes.short_mm if axes else None,
    )


def cropped(
    segment: Segment, shape: tuple[int, int, int], name: str
) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
    """Give the smallest box ``(z, y, x)`` around a segment's voxels, and where it begins.

    Raises
    ------
    EncodingError
        The segment holds no voxel, or leaves the grid of ``shape``.
    """
    ends = [o + n for o, n in zip(segment.offset, segment.mask.shape, strict=True)]
    if min(segment.offset) < 0 or any(e > s for e, s in zip(ends, shape, strict=True)):
        raise EncodingError(f"{name} leaves the grid of the images, so it cannot be written.")
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(segment.mask.any(axis=others))
        if not len(held):
            raise EncodingError(
                f"{name} holds no voxel; a pipeline leaves out what it has not got."
            )
        spans.append(slice(int(held[0]), int(held[-1]) + 1))
    z, y, x = (o + span.start for o, span in zip(segment.offset, spans, strict=True))
    return segment.mask[tuple(spans)], (z, y, x)


def _centre(mask: NDArray[np.bool_], offset: tuple[int, int, int]) -> tuple[float, float, float]:
    """Mean voxel index (z, y, x), from the counts along each axis."""
    centre = []
    for axis in range(3):
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        centre.append(float(np.average(np.arange(len(counts)), weights=counts)) + offset[axis])
    return centre[0], centre[1], centre[2]

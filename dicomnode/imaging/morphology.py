"""Opening, closing and distances in mm, on grids of any spacing (SimpleITK's exact distances).

What lies outside of the array is unknown: it is neither a mask to reach nor a background to
erode from. Every operation works on the box that the mask needs, not on the whole array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
# Its calls carry no types.
sitk: Any = SimpleITK
Triple = tuple[float, float, float]


def distance_to(mask: Mask, spacing: Triple) -> NDArray[np.float32]:
    """Distance in mm of each voxel's centre to the nearest voxel centre of ``mask``; 0 within it.

    Infinite everywhere when ``mask`` is empty.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    # Signed distances run to the border voxels; squared and unsigned ones are exact per voxel.
    squared = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=True, useImageSpacing=True
    )
    distances: NDArray[np.float32] = sitk.GetArrayFromImage(squared)
    return np.sqrt(np.maximum(distances, np.float32(0.0)))


def box_of(mask: Mask, margin: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """The smallest box around ``mask``, ``margin`` voxels wider where the array allows.

    Empty slices when ``mask`` is empty.
    """
    ends = []
    for axis, more in enumerate(margin):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if used.size == 0:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        ends.append(
            slice(max(0, int(used[0]) - more), min(mask.shape[axis], int(used[-1]) + more + 1))
        )
    return ends[0], ends[1], ends[2]


def _reach(spacing: Triple, radius_mm: float) -> tuple[int, int, int]:
    z, y, x = (int(np.ceil(radius_mm / step)) + 1 for step in spacing)
    return z, y, x


def depth(mask: Mask, spacing: Triple) -> NDArray[np.float32]:
    """Distance in mm of each voxel of ``mask`` to the nearest background voxel; 0 outside."""
    result = np.zeros(mask.shape, dtype=np.float32)
    box = box_of(mask, (1, 1, 1))
    result[box] = distance_to(~mask[box], spacing)
    return result


def dilated(mask: Mask, spacing: Triple, radius_mm: float) -> Mask:
    """All voxels whose centre lies within ``radius_mm`` of a voxel of ``mask``."""
    result = np.zeros_like(mask)
    box = box_of(mask, _reach(spacing, radius_mm))
    result[box] = distance_to(mask[box], spacing) <= radius_mm
    return result


def eroded(mask: Mask, spacing: Triple, radius_mm: float) -> Mask:
    """All voxels of ``mask`` that lie further than ``radius_mm`` from its background."""
    within: Mask = depth(mask, spacing) > radius_mm
    return within


def opened(mask: Mask, spacing: Triple, radius_mm: float) -> Mask:
    """Only the parts of ``mask`` that a ball of ``radius_mm`` fits into."""
    return dilated(eroded(mask, spacing, radius_mm), spacing, radius_mm) & mask


def closed(mask: Mask, spacing: Triple, radius_mm: float) -> Mask:
    """``mask`` with all gaps that a ball of ``radius_mm`` outside of it cannot enter."""
    reach = _reach(spacing, radius_mm)
    box = box_of(mask)
    wide = np.pad(mask[box], [(n, n) for n in reach])
    shrunk = distance_to(~dilated(wide, spacing, radius_mm), spacing) > radius_mm
    result = mask.copy()
    result[box] |= shrunk[tuple(slice(n, -n) for n in reach)]
    return result

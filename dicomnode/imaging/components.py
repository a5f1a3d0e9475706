"""Connected components of masks (scipy: torch has no such operation).

Masks are bool arrays (z, y, x). Connectivity 1 joins voxels over faces, 3 over corners too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)
_IN_SLICE[1] = ndimage.generate_binary_structure(2, 1)
_IN_SLICE.setflags(write=False)


def labelled(mask: Mask, connectivity: int = 1) -> tuple[NDArray[np.int32], int]:
    """Number the components 1…n in order of their first voxel; gives the labels and n."""
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))
    return labels, int(count)


def labelled_in_slices(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Number the components of each slice (axis 0) by itself; numbers run on over slices."""
    labels, count = ndimage.label(mask, _IN_SLICE)
    return labels, int(count)


def sizes(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Voxels of each label, index 0 is the background."""
    counted: NDArray[np.int64] = np.bincount(labels.ravel(), minlength=count + 1)
    return counted


def largest(mask: Mask, connectivity: int = 1) -> Mask:
    """Only the largest component; the first of equals; empty when ``mask`` is."""
    labels, count = labelled(mask, connectivity)
    if count == 0:
        return np.zeros_like(mask)
    found: Mask = labels == 1 + int(np.argmax(sizes(labels, count)[1:]))
    return found


def at_least(mask: Mask, voxels: int, connectivity: int = 1) -> Mask:
    """Only components of ``voxels`` or more."""
    labels, count = labelled(mask, connectivity)
    keep = sizes(labels, count) >= voxels
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def touching(mask: Mask, seeds: Mask, connectivity: int = 1) -> Mask:
    """Only components that hold a voxel of ``seeds``."""
    labels, count = labelled(mask, connectivity)
    keep = np.zeros(count + 1, dtype=bool)
    keep[np.unique(labels[seeds])] = True
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def filled_in_slices(mask: Mask) -> Mask:
    """Fill, slice by slice, background that does not reach the slice's edge."""
    labels, count = labelled_in_slices(~mask)
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[np.unique(edge)] = True
    outside[0] = False
    filled: Mask = ~outside[labels]
    return filled

"""Volumes with their axes along the patient, and back.

Analysis code needs to know where the head, the back and the left side are. Here that is settled
once, from the direction cosines; nothing after it may guess from the order of an array.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomnode.sdk import Volume


def axes_along_patient(
    direction: NDArray[np.float64],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axis lies along patient (z, y, x) best, and which of them run backwards.

    ``direction`` is `Volume.direction`. The first result permutes the array's axes to (towards the
    head, towards the back, towards the left); the second says which of those must be flipped.
    """
    towards = np.asarray(direction)[:, ::-1]  # columns become patient z, y, x
    order = max(permutations(range(3)), key=lambda p: sum(abs(towards[p[i], i]) for i in range(3)))
    backwards = [bool(towards[axis, i] < 0) for i, axis in enumerate(order)]
    return (order[0], order[1], order[2]), (backwards[0], backwards[1], backwards[2])


def to_lps(volume: Volume) -> Volume:
    """Give the same voxels with axis 0 towards the head, 1 towards the back, 2 towards the left.

    Axes are exchanged and flipped, nothing is interpolated: an oblique volume stays as oblique as
    it was, by less than 45° from the patient's axes. The array is a view.
    """
    order, backwards = axes_along_patient(volume.direction)
    steps = tuple(slice(None, None, -1 if back else 1) for back in backwards)
    first = np.zeros(3)
    for axis, back in zip(order, backwards, strict=True):
        first[axis] = volume.shape[axis] - 1 if back else 0
    signs = np.where(backwards, -1.0, 1.0)[:, None]
    origin = volume.to_patient(first)
    return Volume(
        array=volume.array.transpose(order)[steps],
        spacing=(volume.spacing[order[0]], volume.spacing[order[1]], volume.spacing[order[2]]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=volume.direction[list(order)] * signs,
        series=volume.series,
        unit=volume.unit,
        padding=volume.padding,
    )


def from_lps(array: NDArray[Any], volume: Volume) -> NDArray[Any]:
    """Bring an array on the grid of ``to_lps(volume)`` back to the axes of ``volume``."""
    order, backwards = axes_along_patient(volume.direction)
    steps = tuple(slice(None, None, -1 if back else 1) for back in backwards)
    return np.ascontiguousarray(array[steps].transpose(np.argsort(order)))


def box_from_lps(
    array: NDArray[Any], offset: tuple[int, int, int], volume: Volume
) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """Bring a box of the grid of ``to_lps(volume)`` back; gives the box and its offset there."""
    order, backwards = axes_along_patient(volume.direction)
    starts = [0, 0, 0]
    for axis, back, start, length in zip(order, backwards, offset, array.shape, strict=True):
        starts[axis] = volume.shape[axis] - start - length if back else start
    return from_lps(array, volume), (starts[0], starts[1], starts[2])

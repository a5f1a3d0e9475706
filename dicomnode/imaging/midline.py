"""Where the patient's middle lies between right and left, as far as the images show it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.orient import axes_along_patient
from dicomnode.sdk import Volume

_AIR_HU: Final = -500.0
_MIDLINE_SAMPLES: Final = 96  # indices that are asked along each axis: 3 to 5 mm apart
# Both elbows or a table at the border leave the middle where it is: they cut about a tenth.
_MOST_CUT: Final = 0.25


def midline_lps(volume: Volume) -> float | None:
    """LPS x in mm of the patient's middle: the centroid of the filled body over all slices.

    None where the images do not show it: no body, or a field of view that ends within the body on
    the right or on the left.
    """
    (_, front, lateral), _ = axes_along_patient(volume.direction)
    places = [
        np.unique(np.linspace(0, n - 1, min(n, _MIDLINE_SAMPLES)).round().astype(np.intp))
        for n in volume.shape
    ]
    values = volume.array[np.ix_(*places)]
    tissue = values > _body_threshold(volume, values)
    deep = _between(tissue, front)
    body = deep & _between(tissue, lateral)
    if not body.any() or _is_cut(deep, volume.is_measured(values), lateral):
        return None
    index = [
        np.average(place, weights=body.sum(axis=tuple(a for a in range(3) if a != axis)))
        for axis, place in enumerate(places)
    ]
    return float(volume.to_patient(np.array(index))[0])


def _body_threshold(volume: Volume, values: NDArray[np.float32]) -> float:
    if volume.unit == "[hnsf'U]":
        return _AIR_HU
    low, high = float(values.min()), float(np.percentile(values, 99))
    return low + 0.1 * (high - low)


def _between(tissue: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Fill each line along ``axis`` from its first tissue to its last."""
    reach = np.logical_or.accumulate
    back = np.flip(reach(np.flip(tissue, axis), axis=axis), axis)
    filled: NDArray[np.bool_] = reach(tissue, axis=axis) & back
    return filled


def _is_cut(deep: NDArray[np.bool_], measured: NDArray[np.bool_], lateral: int) -> bool:
    """Tell whether too many lines from right to left begin or end within the body.

    ``deep`` is filled from front to back: at a border through a lung the lung's air counts.
    """
    lines, seen = np.moveaxis(deep, lateral, 0), np.moveaxis(measured, lateral, 0)
    ends = []
    for step in (1, -1):
        outermost = seen[::step].argmax(axis=0)[None]
        ends.append(np.count_nonzero(np.take_along_axis(lines[::step], outermost, axis=0)))
    return bool(max(ends) > _MOST_CUT * np.count_nonzero(lines.any(axis=0)))

"""Trachea and main bronchi by region growing that stops before it leaks into the lung."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicomnode.imaging import components, morphology

Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]

TRACHEA_MM2 = (80.0, 700.0)
FROM_MIDLINE_MM = 35.0
SHORTEST_TRACHEA_MM = 16.0
GROWING_HU = (-950.0, -930.0, -910.0, -880.0, -850.0)
LARGEST_MM3 = 120_000.0
# The tree grows by a third per step at most; a leak multiplies it.
LEAK_FACTOR = 1.8
LEAK_MM3 = 12_000.0


@dataclass(frozen=True, slots=True)
class _Lumen:
    """One round air region of one slice: its slice, label, centre and area in mm."""

    slice_index: int
    label: int
    y_mm: float
    x_mm: float
    area_mm2: float


def grown_airways(hu: NDArray[np.float32], body: Mask, spacing: Triple, midline: float) -> Mask:
    """Mask of the air in trachea and bronchi, empty where no trachea is found.

    Parameters
    ----------
    hu, body
        (z, y, x) along the patient, axis 0 towards the head.
    midline
        Index along axis 2 of the patient's midline.
    """
    seeds = _trachea(hu, body, spacing, midline)
    if not seeds.any():
        return seeds
    voxel_mm3 = float(np.prod(spacing))
    grown = seeds
    for threshold_hu in GROWING_HU:
        tree = components.touching((body & (hu < threshold_hu)) | seeds, seeds)
        volume_mm3 = np.count_nonzero(tree) * voxel_mm3
        before_mm3 = np.count_nonzero(grown) * voxel_mm3
        if volume_mm3 > LARGEST_MM3 or volume_mm3 > LEAK_FACTOR * before_mm3 + LEAK_MM3:
            break
        grown = tree
    closed = morphology.closed(grown, spacing, 1.1 * max(spacing))
    return closed & body


def _trachea(hu: NDArray[np.float32], body: Mask, spacing: Triple, midline: float) -> Mask:
    """The longest chain of round air regions near the midline, over neighbouring slices."""
    air = body & (hu < -700.0)
    labels, count = components.labelled_in_slices(air)
    chains: list[list[_Lumen]] = []
    for lumen in _lumina(labels, count, spacing, midline):
        fitting = [chain for chain in chains if _continues(chain[-1], lumen)]
        if fitting:
            max(fitting, key=len).append(lumen)
        else:
            chains.append([lumen])
    seeds = np.zeros(body.shape, dtype=np.bool_)
    if not chains:
        return seeds
    # Of equals the first found, which is the one nearest to the head.
    longest = max(chains, key=len)
    if len(longest) * spacing[0] >= SHORTEST_TRACHEA_MM:
        seeds |= np.isin(labels, [lumen.label for lumen in longest])
    return seeds


def _lumina(labels: NDArray[np.int32], count: int, spacing: Triple, midline: float) -> list[_Lumen]:
    """Regions of a trachea's size and roundness near the midline, from the head down."""
    boxes = ndimage.find_objects(labels, max_label=count)
    areas_mm2 = components.sizes(labels, count) * (spacing[1] * spacing[2])
    found = []
    for label, box in enumerate(boxes, start=1):
        area_mm2 = float(areas_mm2[label])
        if not TRACHEA_MM2[0] <= area_mm2 <= TRACHEA_MM2[1]:
            continue
        rows, columns = np.nonzero(labels[box][0] == label)
        y_mm = (float(rows.mean()) + box[1].start) * spacing[1]
        x_mm = (float(columns.mean()) + box[2].start) * spacing[2]
        height_mm = (box[1].stop - box[1].start) * spacing[1]
        width_mm = (box[2].stop - box[2].start) * spacing[2]
        is_round = (
            area_mm2 > 0.5 * height_mm * width_mm and height_mm < 3 * width_mm < 9 * height_mm
        )
        if is_round and abs(x_mm - midline * spacing[2]) < FROM_MIDLINE_MM:
            found.append(_Lumen(int(box[0].start), label, y_mm, x_mm, area_mm2))
    return sorted(found, key=lambda lumen: (-lumen.slice_index, lumen.label))


def _continues(above: _Lumen, lumen: _Lumen) -> bool:
    """True when ``lumen`` may be the slice below ``above`` in the same tube."""
    shift_mm = float(np.hypot(lumen.y_mm - above.y_mm, lumen.x_mm - above.x_mm))
    ratio = lumen.area_mm2 / above.area_mm2
    return lumen.slice_index == above.slice_index - 1 and shift_mm < 8.0 and 0.4 < ratio < 2.5

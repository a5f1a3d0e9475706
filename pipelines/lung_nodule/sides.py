"""Right or left of a nodule: the side of the nearer lung, not of the middle of the body.

A heart that pushes, a lung that collapsed or a patient who lies askew puts one lung across the
middle. A result may not say a side that its own place contradicts: there it says none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging import morphology, orient
from dicomnode.imaging.chest import Chest
from dicomnode.imaging.midline import midline_lps
from dicomnode.sdk import Code, Laterality, Volume
from dicomnode.sdk.codes import CHEST, LUNG

# A result's side is refused 10 mm beyond the middle, which is measured anew there.
ACROSS_MIDDLE_MM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Which lung is nearer, voxel by voxel of a coarse grid, and where the body's middle lies.

    ``nearer`` is (z, y, x) int8 on the grid of a `Chest`: -1 the right lung, 1 the left one, 0
    neither. ``middle_lps`` is in mm, None where the images do not show it.
    """

    series: Volume
    upright: Volume
    nearer: NDArray[np.int8]
    middle_lps: float | None

    @classmethod
    def of(cls, series: Volume, parts: Chest) -> Sides:
        """Measure the distance to both lungs of ``series``; no side is nearer without one."""
        nearer = np.zeros(parts.body.shape, dtype=np.int8)
        if parts.right_lung.any() and parts.left_lung.any():
            to_right_mm = morphology.distance_to(parts.right_lung, parts.spacing)
            to_left_mm = morphology.distance_to(parts.left_lung, parts.spacing)
            nearer = np.sign(to_right_mm - to_left_mm).astype(np.int8)
        return cls(series, orient.to_lps(series), nearer, midline_lps(series))

    def at(self, index_zyx: NDArray[np.float64]) -> tuple[Code, Laterality | None]:
        """Site and side of a point, a voxel index of the series.

        A lung without a side leaves the side to the node; the chest has none.
        """
        point_lps = self.series.to_patient(index_zyx)
        nearer = int(self.nearer[self._voxel(point_lps)])
        if nearer == 0:
            return LUNG, None
        across_mm = 0.0 if self.middle_lps is None else (self.middle_lps - point_lps[0]) * nearer
        if across_mm > ACROSS_MIDDLE_MM:
            return CHEST, None
        return LUNG, Laterality.RIGHT if nearer < 0 else Laterality.LEFT

    def _voxel(self, point_lps: NDArray[np.float64]) -> tuple[int, int, int]:
        """Voxel of the coarse grid, which covers the same box as the series' voxels."""
        share = (self.upright.to_index(point_lps) + 0.5) / np.asarray(self.upright.shape)
        counts = np.asarray(self.nearer.shape)
        z, y, x = np.clip(np.floor(share * counts).astype(int), 0, counts - 1)
        return int(z), int(y), int(x)

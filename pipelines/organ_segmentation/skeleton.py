"""Bone on a coarse grid, told from blood and kidneys with contrast agent by its uneven inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dicomnode.imaging import components, filters, morphology

Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]

BONE_HU = 180.0
SMALLEST_MM3 = 2_000.0
# Each bone has some compact bone; a rim of enhanced tissue has none.
COMPACT_HU = 400.0
SMALLEST_COMPACT_SHARE = 0.01
# Enhanced blood and kidneys: even over this scale, and not denser than contrast agent makes them.
EVEN_SCALE_MM = 3.0
EVEN_HU = 40.0
ENHANCED_HU = (150.0, 600.0)
SMALLEST_ENHANCED_MM3 = 1_500.0
RIM_MM = 9.0
MARROW_MM = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """Bones (z, y, x), and how much was taken away that looks enhanced by contrast agent."""

    mask: Mask
    enhanced_mm3: float


def segment_skeleton(hu: torch.Tensor, body: Mask, spacing: Triple) -> Skeleton:
    """Find the bones within ``body``, without what looks enhanced by contrast agent."""
    voxel_mm3 = float(np.prod(spacing))
    values = hu.cpu().numpy()
    dense = body & (values > BONE_HU)
    enhanced = _enhanced(hu, values, body, spacing)
    bone = dense & ~enhanced
    labels, count = components.labelled(bone)
    counted = components.sizes(labels, count)
    compact = np.bincount(labels[values > COMPACT_HU], minlength=count + 1)
    keep = (counted * voxel_mm3 >= SMALLEST_MM3) & (compact >= SMALLEST_COMPACT_SHARE * counted)
    keep[0] = False
    mask = morphology.closed(keep[labels], spacing, MARROW_MM) & body
    return Skeleton(mask, float(np.count_nonzero(enhanced)) * voxel_mm3)


def _enhanced(hu: torch.Tensor, values: NDArray[np.float32], body: Mask, spacing: Triple) -> Mask:
    """Large even parts of contrast agent's density, and the rim that surrounds each."""
    # Around the usual density of blood, so that squares stay small and keep their digits.
    centred = hu.clamp(-200.0, 800.0) - 200.0
    mean = filters.gaussian(centred, EVEN_SCALE_MM, spacing)
    square = filters.gaussian(centred * centred, EVEN_SCALE_MM, spacing)
    is_even = (square - mean * mean < EVEN_HU**2).cpu().numpy()
    low, high = ENHANCED_HU
    cores = body & is_even & (values > low) & (values < high)
    least = max(1, round(SMALLEST_ENHANCED_MM3 / float(np.prod(spacing))))
    cores = components.at_least(cores, least)
    rim = morphology.dilated(cores, spacing, RIM_MM) & (values < high)
    reached: Mask = components.touching(rim & (values > BONE_HU), cores)
    return reached

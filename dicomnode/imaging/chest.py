"""The large parts of a chest CT without a trained network: body, airways, right and left lung.

Everything works on HU on a grid of about 2 mm whose axes lie along the patient (`orient.to_lps`):
axis 0 towards the head, 1 towards the back, 2 towards the left. Sides therefore are the patient's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicomnode.imaging import components, morphology
from dicomnode.imaging.airways import grown_airways

Mask = NDArray[np.bool_]
# Its calls carry no types.
sitk: Any = SimpleITK
Triple = tuple[float, float, float]

GRID_MM: Triple = (2.0, 2.0, 2.0)
BODY_HU = -500.0
AIR_HU = -400.0
# Gas in the bowel is as empty as the air around the patient; even emphysema holds some tissue.
GAS_MEDIAN_HU = -970.0
SMALLEST_LUNG_MM3 = 50_000.0
# Two lungs of one patient differ in size, but a part below this share of both is something else.
SMALLEST_SHARE = 0.04
DOME_MM2 = 150.0


def _unheard(_fraction: float) -> None:
    """For callers that do not ask how far it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Chest:
    """Masks (z, y, x) on one grid along the patient, and its spacing in mm."""

    spacing: Triple
    body: Mask
    airways: Mask
    right_lung: Mask
    left_lung: Mask

    @property
    def lungs(self) -> Mask:
        """Both lungs."""
        both: Mask = self.right_lung | self.left_lung
        return both

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing))

    def volume_mm3(self, mask: Mask) -> float:
        """Volume of a mask on this grid."""
        return float(np.count_nonzero(mask)) * self.voxel_mm3


def segment_chest(
    hu: NDArray[np.float32], spacing: Triple, report: Callable[[float], None] = _unheard
) -> Chest:
    """Find body, airways and lungs; what is not in the field of view comes back empty.

    ``report`` is called between the steps with the fraction done. Gas that looks like a trachea
    is only believed where there is a lung to belong to.
    """
    body = body_mask(hu, spacing)
    report(0.2)
    midline = midline_voxel(hu, body, spacing)
    airways = grown_airways(hu, body, spacing, midline)
    report(0.4)
    air = body & (hu < AIR_HU) & ~morphology.dilated(airways, spacing, 1.1 * max(spacing))
    cores = _lung_halves(hu, air, spacing, midline)
    report(0.7)
    right, left = (_filled(core, air, body & ~airways, spacing) for core in cores)
    if not (right.any() or left.any()):
        airways = np.zeros_like(airways)
    report(1.0)
    return Chest(spacing, body, airways, right, left & ~right)


def body_mask(hu: NDArray[np.float32], spacing: Triple) -> Mask:
    """The patient without table and clothes: the largest dense part, filled slice by slice."""
    dense = morphology.opened(hu > BODY_HU, spacing, 1.5 * max(spacing))
    return components.filled_in_slices(components.largest(dense))


def midline_voxel(hu: NDArray[np.float32], body: Mask, spacing: Triple) -> float:
    """Index along axis 2 of the spine, the bone deepest in the body; of the body where none is."""
    if not body.any():
        return float((body.shape[2] - 1) / 2)
    deep = np.where(body & (hu > 180.0), morphology.depth(body, spacing), 0.0)
    columns = np.arange(body.shape[2], dtype=np.float64)
    weight = (deep.astype(np.float64) ** 3).sum(axis=(0, 1))
    if weight.sum() == 0:
        weight = body.sum(axis=(0, 1)).astype(np.float64)
    return float((weight * columns).sum() / weight.sum())


def _lung_halves(
    hu: NDArray[np.float32], air: Mask, spacing: Triple, midline: float
) -> tuple[Mask, Mask]:
    """Cores of the patient's right and left lung; empty where there is none."""
    sides = (np.zeros_like(air), np.zeros_like(air))
    cores = morphology.opened(air, spacing, min(spacing) * 1.01)
    for part in _plausible_parts(hu, cores, float(np.prod(spacing))):
        for half in _halves(part, spacing, midline):
            centre = float(np.nonzero(half)[2].mean())
            sides[int(centre > midline)][half] = True
    return sides


def _plausible_parts(hu: NDArray[np.float32], air: Mask, voxel_mm3: float) -> list[Mask]:
    """Components of ``air`` that are lung by size and density, the largest first."""
    labels, count = components.labelled(air)
    counted = components.sizes(labels, count) * voxel_mm3
    order = [int(n) for n in np.argsort(-counted[1:], kind="stable") + 1]
    large = [n for n in order[:6] if counted[n] >= SMALLEST_LUNG_MM3]
    parts = [labels == n for n in large]
    parts = [part for part in parts if float(np.median(hu[part])) > GAS_MEDIAN_HU]
    total = sum(int(np.count_nonzero(part)) for part in parts)
    return [part for part in parts if np.count_nonzero(part) >= SMALLEST_SHARE * total]


def _halves(part: Mask, spacing: Triple, midline: float) -> list[Mask]:
    """Cut a component that reaches far over the midline at its thinnest bridge."""
    split = int(np.clip(round(midline), 0, part.shape[2]))
    shares = np.array([np.count_nonzero(part[:, :, :split]), np.count_nonzero(part[:, :, split:])])
    if shares.min() < 0.15 * shares.sum():
        return [part]
    inside = morphology.depth(part, spacing)
    # Deeper and deeper cores until the bridge is gone; lungs are far thicker than 12 mm.
    for radius_mm in np.arange(1.0, 12.5, 1.0) * min(spacing):
        labels, count = components.labelled(inside > radius_mm)
        counted = components.sizes(labels, count)
        if count < 2:
            continue
        first, second = (int(n) for n in np.argsort(-counted[1:], kind="stable")[:2] + 1)
        if counted[second] > 0.1 * counted[first]:
            seeds = np.zeros(part.shape, dtype=np.int32)
            seeds[labels == first] = 1
            seeds[labels == second] = 2
            return _watershed(part, inside, seeds)
    return [part]


def _watershed(part: Mask, inside: NDArray[np.float32], seeds: NDArray[np.int32]) -> list[Mask]:
    flood = sitk.MorphologicalWatershedFromMarkers(
        sitk.GetImageFromArray(-inside), sitk.GetImageFromArray(seeds), markWatershedLine=False
    )
    labels = sitk.GetArrayFromImage(flood)
    return [part & (labels == 1), part & (labels == 2)]


def _filled(side: Mask, air: Mask, allowed: Mask, spacing: Triple) -> Mask:
    """Give back what opening took from one lung, and what vessels cut out of it."""
    if not side.any():
        return side
    own = air & morphology.dilated(side, spacing, 1.1 * max(spacing))
    closed = morphology.closed(own, spacing, 3.0)
    return _without_holes(closed, spacing) & allowed


def _without_holes(lung: Mask, spacing: Triple) -> Mask:
    """Fill what a slice of the lung encloses, but not the dome of the diaphragm.

    The dome, too, is a hole in its uppermost slices; unlike a vessel or a nodule it goes on
    towards the feet as something that the lung no longer encloses.
    """
    holes = components.filled_in_slices(lung) & ~lung
    below = np.zeros_like(holes)
    below[1:] = holes[1:] & ~holes[:-1] & ~lung[:-1]
    labels, count = components.labelled(holes)
    exits_mm2 = np.bincount(labels[below], minlength=count + 1) * (spacing[1] * spacing[2])
    fill = exits_mm2 < DOME_MM2
    fill[0] = False
    filled: Mask = lung | fill[labels]
    return filled


def closed_lungs(chest: Chest, radius_mm: float) -> Mask:
    """Both lungs with the dents of nodules at the pleura and of vessels at the hilum closed.

    Each lung is closed by itself, so that nothing between the lungs is taken in.
    """
    sides = (chest.right_lung, chest.left_lung)
    closed = [
        _without_holes(morphology.closed(side, chest.spacing, radius_mm), chest.spacing)
        if side.any()
        else side
        for side in sides
    ]
    both: Mask = (closed[0] | closed[1]) & chest.body
    return both


def are_lungs_cut(chest: Chest) -> bool:
    """True when the first or last slice still holds more than the tip of a lung."""
    tip_mm2 = 1000.0
    pixel_mm2 = chest.spacing[1] * chest.spacing[2]
    lungs = chest.lungs
    return any(np.count_nonzero(lungs[end]) * pixel_mm2 > tip_mm2 for end in (0, -1))

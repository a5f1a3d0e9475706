"""Drawing on a voxel grid in millimetres: fractional occupancy, mixing, point spread.

Patient coordinates are LPS in mm and the grid is not rotated: array axis x runs to the patient's
left, y to the back, z to the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of ``shape`` voxels and ``spacing`` mm (z, y, x), along the axes of the patient.

    Its middle is 0, 0, 0.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def origin(self) -> tuple[float, float, float]:
        """Patient LPS position in mm (x, y, z) of the centre of voxel ``[0, 0, 0]``."""
        z, y, x = (-(n - 1) / 2 * s for n, s in zip(self.shape, self.spacing, strict=True))
        return x, y, z

    def axes(self, box: Box | None = None) -> tuple[Array, Array, Array]:
        """Coordinates in mm within ``box``: z ``(n, 1, 1)``, y ``(1, n, 1)``, x ``(1, 1, n)``."""
        starts = self.origin[::-1]
        lines = [
            (start + np.arange(n) * step).astype(np.float32)
            for start, n, step in zip(starts, self.shape, self.spacing, strict=True)
        ]
        if box is not None:
            lines = [line[part] for line, part in zip(lines, box, strict=True)]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def box_round(self, low_lps: NDArray[np.float64], high_lps: NDArray[np.float64]) -> Box:
        """Slices (z, y, x) of the voxels between two corners, cut to the grid."""
        first, last = self.index(low_lps), self.index(high_lps)
        parts = [
            slice(int(np.clip(np.floor(a), 0, n)), int(np.clip(np.ceil(b) + 1, 0, n)))
            for a, b, n in zip(first, last, self.shape, strict=True)
        ]
        return parts[0], parts[1], parts[2]

    def index(self, point_lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices (z, y, x), not rounded, of points (x, y, z) in mm."""
        offset = np.asarray(point_lps, dtype=np.float64) - np.asarray(self.origin)
        index: NDArray[np.float64] = (offset / np.asarray(self.spacing[::-1]))[..., ::-1]
        return index

    def points(self, mask: Mask, count: int, chance: np.random.Generator) -> NDArray[np.float64]:
        """``(count, 3)`` points (x, y, z) in mm, drawn evenly from the voxels of ``mask``."""
        flat = np.flatnonzero(mask)
        chosen = np.stack(np.unravel_index(chance.choice(flat, count), mask.shape), axis=1)
        steps = chosen[:, ::-1] * np.asarray(self.spacing[::-1])
        points: NDArray[np.float64] = steps + np.asarray(self.origin)
        return points

    def contains(self, mask: Mask, point_lps: NDArray[np.float64]) -> Mask:
        """Tell of each point ``(…, 3)`` whether the voxel nearest to it belongs to ``mask``."""
        index = np.rint(self.index(point_lps)).astype(int)
        inside = np.all((index >= 0) & (index < np.asarray(self.shape)), axis=-1)
        z, y, x = np.moveaxis(np.clip(index, 0, np.asarray(self.shape) - 1), -1, 0)
        return np.asarray(inside & mask[z, y, x])


def mix(image: Array, box: Box, occupancy: Array, value_hu: float | Array) -> None:
    """Mix ``value_hu`` into ``image[box]`` by ``occupancy`` (0…1), in place."""
    part = image[box]
    part += occupancy * (value_hu - part)


def capsule(
    grid: Grid, start: NDArray[np.float64], end: NDArray[np.float64], radius_mm: float
) -> tuple[Box, Array]:
    """Box and occupancy (0…1) of a rod with round ends between two points (x, y, z) in mm.

    The edge is one voxel wide; a rod thinner than a voxel fills it in proportion to its section.
    """
    step = float(np.mean(grid.spacing[1:]))
    reach = radius_mm + max(grid.spacing)
    box = grid.box_round(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    z, y, x = grid.axes(box)
    axis = np.asarray(end - start, dtype=np.float32)
    squared = float(axis @ axis)
    ahead = (x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]
    along = np.clip(ahead / max(squared, 1e-6), 0.0, 1.0)
    away = [c - s - along * a for c, s, a in zip((x, y, z), start, axis, strict=True)]
    distance = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
    share = min(1.0, (2.0 * radius_mm / step) ** 2)
    edge = np.clip((radius_mm - distance) / step + 0.5, 0.0, 1.0)
    return box, (edge * share).astype(np.float32)


def occupancy_of(
    grid: Grid, box: Box, inside: Callable[[Array, Array, Array], Mask], fine_mm: float
) -> Array:
    """Share (0…1) of each voxel of ``box`` for which ``inside(z, y, x)`` in mm holds.

    Each voxel is cut into pieces of ``fine_mm`` or less along each axis.
    """
    cuts = [max(1, int(np.ceil(step / fine_mm))) for step in grid.spacing]
    fine = []
    for axis, (line, cut, step) in enumerate(zip(grid.axes(box), cuts, grid.spacing, strict=True)):
        offsets = ((np.arange(cut) + 0.5) / cut - 0.5) * step
        points = (line.reshape(-1, 1) + offsets).reshape(-1).astype(np.float32)
        fine.append(points.reshape([-1 if i == axis else 1 for i in range(3)]))
    filled = inside(fine[0], fine[1], fine[2])
    shape = [n for line, cut in zip(fine, cuts, strict=True) for n in (line.size // cut, cut)]
    share: Array = filled.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
    return share


def smoothed(image: Array, sigma_voxels: tuple[float, float, float]) -> Array:
    """``image`` convolved with a Gaussian of ``sigma_voxels`` (z, y, x), edges repeated."""
    result = image
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.15:  # the neighbours' share is below rounding to 1 HU
            continue
        reach = int(np.ceil(3.0 * sigma))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights = (weights / weights.sum()).astype(np.float32)
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(result, padding, mode="edge")
        size = image.shape[axis]
        shifted = np.zeros_like(image)
        for place, weight in enumerate(weights):
            part = tuple(slice(place, place + size) if i == axis else slice(None) for i in range(3))
            shifted += weight * padded[part]
        result = shifted
    return result


def coarse_noise(
    shape: tuple[int, int, int], step: tuple[int, int, int], chance: np.random.Generator
) -> Array:
    """Noise of unit variance that changes about every ``step`` voxels (z, y, x)."""
    coarse = tuple(-(-n // s) + 2 for n, s in zip(shape, step, strict=True))
    noise: Array = chance.standard_normal(coarse, dtype=np.float32)
    for axis, (size, every) in enumerate(zip(shape, step, strict=True)):
        place = np.arange(size) / every
        low = place.astype(int)
        share = (place - low).astype(np.float32)
        share = share.reshape([-1 if i == axis else 1 for i in range(3)])
        noise = np.take(noise, low, axis) * (1 - share) + np.take(noise, low + 1, axis) * share
    return noise / max(float(noise.std()), 1e-6)

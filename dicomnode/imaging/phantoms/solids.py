"""Solids in a uniform background, with the numbers that geometry gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.scene import Array, Grid, mix, occupancy_of
from dicomnode.sdk import SeriesInfo, Volume


@dataclass(frozen=True, slots=True, eq=False)
class SolidPhantom:
    """One solid in a small volume.

    Parameters
    ----------
    array
        ``(z, y, x)`` float32 HU, edges at fractional occupancy.
    mask
        ``(z, y, x)`` bool, voxels filled by half or more.
    spacing
        mm along (z, y, x).
    centre_lps
        Centre of the solid in patient LPS mm; voxel ``[0, 0, 0]`` lies at ``origin``.
    axes_mm
        Full extents along (z, y, x).
    volume_mm3
        Volume by formula.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    centre_lps: tuple[float, float, float]
    axes_mm: tuple[float, float, float]
    volume_mm3: float

    def volume(self) -> Volume:
        """The phantom as a pipeline would get it."""
        series = SeriesInfo("CT", body_part="PHANTOM")
        return Volume(self.array, self.spacing, self.origin, _upright(), series, "[hnsf'U]")


@dataclass(frozen=True, slots=True)
class Setting:
    """Grid and values of a solid: the background has ``background_hu``, the solid ``value_hu``."""

    shape: tuple[int, int, int] = (32, 48, 48)
    spacing: tuple[float, float, float] = (1.5, 1.0, 1.0)
    value_hu: float = 40.0
    background_hu: float = -850.0
    centre_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)


def sphere(diameter_mm: float, setting: Setting | None = None) -> SolidPhantom:
    """A ball of ``diameter_mm``."""
    return ellipsoid((diameter_mm, diameter_mm, diameter_mm), setting)


def ellipsoid(axes_mm: tuple[float, float, float], setting: Setting | None = None) -> SolidPhantom:
    """An upright ellipsoid with full axes ``axes_mm`` along (z, y, x)."""
    return _solid(axes_mm, np.pi / 6 * float(np.prod(axes_mm)), 2, setting or Setting())


def box(axes_mm: tuple[float, float, float], setting: Setting | None = None) -> SolidPhantom:
    """An upright box with edges ``axes_mm`` along (z, y, x)."""
    return _solid(axes_mm, float(np.prod(axes_mm)), np.inf, setting or Setting())


def _solid(
    axes_mm: tuple[float, float, float], volume_mm3: float, norm: float, setting: Setting
) -> SolidPhantom:
    grid = Grid(setting.shape, setting.spacing)
    halves = [axis / 2 for axis in axes_mm]
    x0, y0, z0 = setting.centre_lps

    def inside(z: Array, y: Array, x: Array) -> NDArray[np.bool_]:
        parts = np.broadcast_arrays(
            (z - z0) / halves[0], (y - y0) / halves[1], (x - x0) / halves[2]
        )
        if norm == 2:
            return np.asarray(sum(part * part for part in parts) <= 1.0)
        return np.asarray(np.max(np.abs(parts), axis=0) <= 1.0)

    whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    share = occupancy_of(grid, whole, inside, min(setting.spacing) / 4)
    array = np.full(grid.shape, setting.background_hu, dtype=np.float32)
    mix(array, whole, share, setting.value_hu)
    return SolidPhantom(
        array=array,
        mask=share >= 0.5,
        spacing=setting.spacing,
        origin=grid.origin,
        centre_lps=setting.centre_lps,
        axes_mm=axes_mm,
        volume_mm3=volume_mm3,
    )


def _upright() -> NDArray[np.float64]:
    """Direction of an unrotated grid: rows are the LPS vectors along z, y, x."""
    return np.asarray([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

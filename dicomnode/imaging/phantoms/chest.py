"""A chest CT drawn from a seed: lungs, vessels, airways, nodules, and fluid or air on demand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.anatomy import AIR_HU, Anatomy, draw_anatomy, point
from dicomnode.imaging.phantoms.nodules import (
    NodulePlace,
    NoduleSpec,
    PhantomNodule,
    draw_nodules,
)
from dicomnode.imaging.phantoms.scene import Array, Grid, Mask, capsule, coarse_noise, smoothed
from dicomnode.imaging.phantoms.vessels import VesselTree, draw_tree, grow_tree
from dicomnode.sdk import Laterality, SeriesInfo, Volume

__all__ = [
    "DEFAULT_NODULES",
    "ChestPhantom",
    "ChestSigns",
    "NodulePlace",
    "NoduleSpec",
    "PhantomNodule",
    "chest_ct",
]

DEFAULT_NODULES = (
    NoduleSpec(6.0, NodulePlace.FREE, Laterality.RIGHT),
    NoduleSpec(10.0, NodulePlace.VESSEL, Laterality.LEFT),
    NoduleSpec(16.0, NodulePlace.PLEURA, Laterality.RIGHT),
)
HILA = (point((-36.0, 20.0, -4.0)), point((40.0, 22.0, -6.0)))
POINT_SPREAD_MM = (1.0, 0.55, 0.55)
NOISE_HU = 14.0


@dataclass(frozen=True, slots=True)
class ChestSigns:
    """Acute signs to draw, each on one side or not at all."""

    effusion: Laterality | None = None
    pneumothorax: Laterality | None = None
    consolidation: Laterality | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ChestPhantom:
    """A chest CT and what is true about it.

    Parameters
    ----------
    array
        ``(z, y, x)`` int16 HU; z grows to the head, y to the back, x to the patient's left.
    spacing
        mm along (z, y, x).
    origin
        Patient LPS position in mm (x, y, z) of the centre of voxel ``[0, 0, 0]``.
    body, right_lung, left_lung, airways
        ``(z, y, x)`` bool. A lung is its pleural space without open airways: vessels, nodules and
        a consolidation belong to it, fluid and air of the pleura do not.
    fluid, pleural_air, consolidated
        ``(z, y, x)`` bool; empty where the sign was not asked for.
    nodules
        Each with centre, size and side, largest first.
    """

    array: NDArray[np.int16]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    body: Mask
    right_lung: Mask
    left_lung: Mask
    airways: Mask
    fluid: Mask
    pleural_air: Mask
    consolidated: Mask
    nodules: tuple[PhantomNodule, ...]

    @property
    def direction(self) -> NDArray[np.float64]:
        """3×3; rows are the patient LPS vectors along array axes z, y, x."""
        return np.asarray([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

    @property
    def lungs(self) -> Mask:
        """Both lungs, ``(z, y, x)`` bool."""
        return self.right_lung | self.left_lung

    def volume_ml(self, mask: Mask) -> float:
        """Volume in mL of one of the masks."""
        return float(mask.sum() * np.prod(self.spacing)) / 1000.0

    def volume(self) -> Volume:
        """The phantom as a pipeline would get it."""
        series = SeriesInfo(
            modality="CT",
            body_part="CHEST",
            series_description="Chest phantom",
            series_number=2,
            manufacturer="PHANTOM",
            kernel="STANDARD",
            slice_thickness_mm=self.spacing[0],
        )
        array = self.array.astype(np.float32)
        return Volume(array, self.spacing, self.origin, self.direction, series, "[hnsf'U]")


def chest_ct(
    *,
    shape: tuple[int, int, int] = (120, 256, 256),
    spacing: tuple[float, float, float] = (2.5, 1.25, 1.25),
    nodules: tuple[NoduleSpec, ...] = DEFAULT_NODULES,
    signs: ChestSigns | None = None,
    seed: int = 0,
) -> ChestPhantom:
    """A chest CT of ``shape`` voxels and ``spacing`` mm, both (z, y, x).

    The anatomy has the size of an adult whatever the grid: 300 × 320 × 320 mm hold it whole, less
    cuts it off. The same arguments give the same values, bit by bit.

    Raises
    ------
    ValueError
        A nodule finds no room in its lung.
    """
    chance = np.random.default_rng(seed)
    grid = Grid(shape, spacing)
    anatomy = draw_anatomy(grid, chance)
    trees = (
        _draw_vessels(grid, anatomy, True, chance),
        _draw_vessels(grid, anatomy, False, chance),
    )
    drawn = draw_nodules(grid, anatomy, trees, nodules, chance)
    fluid, air, consolidated = _draw_signs(grid, anatomy, signs or ChestSigns(), chance)
    sigma = tuple(mm / step for mm, step in zip(POINT_SPREAD_MM, spacing, strict=True))
    image = smoothed(anatomy.image, (sigma[0], sigma[1], sigma[2]))
    image += NOISE_HU * chance.standard_normal(shape, dtype=np.float32)
    return ChestPhantom(
        array=np.rint(np.clip(image, -1024, 3071)).astype(np.int16),
        spacing=spacing,
        origin=grid.origin,
        body=anatomy.body,
        right_lung=anatomy.right_lung & ~(fluid | air),
        left_lung=anatomy.left_lung & ~(fluid | air),
        airways=anatomy.airways,
        fluid=fluid,
        pleural_air=air,
        consolidated=consolidated,
        nodules=drawn,
    )


def _draw_vessels(
    grid: Grid, anatomy: Anatomy, is_right: bool, chance: np.random.Generator
) -> VesselTree:
    """Grow and draw the vessels of one lung."""
    lung = anatomy.lung(is_right)
    tree = grow_tree(grid, lung, HILA[0] if is_right else HILA[1], 800, chance)
    draw_tree(anatomy.image, grid, tree, lung, 40.0)
    return tree


def _draw_signs(
    grid: Grid, anatomy: Anatomy, signs: ChestSigns, chance: np.random.Generator
) -> tuple[Mask, Mask, Mask]:
    """Draw fluid behind, air in front and a dense lower zone; give the three masks."""
    z, y, x = grid.axes()
    nothing = np.zeros(grid.shape, dtype=np.bool_)
    consolidated, fluid, air = nothing, nothing.copy(), nothing.copy()
    if signs.consolidation is not None:
        space = anatomy.lung(signs.consolidation is Laterality.RIGHT)
        waves = 9.0 * coarse_noise(grid.shape, _steps(grid, 20.0), chance)
        consolidated = space & (z + waves < 25.0) & (y + waves > -35.0)
        anatomy.image[consolidated] = 38.0
        _draw_air_bronchograms(grid, anatomy.image, consolidated, chance)
    if signs.effusion is not None:
        space = anatomy.lung(signs.effusion is Laterality.RIGHT)
        fluid = space & (y + 0.0012 * x * x > 42.0 + 0.25 * z)
        anatomy.image[fluid] = 8.0
    if signs.pneumothorax is not None:
        space = anatomy.lung(signs.pneumothorax is Laterality.RIGHT)
        air = space & (y < -28.0 + 0.2 * z) & ~fluid
        anatomy.image[air] = AIR_HU
    return fluid, air, consolidated & ~(fluid | air)


def _draw_air_bronchograms(
    grid: Grid, image: Array, region: Mask, chance: np.random.Generator
) -> None:
    """Leave some thin open airways in a consolidation, in place."""
    if not region.any():
        return
    for start in grid.points(region, 14, chance):
        end = start + chance.normal(0.0, 1.0, 3) * np.asarray([8.0, 8.0, 14.0])
        box, share = capsule(grid, start, end, 1.3)
        image[box] += share * region[box] * (-900.0 - image[box])


def _steps(grid: Grid, size_mm: float) -> tuple[int, int, int]:
    z, y, x = (max(1, round(size_mm / step)) for step in grid.spacing)
    return z, y, x

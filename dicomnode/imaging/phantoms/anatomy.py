"""The fixed parts of the chest phantom: body, cage, heart, lung spaces and airways.

All lengths are mm of an adult lying on the back; the carina lies near 0, 22, 25 (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.scene import Array, Box, Grid, Mask, capsule, coarse_noise, mix

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, BONE_HU = -1000.0, -100.0, 50.0, 45.0, 420.0

# Rods of the airway tree: start, end (x, y, z), radius of the open part; the wall is outside of it.
AIRWAYS = (
    ((0.0, 22.0, 190.0), (0.0, 22.0, 25.0), 9.0),
    ((0.0, 22.0, 25.0), (-32.0, 24.0, 2.0), 6.5),
    ((0.0, 22.0, 25.0), (38.0, 26.0, -2.0), 6.0),
    ((-32.0, 24.0, 2.0), (-58.0, 22.0, 32.0), 3.6),
    ((-32.0, 24.0, 2.0), (-50.0, 30.0, -38.0), 4.2),
    ((38.0, 26.0, -2.0), (60.0, 20.0, 30.0), 3.4),
    ((38.0, 26.0, -2.0), (54.0, 34.0, -40.0), 4.0),
)
WALL_MM = 1.5


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The image so far and the masks that later steps draw into.

    Parameters
    ----------
    image
        ``(z, y, x)`` float32 HU, without vessels, noise and point spread; drawn on in place.
    body, right_lung, left_lung, airways
        ``(z, y, x)`` bool; lungs are the pleural spaces without open airways.
    """

    image: Array
    body: Mask
    right_lung: Mask
    left_lung: Mask
    airways: Mask

    def lung(self, is_right: bool) -> Mask:
        """The pleural space of one side."""
        return self.right_lung if is_right else self.left_lung


def draw_anatomy(grid: Grid, chance: np.random.Generator) -> Anatomy:
    """Body, cage, heart, abdomen, lungs with textured parenchyma, trachea and main bronchi."""
    z, y, x = grid.axes()
    body = _power(x / 152.0) + _power(y / 106.0) < 1.0
    body = np.broadcast_to(body, grid.shape)
    image = np.where(body, FAT_HU, AIR_HU).astype(np.float32)
    image[np.broadcast_to(_power(x / 139.0) + _power(y / 95.0) < 1.0, grid.shape)] = MUSCLE_HU
    image[_table(x, y, grid.shape)] = -150.0
    cavity = _cavity(z, y, x)
    _draw_cage(image, z, y, x)
    lungs = cavity & ~_between_lungs(z, y, x) & (z > _diaphragm(y, x))
    image[cavity & ~lungs] = BLOOD_HU
    image[_ball(z, y, x, (55.0, -35.0, -128.0), (24.0, 20.0, 20.0)) & ~lungs] = AIR_HU
    _draw_parenchyma(image, lungs, grid, chance)
    airways = _draw_airways(image, grid)
    lungs &= ~airways
    return Anatomy(image, body.copy(), lungs & (x < 0), lungs & (x >= 0), airways)


def _power(ratio: Array) -> Array:
    """``|ratio|`` to the power 2.5: between an ellipse and a box, as a trunk is."""
    return np.asarray(ratio * ratio * np.sqrt(np.abs(ratio)))


def _ball(
    z: Array, y: Array, x: Array, centre: tuple[float, ...], halves: tuple[float, ...]
) -> Mask:
    """Ellipsoid with centre and half axes given as (x, y, z)."""
    parts = [((c - m) / h) ** 2 for c, m, h in zip((x, y, z), centre, halves, strict=True)]
    return np.asarray(parts[0] + parts[1] + parts[2] <= 1.0)


def _table(x: Array, y: Array, shape: tuple[int, int, int]) -> Mask:
    """The curved top of the scanner's table, some mm under the back."""
    height = 114.0 + 0.0006 * x * x - 8.0
    return np.broadcast_to((np.abs(y - height - 4.0) < 2.0) & (np.abs(x) < 150.0), shape)


def _narrowing(z: Array) -> Array:
    """Share of the cage's width left at height ``z``: 1 below, 0 at the top of the lungs."""
    above = np.clip((z - 15.0) / 105.0, 0.0, 1.0)
    return np.asarray(np.maximum(np.sqrt(1.0 - above * above), 1e-3) ** 0.8)


def _cavity(z: Array, y: Array, x: Array) -> Mask:
    narrow = _narrowing(z)
    shape = _power(x / (121.0 * narrow)) + _power((y - 12.0 * (1.0 - narrow)) / (83.0 * narrow))
    return np.asarray((shape < 1.0) & (z < 120.0) & (z > -138.0))


def _diaphragm(y: Array, x: Array) -> Array:
    """Height of both domes: the right one a little above the left one."""
    right = -66.0 - 46.0 * np.minimum(1.3, ((x + 62.0) / 66.0) ** 2 + ((y + 2.0) / 84.0) ** 2)
    left = -76.0 - 42.0 * np.minimum(1.3, ((x - 62.0) / 66.0) ** 2 + ((y + 2.0) / 84.0) ** 2)
    return np.where(x < 0, right, left)


def _between_lungs(z: Array, y: Array, x: Array) -> Mask:
    """Mediastinum, heart and the soft tissue round the spine."""
    # Narrow in front, where both lungs nearly meet; round behind, beside the gullet and the spine.
    width = (
        11.0 + 15.0 / (1.0 + np.exp(-(y + 12.0) / 7.0)) - 6.0 * np.clip(y - 30.0, 0.0, 20.0) / 20.0
    )
    hilum = 12.0 * np.exp(-((z / 22.0) ** 2) - ((y - 20.0) / 20.0) ** 2)
    middle = np.abs(x) < width + hilum
    heart = _ball(z, y, x, (16.0, -26.0, -48.0), (56.0, 44.0, 50.0))
    spine = x * x + (y - 66.0) ** 2 < 25.0**2
    return np.asarray(middle | heart | spine)


def _draw_cage(image: Array, z: Array, y: Array, x: Array) -> None:
    """Draw ribs, spine with discs and canal, and sternum into the chest wall, in place."""
    shell = _power(x / 130.0) + _power(y / 90.0)
    inner = _power(x / 124.0) + _power(y / 85.5)
    slope = z - 0.35 * y
    ribs = (shell < 1.0) & (inner > 1.0) & (np.mod(slope, 25.0) < 8.5) & (y > -78.0) & (z < 128.0)
    image[ribs] = BONE_HU
    radius = np.sqrt(x * x + (y - 68.0) ** 2)
    is_disc = np.mod(z, 26.0) < 5.0
    column = np.broadcast_to(radius < 18.0, image.shape)
    image[column] = 190.0
    image[column & np.broadcast_to(radius > 15.5, image.shape)] = BONE_HU
    image[column & is_disc] = 90.0
    arch = (np.abs(x) < 15.0) & (y > 84.0) & (y < 97.0)
    image[np.broadcast_to(arch, image.shape)] = BONE_HU
    canal = x * x + (y - 90.0) ** 2 < 7.5**2
    image[np.broadcast_to(canal, image.shape)] = 25.0
    sternum = (np.abs(x) < 17.0) & (np.abs(y + 88.0) < 5.0) & (z > -40.0) & (z < 110.0)
    image[np.broadcast_to(sternum, image.shape)] = 230.0


def _draw_parenchyma(image: Array, lungs: Mask, grid: Grid, chance: np.random.Generator) -> None:
    """Fill the lungs at about −850 HU, denser towards the back, with structure of 4 and 15 mm."""
    steps = [tuple(max(1, round(size / step)) for step in grid.spacing) for size in (4.0, 15.0)]
    fine, coarse = (coarse_noise(grid.shape, (s[0], s[1], s[2]), chance) for s in steps)
    _, y, _ = grid.axes()
    texture = -852.0 + 0.3 * y + 16.0 * fine + 14.0 * coarse
    image[lungs] = texture[lungs]


def _draw_airways(image: Array, grid: Grid) -> Mask:
    """Draw the walls, then the open parts; give the mask of the open parts."""
    rods = [(np.asarray(a), np.asarray(b), radius) for a, b, radius in AIRWAYS]
    for start, end, radius in rods:
        place, share = capsule(grid, start, end, radius + WALL_MM)
        mix(image, place, share, 20.0)
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for start, end, radius in rods:
        place, share = capsule(grid, start, end, radius)
        mix(image, place, share, -990.0)
        mask[place] |= share >= 0.5
    return mask


def whole(grid: Grid) -> Box:
    """The box of the entire grid."""
    z, y, x = grid.shape
    return slice(0, z), slice(0, y), slice(0, x)


def point(lps: tuple[float, float, float]) -> NDArray[np.float64]:
    """A point (x, y, z) as an array."""
    return np.asarray(lps, dtype=np.float64)

"""A frontal chest radiograph: the chest phantom seen through, with opacities of known place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.chest import ChestSigns, chest_ct
from dicomnode.imaging.phantoms.scene import Array, Mask
from dicomnode.sdk import Image, Images, PixelSpacingOrigin, SeriesInfo

# Attenuation of water for the spectrum of a chest radiograph, per mm.
WATER_PER_MM = 0.018
PIXEL_MM = 1.0


@dataclass(frozen=True, slots=True)
class Opacity:
    """A ball of water density to add: centre in (column, row), corner 0, 0, and its size."""

    column: float
    row: float
    diameter_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class RadiographPhantom:
    """A frontal radiograph and what is true about it.

    Parameters
    ----------
    array
        ``(row, column)`` float32, 0…1, brighter means more attenuation; the patient's right is at
        the left edge, the head at the top.
    pixel_spacing
        mm between (rows, columns).
    right_field, left_field
        ``(row, column)`` bool: 30 mm of lung space or more behind each other.
    opacities
        What was added.
    """

    array: NDArray[np.float32]
    pixel_spacing: tuple[float, float]
    right_field: Mask
    left_field: Mask
    opacities: tuple[Opacity, ...]

    def images(self) -> Images:
        """The phantom as a pipeline would get it."""
        image = Image(
            array=self.array,
            pixel_spacing=self.pixel_spacing,
            pixel_spacing_origin=PixelSpacingOrigin.IMAGER,
            view_position="PA",
            patient_orientation=("L", "F"),
        )
        series = SeriesInfo(
            "DX", body_part="CHEST", series_description="Chest phantom", view_position="PA"
        )
        return Images((image,), series)


def chest_radiograph(
    *,
    opacities: tuple[Opacity, ...] = (),
    signs: ChestSigns | None = None,
    rows_cut: int = 0,
    seed: int = 0,
) -> RadiographPhantom:
    """A frontal radiograph of 300 × 320 pixels of 1 mm, made of line integrals of `chest_ct`.

    ``rows_cut`` takes so many rows off the lower edge, as a coned-down image has.
    """
    phantom = chest_ct(
        shape=(150, 108, 320), spacing=(2.0, 3.0, PIXEL_MM), nodules=(), signs=signs, seed=seed
    )
    water = np.clip((phantom.array.astype(np.float32) + 1000.0) / 1000.0, 0.0, None)
    path_mm = _rows(water.sum(axis=1) * phantom.spacing[1])
    for opacity in opacities:
        path_mm += _thickness(opacity, (path_mm.shape[0], path_mm.shape[1]))
    # Twice the thickness behind soft tissue brightens ever less, as a curve of film density does.
    signal = 1.0 - np.exp(-WATER_PER_MM * path_mm * 0.45)
    signal += 0.006 * np.random.default_rng(seed).standard_normal(signal.shape, dtype=np.float32)
    low, high = np.percentile(signal, (1, 99.5))
    array = np.clip((signal - low) / (high - low), 0.0, 1.0).astype(np.float32)
    fields = []
    for right in (True, False):
        space = (phantom.fluid | phantom.pleural_air).copy()
        middle = space.shape[2] // 2
        space[:, :, slice(middle, None) if right else slice(0, middle)] = False
        space |= phantom.right_lung if right else phantom.left_lung
        fields.append(_rows(space.sum(axis=1).astype(np.float32) * phantom.spacing[1]) >= 30.0)
    last = array.shape[0] - rows_cut
    return RadiographPhantom(
        array=np.ascontiguousarray(array[:last]),
        pixel_spacing=(PIXEL_MM, PIXEL_MM),
        right_field=fields[0][:last],
        left_field=fields[1][:last],
        opacities=opacities,
    )


def _rows(lines_zx: Array) -> Array:
    """Turn ``(z, x)`` lines 2 mm apart into rows 1 mm apart, head first."""
    upside = lines_zx[::-1]
    return np.asarray(np.repeat(upside, 2, axis=0), dtype=np.float32)


def _thickness(opacity: Opacity, shape: tuple[int, int]) -> Array:
    """Length in mm of each ray within the ball."""
    row = np.arange(shape[0], dtype=np.float32)[:, None] + 0.5 - opacity.row
    column = np.arange(shape[1], dtype=np.float32)[None, :] + 0.5 - opacity.column
    radius = opacity.diameter_mm / 2 / PIXEL_MM
    height = np.sqrt(np.clip(radius * radius - row * row - column * column, 0.0, None))
    return np.asarray(2.0 * height * PIXEL_MM, dtype=np.float32)

"""What a pipeline sees of images: calibrated arrays with their geometry, and no identity.

Patient coordinates are LPS in mm: x grows to the patient's left, y to the back, z to the head
(PS3.3 C.7.6.2.1.1). Array axes of a volume are always ``(z, y, x)``: slice, row, column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """Acquisition facts of one series; never anything that names a person.

    ``attributes`` holds further attributes by DICOM keyword as text (several values joined by a
    backslash), for a pipeline that must look at something special.
    """

    modality: str
    body_part: str = ""
    series_description: str = ""
    series_number: int | None = None
    manufacturer: str = ""
    kernel: str = ""
    slice_thickness_mm: float | None = None
    view_position: str = ""
    contrast_agent: str = ""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One straight stack of slices as a calibrated array.

    Parameters
    ----------
    array
        ``(z, y, x)`` float32, read-only, in ``unit``. Slices ascend along the slice normal.
    spacing
        mm between voxel centres along ``(z, y, x)``.
    origin
        Patient LPS position in mm of the centre of voxel ``[0, 0, 0]``.
    direction
        3×3; row ``i`` is the unit vector in patient LPS along array axis ``i`` (z, y, x).
    unit
        UCUM code of the values: ``[hnsf'U]`` for CT, ``1`` where nothing is calibrated.
    padding
        Value of voxels that the scanner did not measure, a trace below the least that it did; None
        where it measured all. They have no part in a mean.
    """

    array: NDArray[np.float32]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]
    series: SeriesInfo
    unit: str = "1"
    padding: float | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise ValueError("a volume is a (z, y, x) array of float32")
        if self.direction.shape != (3, 3):
            raise ValueError("the direction of a volume is 3×3")
        self.array.setflags(write=False)
        self.direction.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(z, y, x)``."""
        z, y, x = self.array.shape
        return z, y, x

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel: the product of the three spacings."""
        return float(np.prod(self.spacing))

    def is_measured(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell of each of the volume's ``values`` whether the scanner measured it."""
        if self.padding is None:
            return np.ones(values.shape, dtype=np.bool_)
        return np.asarray(values != np.float32(self.padding))

    def to_patient(self, index_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient LPS points in mm, shape ``(…, 3)``, of voxel indices ``(…, 3)`` in (z, y, x)."""
        steps = np.asarray(index_zyx, dtype=np.float64) * np.asarray(self.spacing)
        points: NDArray[np.float64] = np.asarray(self.origin) + steps @ self.direction
        return points

    def to_index(self, point_lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices (z, y, x), not rounded, of patient LPS points in mm."""
        offset = np.asarray(point_lps, dtype=np.float64) - np.asarray(self.origin)
        steps: NDArray[np.float64] = offset @ np.linalg.inv(self.direction)
        index: NDArray[np.float64] = steps / np.asarray(self.spacing)
        return index

    def tensor(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Give a float32 copy of the array on ``device``, shape ``(z, y, x)``."""
        import torch  # noqa: PLC0415  torch takes seconds to load; most readers of this file need none

        return torch.from_numpy(self.array.copy()).to(device)


class PixelSpacingOrigin(StrEnum):
    """What a 2D pixel spacing means (PS3.3 10.7): in the patient, at the detector, or nothing."""

    CALIBRATED = "calibrated"
    IMAGER = "imager"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One 2D image with its photometric interpretation settled: brighter means more attenuation.

    Parameters
    ----------
    array
        ``(row, column)`` float32, read-only, scaled by the VOI LUT to 0…1.
    pixel_spacing
        mm between (rows, columns), None where the image carries none that can be used.
    laterality
        ``"R"``, ``"L"``, ``"B"`` or empty, as the image says.
    """

    array: NDArray[np.float32]
    pixel_spacing: tuple[float, float] | None
    pixel_spacing_origin: PixelSpacingOrigin
    view_position: str = ""
    laterality: str = ""
    patient_orientation: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.dtype != np.float32:
            raise ValueError("an image is a (row, column) array of float32")
        self.array.setflags(write=False)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """All 2D images of one series, in the order of Instance Number."""

    images: tuple[Image, ...]
    series: SeriesInfo

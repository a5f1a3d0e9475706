"""Other grids over the same field of view.

All grids here cover exactly the box that the source's voxels cover (outer edge to outer edge), so
a voxel's centre is where pixel-centre alignment puts it and a round trip shifts nothing. The
spacing that comes out is the one nearest to what was wanted that divides the box evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dicomnode.sdk import Volume

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


def shape_at(shape: Shape, spacing: Triple, wanted_mm: Triple) -> tuple[Shape, Triple]:
    """Voxels along (z, y, x) nearest to ``wanted_mm`` over the same box, and their true spacing."""
    counts = [
        max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, wanted_mm, strict=True)
    ]
    true = [n * old / count for n, old, count in zip(shape, spacing, counts, strict=True)]
    return (counts[0], counts[1], counts[2]), (true[0], true[1], true[2])


def to_spacing(
    array: torch.Tensor, spacing: Triple, wanted_mm: Triple, *, average: bool = False
) -> tuple[torch.Tensor, Triple]:
    """Resample ``array`` (z, y, x) to about ``wanted_mm``; gives it with its true spacing.

    Trilinear, edges repeated; with ``average`` the mean of what each new voxel covers, which a
    much coarser grid needs to keep thin walls from aliasing.
    """
    shape, true = shape_at((array.shape[0], array.shape[1], array.shape[2]), spacing, wanted_mm)
    return to_shape(array, shape, average=average), true


def to_shape(array: torch.Tensor, shape: Shape, *, average: bool = False) -> torch.Tensor:
    """Resample a float ``array`` (z, y, x) to ``shape`` over the same box."""
    if tuple(array.shape) == shape:
        return array
    batch = array[None, None]
    if average:
        return functional.interpolate(batch, size=shape, mode="area")[0, 0]
    return functional.interpolate(batch, size=shape, mode="trilinear", align_corners=False)[0, 0]


def nearest(array: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Labels or mask ``array`` (z, y, x) on ``shape`` over the same box: the nearest voxel's."""
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        if old != new:
            steps = torch.arange(new, device=array.device, dtype=torch.float64)
            index = torch.floor((steps + 0.5) * (old / new)).long().clamp_(0, old - 1)
            array = array.index_select(axis, index)
    return array


def to_grid_of(volume: Volume, mask: torch.Tensor | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bring a mask over the same box as ``volume`` to its voxels, by nearest neighbour.

    ``mask`` is bool (z, y, x) with the axes of ``volume`` (see `orient.from_lps` for others).
    """
    tensor = (
        mask if isinstance(mask, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(mask))
    )
    back: NDArray[np.bool_] = nearest(tensor, volume.shape).cpu().numpy().astype(np.bool_)
    return back


@dataclass(frozen=True, slots=True)
class Window:
    """A box of cubic voxels somewhere in a field of view.

    ``start_mm`` is the box's outer corner, in mm from the outer corner of the field of view, along
    (z, y, x); it may lie outside. ``step_mm`` is the edge of a voxel.
    """

    start_mm: Triple
    step_mm: float
    shape: Shape

    @classmethod
    def around(cls, centre_mm: Triple, half_mm: float, step_mm: float) -> Window:
        """Give the window whose middle voxel lies at ``centre_mm``, ``half_mm`` to each side."""
        count = 2 * int(np.ceil(half_mm / step_mm)) + 1
        z, y, x = (float(c - count * step_mm / 2) for c in centre_mm)
        return cls((z, y, x), step_mm, (count, count, count))

    def centres_mm(self, axis: int) -> NDArray[np.float64]:
        """Voxel centres along ``axis`` in mm from the outer corner of the field of view."""
        steps = np.arange(self.shape[axis], dtype=np.float64) + 0.5
        centres: NDArray[np.float64] = self.start_mm[axis] + steps * self.step_mm
        return centres

    def sampled(self, array: torch.Tensor, spacing: Triple) -> torch.Tensor:
        """Trilinear values (z, y, x) of ``array``, a grid over the whole field of view."""
        values = array
        picks = []
        for axis, step_mm in enumerate(spacing):
            last = array.shape[axis] - 1
            place = np.clip(self.centres_mm(axis) / step_mm - 0.5, 0, last)
            # Only the part that is asked for is touched: the source may be a thousand slices.
            first, end = int(place.min()), min(int(place.max()) + 2, last + 1)
            values = values.narrow(axis, first, end - first)
            picks.append(torch.from_numpy(place - first).to(array.device))
        for axis, where in enumerate(picks):
            below = where.floor().long()
            above = (below + 1).clamp_(max=values.shape[axis] - 1)
            shape = [1, 1, 1]
            shape[axis] = -1
            weight = (where - below).float().reshape(shape)
            low, high = values.index_select(axis, below), values.index_select(axis, above)
            values = torch.lerp(low, high, weight)
        return values

    def back(
        self, mask: NDArray[np.bool_], shape: Shape, spacing: Triple
    ) -> tuple[NDArray[np.bool_], Shape]:
        """Bring a mask of this window to the grid ``shape``, ``spacing`` by nearest neighbour.

        Gives the box of that grid that lies in the window, and the box's offset.
        """
        picks, offset = [], []
        for axis, step_mm in enumerate(spacing):
            centres_mm = (np.arange(shape[axis]) + 0.5) * step_mm
            index = np.floor((centres_mm - self.start_mm[axis]) / self.step_mm).astype(np.int64)
            inside = np.flatnonzero((index >= 0) & (index < self.shape[axis]))
            picks.append(index[inside])
            offset.append(int(inside[0]) if inside.size else 0)
        return mask[np.ix_(*picks)], (offset[0], offset[1], offset[2])

"""From the planes of a series to one straight stack, or the reason why they are none.

Pure numpy over positions, orientations and spacings (PS3.3 C.7.6.2); knows no files. Every refusal
names the images that are the cause.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.rules.reasons import Reason

Vector = NDArray[np.float64]

# A slice may stand this far from the regular grid, as part of the spacing.
_GRID_TOLERANCE = 0.1
# Two positions closer than this part of the usual spacing are one position, given twice.
_SAME_POSITION = 0.1
_SAME_POSITION_MM = 0.01
# In-plane shift against the first slice, as part of a pixel: more is a tilted gantry.
_SHIFT_TOLERANCE_PIXELS = 0.25
_COSINE_TOLERANCE = 1e-3
_SPACING_TOLERANCE = 1e-3
# Where more of the steps than this are long, the spacing is uneven; else slices are missing.
_MOST_GAPS = 0.25
_NAMED_SLICES = 4


@dataclass(frozen=True, slots=True)
class Plane:
    """One image plane: patient LPS in mm, ``orientation`` row then column direction cosines.

    ``number`` is how a person knows the image: Instance Number, or the frame's number.
    """

    number: int | None
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    rows: int
    columns: int
    frame_of_reference_uid: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes in order along their normal: the grid of a `dicomnode.sdk.Volume`."""

    order: tuple[int, ...]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]


def stack(planes: Sequence[Plane], series: int | None) -> Stack | Reason:
    """Sort planes into one straight, even stack of two or more, or tell why they are none.

    Parameters
    ----------
    planes
        In any order.
    series
        Series Number, for the reason.
    """
    refusal = _same_grid(planes, series)
    if refusal is not None:
        return refusal
    axes = _axes(planes[0])
    if axes is None:
        return _declined("unusable orientation", planes[:1], series)
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    heights = positions @ axes[0]
    order = np.argsort(heights, kind="stable")
    ordered = [planes[index] for index in order]
    refusal = _even(ordered, heights[order], series) or _upright(
        ordered, positions[order], axes, series
    )
    if refusal is not None:
        return refusal
    spacing = (heights[order[-1]] - heights[order[0]]) / (len(planes) - 1)
    pixel_spacing = planes[0].pixel_spacing
    assert pixel_spacing is not None
    return Stack(
        order=tuple(int(index) for index in order),
        spacing=(float(spacing), *pixel_spacing),
        origin=tuple(float(value) for value in positions[order[0]]),  # type: ignore[arg-type]
        direction=axes,
    )


def _axes(plane: Plane) -> NDArray[np.float64] | None:
    """Unit vectors along slice, row index and column index; None if the cosines are no frame."""
    cosines = np.asarray(plane.orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(float(cosines[0] @ cosines[1])) > 0.01:
        return None
    along_columns = cosines[0] / lengths[0]
    along_rows = cosines[1] - (cosines[1] @ along_columns) * along_columns
    along_rows /= np.linalg.norm(along_rows)
    return np.stack([np.cross(along_columns, along_rows), along_rows, along_columns])


def _same_grid(planes: Sequence[Plane], series: int | None) -> Reason | None:
    """Refuse planes without a place, or that differ in anything but their position."""
    placeless = [plane for plane in planes if plane.position is None or plane.orientation is None]
    if placeless:
        return _declined("no position or orientation", placeless, series)
    unscaled = [
        plane for plane in planes if plane.pixel_spacing is None or min(plane.pixel_spacing) <= 0
    ]
    if unscaled:
        return _declined("no pixel spacing", unscaled, series)
    for cause, traits in (
        ("mixed orientation", [_rounded(p.orientation, _COSINE_TOLERANCE) for p in planes]),
        ("mixed matrix", [(p.rows, p.columns) for p in planes]),
        ("mixed pixel spacing", [_rounded(p.pixel_spacing, _SPACING_TOLERANCE) for p in planes]),
        ("mixed frame of reference", [p.frame_of_reference_uid for p in planes]),
    ):
        others = _unlike_most(traits)
        if others:
            return _declined(cause, [planes[index] for index in others], series)
    return None


def _rounded(values: Sequence[float] | None, tolerance: float) -> Hashable:
    return tuple(values or ()), tolerance


def _unlike_most(traits: Sequence[Hashable]) -> list[int]:
    """Indices of those that differ from the most frequent trait; pairs of numbers by tolerance."""
    usual = Counter(traits).most_common(1)[0][0]
    return [index for index, trait in enumerate(traits) if not _alike(trait, usual)]


def _alike(one: Hashable, other: Hashable) -> bool:
    if one == other:
        return True
    if not (isinstance(one, tuple) and isinstance(other, tuple) and isinstance(one[0], tuple)):
        return False
    return bool(np.allclose(one[0], other[0], rtol=one[1], atol=one[1]))


def _even(ordered: Sequence[Plane], heights: Vector, series: int | None) -> Reason | None:
    """Refuse doubled positions, missing slices and uneven steps."""
    steps = np.diff(heights)
    distinct = steps[steps > _SAME_POSITION_MM]
    usual = float(np.median(distinct)) if distinct.size else 0.0
    doubled = np.flatnonzero(steps <= max(_SAME_POSITION * usual, _SAME_POSITION_MM))
    if doubled.size:
        pairs = sorted({*doubled.tolist(), *(doubled + 1).tolist()})
        return _declined("doubled positions", [ordered[index] for index in pairs], series)
    long = np.flatnonzero(steps > 1.5 * usual)
    if 0 < long.size <= max(1, _MOST_GAPS * steps.size) and steps.size > long.size:
        return _gap(ordered, steps, usual, long, series)
    regular = np.linspace(heights[0], heights[-1], heights.size)
    spacing = (heights[-1] - heights[0]) / steps.size
    astray = np.flatnonzero(np.abs(heights - regular) > _GRID_TOLERANCE * spacing)
    if astray.size:
        return _declined("uneven spacing", [ordered[int(index)] for index in astray], series)
    return None


def _gap(
    ordered: Sequence[Plane],
    steps: Vector,
    usual: float,
    long: NDArray[np.intp],
    series: int | None,
) -> Reason:
    missing = int(sum(max(round(float(steps[index]) / usual) - 1, 1) for index in long))
    first = int(long[0])
    before, after = ordered[first], ordered[first + 1]
    assert before.position is not None
    assert after.position is not None
    return Reason(
        "declined.gap",
        {
            "n": missing,
            "z": round((before.position[2] + after.position[2]) / 2, 1),
            "series": series,
            "slices": f"between {named([before])} and {named([after])}",
            "places": int(long.size),
        },
    )


def _upright(
    ordered: Sequence[Plane], positions: Vector, axes: NDArray[np.float64], series: int | None
) -> Reason | None:
    """Refuse a stack that leans: positions that are not above each other along the normal."""
    pixel_spacing = ordered[0].pixel_spacing
    assert pixel_spacing is not None
    offsets = positions - positions[0]
    shifts = np.linalg.norm(offsets @ axes[1:].T, axis=1)
    astray = np.flatnonzero(shifts > _SHIFT_TOLERANCE_PIXELS * min(pixel_spacing))
    if not astray.size:
        return None
    last = int(astray[-1])
    angle = float(np.degrees(np.arctan2(shifts[last], abs(float(offsets[last] @ axes[0])))))
    cause = f"tilted gantry, {angle:.1f} degrees"
    return _declined(cause, [ordered[int(index)] for index in astray], series)


def _declined(cause: str, planes: Sequence[Plane], series: int | None) -> Reason:
    return Reason(
        "declined.geometry",
        {"cause": cause, "series": series, "n": len(planes), "slices": named(planes)},
    )


def named(planes: Sequence[Plane]) -> str:
    """Name planes to a person by number and z, a few of them, then how many more there are."""
    words = [_named(plane) for plane in planes[:_NAMED_SLICES]]
    left = len(planes) - len(words)
    return ", ".join(words) + (f" and {left} more" if left else "")


def _named(plane: Plane) -> str:
    number = "without number" if plane.number is None else str(plane.number)
    if plane.position is None:
        return f"image {number}"
    return f"image {number} (z = {plane.position[2]:g} mm)"

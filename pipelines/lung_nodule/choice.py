"""Which segmented candidates are reported: large enough, nodule-like, one for each lesion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging import components, measure
from pipelines.lung_nodule.lesion import Lesion

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a lesion must be to be reported; the shape limits keep vessels and the wall out."""

    minimum_diameter_mm: float
    maximum_findings: int
    largest_elongation: float
    smallest_in_lung: float
    lowest_score: float


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Lesions to report, the highest score first, and how many more there would have been."""

    lesions: tuple[Lesion, ...]
    left_out: int


def chosen_from(
    lesions: Iterable[Lesion], shape: Shape, pixel_spacing: tuple[float, float], limits: Limits
) -> Chosen:
    """Choose from ``lesions`` (on the grid ``shape``); masks that come out never overlap."""
    fitting = [lesion for lesion in lesions if _is_nodule_like(lesion, limits)]
    fitting.sort(key=lambda lesion: (-lesion.score, lesion.offset))
    taken = np.zeros(shape, dtype=np.bool_)
    kept: list[Lesion] = []
    for lesion in fitting:
        free = _without(lesion, taken)
        if free is None:
            continue
        if measure.axes_of(free.mask, pixel_spacing).long_mm < limits.minimum_diameter_mm:
            continue
        taken[_box(free)] |= free.mask
        kept.append(free)
    return Chosen(
        tuple(kept[: limits.maximum_findings]), max(0, len(kept) - limits.maximum_findings)
    )


def _is_nodule_like(lesion: Lesion, limits: Limits) -> bool:
    return (
        lesion.elongation <= limits.largest_elongation
        and lesion.in_lung >= limits.smallest_in_lung
        and lesion.score >= limits.lowest_score
    )


def _without(lesion: Lesion, taken: NDArray[np.bool_]) -> Lesion | None:
    """Take what better lesions hold out of ``lesion``; None where it is the same lesion again."""
    overlap = lesion.mask & taken[_box(lesion)]
    shared = int(np.count_nonzero(overlap))
    if shared == 0:
        return lesion
    if shared > 0.1 * np.count_nonzero(lesion.mask):
        return None
    return replace(lesion, mask=components.largest(lesion.mask & ~overlap))


def _box(lesion: Lesion) -> tuple[slice, slice, slice]:
    z, y, x = (slice(o, o + n) for o, n in zip(lesion.offset, lesion.mask.shape, strict=True))
    return z, y, x

"""Nodules of known size: uneven balls, placed in free lung, beside a vessel or at the pleura."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.anatomy import Anatomy
from dicomnode.imaging.phantoms.scene import Array, Grid, Mask, mix, occupancy_of
from dicomnode.imaging.phantoms.vessels import VesselTree
from dicomnode.sdk import Laterality

TRIES = 4000
APART_MM = 18.0


class NodulePlace(StrEnum):
    """What a nodule touches."""

    FREE = "free"
    VESSEL = "vessel"
    PLEURA = "pleura"


@dataclass(frozen=True, slots=True)
class NoduleSpec:
    """A nodule to draw: ``diameter_mm`` of the ball of equal volume, and the side it lies on."""

    diameter_mm: float
    place: NodulePlace = NodulePlace.FREE
    side: Laterality = Laterality.RIGHT
    density_hu: float = 30.0


@dataclass(frozen=True, slots=True)
class PhantomNodule:
    """A nodule that was drawn: centre (x, y, z) in patient LPS mm, size, side and place."""

    centre_lps: tuple[float, float, float]
    diameter_mm: float
    volume_mm3: float
    laterality: Laterality
    place: NodulePlace


def draw_nodules(
    grid: Grid,
    anatomy: Anatomy,
    trees: tuple[VesselTree, VesselTree],
    specs: tuple[NoduleSpec, ...],
    chance: np.random.Generator,
) -> tuple[PhantomNodule, ...]:
    """Draw each of ``specs`` into the image, largest first; ``trees`` are right and left.

    Raises
    ------
    ValueError
        A nodule finds no room in its lung.
    """
    drawn: list[PhantomNodule] = []
    for spec in sorted(specs, key=lambda spec: -spec.diameter_mm):
        is_right = spec.side is Laterality.RIGHT
        tree = trees[0] if is_right else trees[1]
        for centre in _places(grid, anatomy, tree, spec, chance):
            taken = [(n.centre_lps, (n.diameter_mm + spec.diameter_mm) / 2) for n in drawn]
            if all(np.linalg.norm(centre - c) > reach + APART_MM for c, reach in taken):
                drawn.append(_draw(grid, anatomy, spec, centre, chance))
                break
        else:
            raise ValueError(
                f"no room for a nodule of {spec.diameter_mm} mm in the {spec.side} lung"
            )
    return tuple(drawn)


def _places(
    grid: Grid,
    anatomy: Anatomy,
    tree: VesselTree,
    spec: NoduleSpec,
    chance: np.random.Generator,
) -> Iterator[NDArray[np.float64]]:
    """Centres (x, y, z) that suit ``spec``, in random order."""
    lung = anatomy.lung(spec.side is Laterality.RIGHT)
    radius = spec.diameter_mm / 2
    starts = grid.points(lung, TRIES, chance)
    thick = np.flatnonzero((tree.radii_mm > 0.9) & (tree.radii_mm < 2.2))
    for start in starts:
        if spec.place is NodulePlace.PLEURA:
            centre = _at_pleura(grid, lung, start, radius)
            if centre is not None:
                yield centre
        elif spec.place is NodulePlace.VESSEL:
            node = int(chance.choice(thick))
            way = tree.points[node] - tree.points[tree.parents[node]]
            aside = np.cross(way, chance.normal(size=3))
            aside /= max(float(np.linalg.norm(aside)), 1e-6)
            centre = tree.points[node] + aside * (radius + 0.6 * float(tree.radii_mm[node]))
            if _is_inside(grid, lung, centre, radius + 5.0):
                yield centre
        elif _is_inside(grid, lung, start, radius + 6.0) and _is_free(tree, start, radius + 2.0):
            yield start


def _is_inside(grid: Grid, lung: Mask, centre: NDArray[np.float64], reach_mm: float) -> bool:
    """Tell whether a ball of ``reach_mm`` lies in ``lung``, by 100 points of its surface."""
    return bool(np.all(grid.contains(lung, centre + _directions(100) * reach_mm)))


def _is_free(tree: VesselTree, centre: NDArray[np.float64], reach_mm: float) -> bool:
    """Tell whether no thick branch comes within ``reach_mm`` of ``centre``.

    No place for a mass is without twigs: what counts as thick grows with the size.
    """
    thick = np.flatnonzero(tree.radii_mm > max(0.8, 0.12 * reach_mm))
    ends, starts = tree.points[thick], tree.points[tree.parents[thick]]
    shares = np.linspace(0.0, 1.0, 9)[:, None, None]
    along = starts + shares * (ends - starts)
    return bool(np.all(np.linalg.norm(along - centre, axis=-1) > reach_mm))


def _at_pleura(
    grid: Grid, lung: Mask, start: NDArray[np.float64], radius_mm: float
) -> NDArray[np.float64] | None:
    """The centre that touches the outer wall beside ``start``, None where the wall is too near."""
    away = start * np.asarray([1.0, 1.0, 0.0])
    away /= max(float(np.linalg.norm(away)), 1e-6)
    steps = start + away * np.arange(0.0, 120.0, 0.5)[:, None]
    outside = np.flatnonzero(~grid.contains(lung, steps))
    # Only the chest wall will do: a way that ends near the middle met the heart or the spine.
    if outside.size == 0 or abs(steps[outside[0]][0]) < 60.0:
        return None
    centre: NDArray[np.float64] = steps[outside[0]] - away * (radius_mm - 0.3)
    beside = centre + _directions(60) * (radius_mm + 2.0)
    is_inner = (beside - centre) @ away < 0.4 * radius_mm
    return centre if np.all(grid.contains(lung, beside[is_inner])) else None


def _directions(count: int) -> NDArray[np.float64]:
    """``(count, 3)`` unit vectors, spread evenly (a Fibonacci spiral)."""
    turn = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0))
    height = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    round_ = np.sqrt(1.0 - height * height)
    return np.stack([round_ * np.cos(turn), round_ * np.sin(turn), height], axis=1)


def _draw(
    grid: Grid,
    anatomy: Anatomy,
    spec: NoduleSpec,
    centre: NDArray[np.float64],
    chance: np.random.Generator,
) -> PhantomNodule:
    """Mix one nodule into the image where it is denser than what is there; give its truth."""
    radius = spec.diameter_mm / 2
    bumps = _directions(48)[chance.permutation(48)[:8]].astype(np.float32)
    heights = chance.uniform(-0.14, 0.14, 8).astype(np.float32)

    def swelling(unit: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(1.0 + np.exp((unit @ bumps.T - 1.0) / 0.12) @ heights)

    # Scaled so that the uneven body has exactly the volume of the ball of the stated diameter.
    mean_cube = float(np.mean(swelling(_directions(2000).astype(np.float32)) ** 3))
    base = radius / mean_cube ** (1 / 3)

    def inside(z: Array, y: Array, x: Array) -> Mask:
        parts = np.broadcast_arrays(x - centre[0], y - centre[1], z - centre[2])
        offset = np.stack(parts, axis=-1).astype(np.float32)
        distance = np.linalg.norm(offset, axis=-1)
        unit = offset / np.maximum(distance, 1e-3)[..., None]
        return np.asarray(distance <= base * swelling(unit))

    reach = 1.35 * radius + max(grid.spacing)
    box = grid.box_round(centre - reach, centre + reach)
    lung = anatomy.lung(spec.side is Laterality.RIGHT)
    share = occupancy_of(grid, box, inside, max(0.6, radius / 12)) * lung[box]
    denser = anatomy.image[box] < spec.density_hu
    mix(anatomy.image, box, share * denser, spec.density_hu)
    return PhantomNodule(
        centre_lps=(float(centre[0]), float(centre[1]), float(centre[2])),
        diameter_mm=spec.diameter_mm,
        volume_mm3=float(share.sum() * np.prod(grid.spacing)),
        laterality=spec.side,
        place=spec.place,
    )

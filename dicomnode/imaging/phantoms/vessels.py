"""A branching tree that fills a lung, thick at the hilum and thin at the pleura."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.phantoms.scene import Array, Grid, Mask, capsule, mix

THINNEST_MM = 0.8
# Murray's law says 3; 2.7 is what casts of the pulmonary arteries show.
BRANCHING_EXPONENT = 2.7


@dataclass(frozen=True, slots=True)
class VesselTree:
    """Nodes of a tree; node 0 is the root.

    ``points`` is ``(n, 3)`` (x, y, z) in mm, ``parents`` ``(n,)`` the node that each one hangs on
    (its own number for the root), ``radii_mm`` ``(n,)`` the vessel between a node and its parent.
    """

    points: NDArray[np.float64]
    parents: NDArray[np.int64]
    radii_mm: NDArray[np.float64]


def grow_tree(
    grid: Grid, lung: Mask, root: NDArray[np.float64], ends: int, chance: np.random.Generator
) -> VesselTree:
    """Join ``ends`` random points of ``lung`` to ``root`` by short branches.

    Each point hangs on the node that makes its own way plus a part of the way to the root
    shortest, nearest points first; so trunks form near the root.
    """
    targets = grid.points(lung, ends, chance)
    for step in np.vstack([np.eye(3), -np.eye(3)]) * 5.0:
        targets = targets[grid.contains(lung, targets + step)]
    targets = targets[np.argsort(np.linalg.norm(targets - root, axis=1), kind="stable")]
    points, parents, ways = [root], [0], [0.0]
    for target in targets:
        away = np.linalg.norm(np.asarray(points) - target, axis=1)
        best = int(np.argmin(away + 0.45 * np.asarray(ways)))
        bend = (
            points[best] + 0.55 * (target - points[best]) + chance.normal(0.0, 0.06, 3) * away[best]
        )
        for place, parent in ((bend, best), (target, len(points))):
            ways.append(ways[parent] + float(np.linalg.norm(place - points[parent])))
            points.append(place)
            parents.append(parent)
    return VesselTree(np.asarray(points), np.asarray(parents), _radii(np.asarray(parents)))


def _radii(parents: NDArray[np.int64]) -> NDArray[np.float64]:
    """Radius in mm of each branch by the number of ends that it feeds."""
    leads_on = np.zeros(len(parents), dtype=bool)
    leads_on[parents[1:]] = True
    ends = np.where(leads_on, 0, 1)
    for node in range(len(parents) - 1, 0, -1):
        ends[parents[node]] += ends[node]
    radii: NDArray[np.float64] = THINNEST_MM * ends ** (1.0 / BRANCHING_EXPONENT)
    return radii


def draw_tree(image: Array, grid: Grid, tree: VesselTree, lung: Mask, value_hu: float) -> None:
    """Mix the tree into ``image`` within ``lung``, in place."""
    for node in range(1, len(tree.points)):
        start, end = tree.points[tree.parents[node]], tree.points[node]
        box, share = capsule(grid, start, end, float(tree.radii_mm[node]))
        mix(image, box, share * lung[box], value_hu)

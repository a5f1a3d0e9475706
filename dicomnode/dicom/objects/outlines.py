"""Closed polygons for viewers: around a lesion on one slice, in image coordinates (PS3.3 C.18.6).

The convex hull is the plain choice. Where it would claim far more than the lesion (a crescent of
fluid, a lesion in two parts) the pixel edges are traced instead, so that what a radiologist sees
is what was segmented.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_LOOSEST: Final = 2.0  # hull area over lesion area; above that the edges are traced
_MOST_POINTS: Final = 8000  # an FL element of Explicit VR ends at 65,534 bytes (PS3.5 7.1.2)
_FEWEST_CORNERS: Final = 3


def outline(mask: NDArray[np.bool_], hull: Points) -> Points:
    """Give the closed polygon, ``(n, 2)`` in (column, row), that shows a 2D ``mask`` best.

    ``hull`` is the convex hull of the mask's pixel corners, open or closed.
    """
    closed = close(hull)
    if area(closed) <= _LOOSEST * int(mask.sum()):
        return closed
    traced = trace(mask)
    return traced if len(traced) <= _MOST_POINTS else closed


def close(points: Points) -> Points:
    """Repeat the first point at the end where it does not stand there already."""
    if len(points) > _FEWEST_CORNERS and np.array_equal(points[0], points[-1]):
        return points
    return np.concatenate([points, points[:1]])


def area(closed: Points) -> float:
    """Area of a closed polygon in square pixels."""
    x, y = closed[:, 0], closed[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2


def trace(mask: NDArray[np.bool_]) -> Points:
    """Give one closed polygon along all pixel edges of ``mask``, parts and holes joined by bridges.

    A bridge is walked there and back, so it bounds nothing under the even-odd rule.
    """
    loops = _loops(_edges(mask))
    start = loops[0][:1]
    return np.array(loops[0] + [p for loop in loops[1:] for p in loop + start], dtype=np.float64)


def _edges(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Directed pixel edges (column, row), the mask on their right hand."""
    padded = np.pad(mask, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    sides = (
        ((-1, 0), (0, 0), (1, 0)),  # above: walked to the right
        ((0, 1), (1, 0), (1, 1)),  # right: walked down
        ((1, 0), (1, 1), (0, 1)),  # below: walked to the left
        ((0, -1), (0, 1), (0, 0)),  # left: walked up
    )
    for (down, right), begin, end in sides:
        beside = np.roll(padded, (-down, -right), (0, 1))[1:-1, 1:-1]
        for row, column in np.argwhere(mask & ~beside).tolist():
            point = (column + begin[0], row + begin[1])
            edges.setdefault(point, []).append((column + end[0], row + end[1]))
    return edges


def _loops(edges: dict[tuple[int, int], list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """Closed walks that use every edge once, longest first, corners only."""
    loops = []
    for start in sorted(edges):
        while edges[start]:
            loop = [start]
            while not (len(loop) > 1 and loop[-1] == start):
                loop.append(edges[loop[-1]].pop())
            loops.append(_corners(loop))
    return sorted(loops, key=len, reverse=True)


def _corners(loop: list[tuple[int, int]]) -> list[tuple[int, int]]:
    turns = [
        here
        for before, here, after in zip(loop, loop[1:], loop[2:], strict=False)
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]
    return [loop[0], *turns, loop[-1]]

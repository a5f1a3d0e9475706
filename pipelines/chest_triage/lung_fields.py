"""Where the two lung fields lie in a frontal chest radiograph, by fitting a shape of two lungs.

A dense lung has no dark field of its own that a threshold could find. So both fields are fitted at
once as one shape of fixed form, of which only place, width and height are free: a white lung is
then measured where the lung should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from torch.nn import functional

GRID = 64
CENTRES_X = (0.42, 0.46, 0.5, 0.54, 0.58)
CENTRES_Y = (0.36, 0.41, 0.46, 0.51, 0.56, 0.61)
WIDTHS = (0.60, 0.68, 0.76, 0.84, 0.92)
HEIGHTS = (0.48, 0.56, 0.64, 0.72, 0.80)


@dataclass(frozen=True, slots=True)
class LungFields:
    """Both fields in fractions (0…1) of the image's width and height, and how well they fit.

    ``contrast`` is the step in brightness from the fields to what is around them, in the image's
    0…1. The patient's right lung is at the left edge of a frontal image.
    """

    centre_x: float
    centre_y: float
    width: float
    height: float
    contrast: float

    def coordinates(self, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give u, v of each pixel ``(rows, columns)``: −1…1 over the fields' box, v downwards."""
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        u = (x - self.centre_x) / (self.width / 2)
        v = (y - self.centre_y) / (self.height / 2)
        return u[None, :].expand(rows, columns), v[:, None].expand(rows, columns)


def prepared(image: torch.Tensor, size: int) -> torch.Tensor:
    """Give ``image`` (rows, columns) as size × size, its 1st to 99th percentile scaled to 0…1."""
    small = functional.interpolate(image[None, None], size=(size, size), mode="area")[0, 0]
    low, high = torch.quantile(small, torch.tensor([0.01, 0.99], device=small.device))
    scaled: torch.Tensor = (small - low) / (high - low).clamp_min(1e-6)
    return scaled.clamp(0.0, 1.0)


def without_borders(image: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of ``image`` inside black or white borders without any structure."""
    parts = []
    for axis in (0, 1):
        lines = image if axis == 0 else image.T
        spread = torch.quantile(lines, 0.9, dim=1) - torch.quantile(lines, 0.1, dim=1)
        lively = torch.nonzero(spread > 0.04).flatten()
        if lively.numel() < 0.4 * len(lines):
            parts.append(slice(0, len(lines)))
        else:
            parts.append(slice(int(lively[0]), int(lively[-1]) + 1))
    return parts[0], parts[1]


def in_field(u: torch.Tensor, v: torch.Tensor, shrink: float = 1.0) -> torch.Tensor:
    """Tell which points lie in a lung field: two half ellipses with a narrow gap, flat below."""
    side = u.abs()
    # The apex is narrow and near the spine; the base is wide and reaches further down outside.
    middle = 0.55 + 0.05 * v
    half = (0.37 - 0.10 * (-v).clamp_min(0.0) ** 2) * shrink
    base = 0.72 + 0.28 * (side - 0.2)
    shape = ((side - middle) / half) ** 2 + ((v / 1.0).abs() ** 3.0) * 0.9
    return (shape < 1.0) & (v < base * shrink)


def find_lung_fields(image: torch.Tensor) -> LungFields:
    """Fit both fields to ``image`` (rows, columns), bright where dense, on the image's device.

    All shapes of the search are tried at once, as one matrix product.
    """
    small = prepared(image, GRID)
    shapes, weights = _search()
    contrast = weights.to(image.device) @ small.flatten()
    # A larger shape of equal contrast explains more of the image.
    sizes = torch.tensor([(s.width * s.height) ** 0.35 for s in shapes], device=image.device)
    best = int(torch.argmax(contrast * sizes))
    found = shapes[best]
    return LungFields(
        found.centre_x, found.centre_y, found.width, found.height, float(contrast[best])
    )


@cache
def _search() -> tuple[tuple[LungFields, ...], torch.Tensor]:
    """All shapes that are tried, and their weights ``(shapes, pixels)``."""
    shapes = tuple(
        LungFields(cx, cy, w, h, 0.0)
        for cx, cy, w, h in product(CENTRES_X, CENTRES_Y, WIDTHS, HEIGHTS)
        if cy - h / 2 > -0.04 and cy + h / 2 < 1.06 and w / 2 < min(cx, 1 - cx) + 0.04
    )
    return shapes, torch.stack([_weights(shape).flatten() for shape in shapes])


def _weights(shape: LungFields) -> torch.Tensor:
    """Weights (rows, columns) that subtract the mean inside the fields from the mean around."""
    u, v = shape.coordinates(GRID, GRID)
    inside = in_field(u, v)
    between = (u.abs() < 0.14) & (v.abs() < 1.0)
    below = (v >= 0.95) & (v < 1.25) & (u.abs() < 0.9)
    wall = (u.abs() > 0.97) & (u.abs() < 1.15) & (v.abs() < 0.8)
    weights = -inside.float() / inside.sum().clamp_min(1)
    for part, share in ((between, 0.45), (below, 0.25), (wall, 0.3)):
        weights += share * part.float() / part.sum().clamp_min(1)
    return weights

"""Numbers of a frontal radiograph: how dense each zone of each lung is, and which spots are round.

Brightness is told in the image's own scale: 0 is the darkest part of the lung fields, 1 the middle
of the chest. So exposure and display drop out; what is left is not a physical density.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from pipelines.chest_triage.lung_fields import LungFields, find_lung_fields, in_field, prepared

SIZE = 160
# Upper, middle and lower zone between these heights of the fields' box.
ZONES = ((-0.80, -0.33), (-0.33, 0.20), (0.20, 0.75))
# In pixels of 160; about 6 to 11 mm on an adult, for spots of 15 to 30 mm.
SPOT_SIGMAS = (2.5, 3.5, 5.0)
ROUNDNESS = 0.5


@dataclass(frozen=True, slots=True)
class Spot:
    """A round bright spot: centre as fractions (0…1) of the image, strength, radius likewise."""

    x: float
    y: float
    radius: float
    strength: float


@dataclass(frozen=True, slots=True)
class FieldMeasures:
    """What was measured in one radiograph.

    ``zones`` holds the brightness of (right, left) × (upper, middle, lower) zones, ``spots`` the
    round spots within the fields, strongest first.
    """

    fields: LungFields
    zones: tuple[tuple[float, float, float], tuple[float, float, float]]
    spots: tuple[Spot, ...]

    def differences(self) -> tuple[float, float, float]:
        """Right minus left, for the upper, middle and lower zone."""
        upper, middle, lower = (r - left for r, left in zip(*self.zones, strict=True))
        return upper, middle, lower


def measure_fields(image: torch.Tensor) -> FieldMeasures:
    """Measure ``image`` (rows, columns): bright where dense, the right lung at the left edge."""
    fields = find_lung_fields(image)
    small = prepared(image, SIZE)
    u, v = (part.to(small.device) for part in fields.coordinates(SIZE, SIZE))
    inside = in_field(u, v, 0.92)
    if int(inside.sum()) < 0.05 * SIZE * SIZE:
        return FieldMeasures(fields, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ())
    air = torch.quantile(small[inside], 0.05)
    middle = small[(u.abs() < 0.14) & (v > -0.3) & (v < 0.9)].median()
    scaled = (small - air) / (middle - air).clamp_min(0.1)
    right, left = (_zones(scaled, inside & (u * side > 0), v) for side in (-1.0, 1.0))
    # The hilum is round and bright in everybody: spots are looked for beside it.
    spots = _spots(scaled, in_field(u, v, 0.95) & (u.abs() > 0.28))
    return FieldMeasures(fields, (right, left), spots)


def _zones(scaled: torch.Tensor, side: torch.Tensor, v: torch.Tensor) -> tuple[float, float, float]:
    values = []
    for above, below in ZONES:
        zone = scaled[side & (v >= above) & (v < below)]
        values.append(float(zone.median()) if zone.numel() else 0.0)
    return values[0], values[1], values[2]


def _spots(scaled: torch.Tensor, allowed: torch.Tensor) -> tuple[Spot, ...]:
    """Local maxima of the weaker of both curvatures: high on a spot, near zero on a rib."""
    strength = torch.zeros_like(scaled)
    sigma_at = torch.zeros_like(scaled)
    for sigma in SPOT_SIGMAS:
        weak = _weaker_curvature(_smooth(scaled, sigma) * sigma**2)
        sigma_at = torch.where(weak > strength, torch.full_like(sigma_at, sigma), sigma_at)
        strength = torch.maximum(strength, weak)
    highest = functional.max_pool2d(strength[None, None], 7, stride=1, padding=3)[0, 0]
    peaks = torch.nonzero((strength == highest) & allowed & (strength > 0)).tolist()
    spots = [
        Spot(
            x=(column + 0.5) / SIZE,
            y=(row + 0.5) / SIZE,
            radius=float(sigma_at[row, column]) * 2**0.5 / SIZE,
            strength=float(strength[row, column]),
        )
        for row, column in peaks
    ]
    return tuple(sorted(spots, key=lambda spot: (-spot.strength, spot.y, spot.x)))


def _weaker_curvature(surface: torch.Tensor) -> torch.Tensor:
    """The smaller downward curvature of ``surface``, 0 where it is not round or not a hill."""
    along_y, along_x, across = (torch.zeros_like(surface) for _ in range(3))
    along_y[1:-1] = surface[2:] + surface[:-2] - 2 * surface[1:-1]
    along_x[:, 1:-1] = surface[:, 2:] + surface[:, :-2] - 2 * surface[:, 1:-1]
    across[1:-1, 1:-1] = (
        surface[2:, 2:] + surface[:-2, :-2] - surface[2:, :-2] - surface[:-2, 2:]
    ) / 4
    mean = (along_x + along_y) / 2
    spread = (((along_x - along_y) / 2) ** 2 + across**2).sqrt()
    weak, strong = -(mean + spread), -(mean - spread)
    is_round = (weak > 0) & (weak > ROUNDNESS * strong)
    return torch.where(is_round, weak, torch.zeros_like(weak))


def _smooth(image: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma) + 1
    steps = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = weights / weights.sum()
    wide = functional.pad(image[None, None], (reach, reach, reach, reach), mode="replicate")
    across = functional.conv2d(wide, weights[None, None, None, :])
    return functional.conv2d(across, weights[None, None, :, None])[0, 0]

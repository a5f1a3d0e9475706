"""Where to look: bright blobs of all sizes in the lungs, the roundest and strongest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dicomnode.imaging import filters, morphology, resample

Triple = tuple[float, float, float]

CLIP_HU = (-1000.0, 200.0)
LUNG_HU = -850.0
FINE_MM: Triple = (1.0, 1.0, 1.0)
COARSE_MM: Triple = (2.0, 2.0, 2.0)
# Scales σ of the search in mm: a ball of diameter 2√3 σ answers most (5 … 33 mm, and above).
FINE_SIGMAS_MM = (1.5, 2.2, 3.2)
COARSE_SIGMAS_MM = (4.6, 6.6, 9.5)
WEAKEST_HU = 25.0
# 24 million float32 voxels are a chest at 1 mm; four such arrays live at once.
SLAB_VOXELS = 24_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A blob: centre in mm from the outer corner of the field of view, scale, and rank value."""

    centre_mm: Triple
    sigma_mm: float
    response_hu: float
    roundness: float

    @property
    def strength(self) -> float:
        """What candidates are ranked by: blob response, less where it is a tube or a sheet."""
        return self.response_hu * self.roundness

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball that answers most at this scale."""
        return 2 * float(np.sqrt(3.0)) * self.sigma_mm


@dataclass(frozen=True, slots=True)
class SearchArea:
    """HU and the closed lungs over the same field of view, each on a grid of its own.

    ``lungs`` and ``wide_lungs`` are float 0…1, the lungs closed as small and as large lesions at
    the pleura need it.
    """

    hu: torch.Tensor
    spacing: Triple
    lungs: torch.Tensor
    wide_lungs: torch.Tensor
    lungs_spacing: Triple

    def closed_for(self, sigma_mm: float) -> torch.Tensor:
        """Give the closed lungs in which a blob of this scale may lie."""
        return self.wide_lungs if sigma_mm in COARSE_SIGMAS_MM else self.lungs


def found_in(area: SearchArea, reduction: int, report: Callable[[float], None]) -> list[Candidate]:
    """Give all candidates, the strongest first, one for each place.

    ``reduction`` cuts the slabs that are filtered at once; the result is the same but for the last
    bits of the filter.
    """
    found: list[Candidate] = []
    grids = ((FINE_MM, FINE_SIGMAS_MM), (COARSE_MM, COARSE_SIGMAS_MM))
    steps, done = sum(len(sigmas) for _, sigmas in grids), 0
    for wanted_mm, sigmas_mm in grids:
        hu, lungs, spacing = _on_grid(area, wanted_mm, sigmas_mm[0])
        report((done + 0.3) / steps)
        for sigma_mm in sigmas_mm:
            for slab in _slabs(lungs, sigma_mm, spacing, reduction):
                found += _blobs(hu, lungs, slab, sigma_mm, spacing)
                report((done + 0.5) / steps)
            done += 1
            report(done / steps)
    return merged(found)


def _on_grid(
    area: SearchArea, wanted_mm: Triple, sigma_mm: float
) -> tuple[torch.Tensor, torch.Tensor, Triple]:
    """HU, with all that is not lung faded to lung, and the lungs, on the grid of a search.

    Without the fading a small nodule at the pleura is no blob, only a swelling of the wall.
    """
    hu, spacing = resample.to_spacing(
        area.hu.clamp(*CLIP_HU), area.spacing, wanted_mm, average=wanted_mm is COARSE_MM
    )
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    lungs = resample.to_shape(area.closed_for(sigma_mm), shape)
    return hu.sub_(LUNG_HU).mul_(lungs).add_(LUNG_HU), lungs > 0.5, spacing


@dataclass(frozen=True, slots=True)
class _Slab:
    """A box to filter, and the slices of it whose maxima count."""

    box: tuple[slice, slice, slice]
    first: int
    last: int


def _slabs(
    lungs: torch.Tensor, sigma_mm: float, spacing: Triple, reduction: int
) -> Iterator[_Slab]:
    """Boxes around the lungs, cut along z as memory wants, overlapping for the filter."""
    reach = [int(np.ceil(filters.REACH * sigma_mm / step_mm)) + 3 for step_mm in spacing]
    inside = lungs.cpu().numpy()
    used = morphology.box_of(inside)
    box = morphology.box_of(inside, (reach[0], reach[1], reach[2]))
    area = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
    height = max(8, int(SLAB_VOXELS / reduction / area))
    for first in range(used[0].start, used[0].stop, height):
        last = min(first + height, used[0].stop)
        z = slice(max(0, first - reach[0]), last + reach[0])
        yield _Slab((z, box[1], box[2]), first, last)


def _blobs(
    hu: torch.Tensor, lungs: torch.Tensor, slab: _Slab, sigma_mm: float, spacing: Triple
) -> list[Candidate]:
    smooth = filters.gaussian(hu[slab.box].contiguous(), sigma_mm, spacing)
    response = filters.blob_response(smooth, sigma_mm, spacing)
    points = filters.local_maxima(response, lungs[slab.box], WEAKEST_HU)
    start = np.array([side.start for side in slab.box])
    z = points[:, 0] + int(start[0])
    points = points[(z >= slab.first) & (z < slab.last)]
    values = response[points[:, 0], points[:, 1], points[:, 2]].cpu().numpy()
    index = points.cpu().numpy()
    eigenvalues = filters.hessian_eigenvalues(smooth, index, spacing)
    # A bright blob curves down in all directions; one that does not is the fork of two vessels.
    is_blob: NDArray[np.bool_] = np.all(eigenvalues < 0, axis=1)
    ratio = np.abs(eigenvalues[:, 0]) / np.maximum(np.abs(eigenvalues[:, 2]), 1e-9)
    centres_mm: NDArray[np.float64] = (index + start + 0.5) * np.asarray(spacing)
    return [
        Candidate((float(c[0]), float(c[1]), float(c[2])), sigma_mm, float(v), float(r))
        for c, v, r, good in zip(centres_mm, values, ratio, is_blob, strict=True)
        if good
    ]


def merged(candidates: list[Candidate]) -> list[Candidate]:
    """The strongest candidate of each place: others within max(3 mm, 0.8 σ) of it are dropped."""
    order = sorted(candidates, key=lambda c: (-c.strength, c.centre_mm, c.sigma_mm))
    kept: list[Candidate] = []
    centres = np.zeros((0, 3))
    for candidate in order:
        reach_mm = max(3.0, 0.8 * candidate.sigma_mm)
        distances = np.linalg.norm(centres - np.asarray(candidate.centre_mm), axis=1)
        if not (distances < reach_mm).any():
            kept.append(candidate)
            centres = np.vstack([centres, candidate.centre_mm])
    return kept

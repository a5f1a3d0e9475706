"""One lesion around a candidate: its mask without vessels and wall, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging import components, morphology
from dicomnode.imaging.resample import Shape, Window
from pipelines.lung_nodule.candidates import Candidate, SearchArea

Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]

# Half between the densest and the thinnest lesion and lung that are told apart.
THRESHOLD_HU = (-650.0, -250.0)
CORE_HU = (-550.0, 100.0)
LUNG_HU = (-950.0, -600.0)
# A vessel thicker than this is not cut from what it enters.
THICKEST_CUT_MM = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """A segmented candidate: a box of the source grid (along the patient) and its features."""

    candidate: Candidate
    mask: Mask
    offset: Shape
    contrast_hu: float
    volume_mm3: float
    elongation: float
    in_lung: float

    @property
    def score(self) -> float:
        """Orders lesions: dense, round, surrounded by lung, large ones first; no probability."""
        radius_mm = float(np.cbrt(self.volume_mm3 * 0.75 / np.pi))
        shape = self.candidate.roundness**0.5 * self.in_lung**3 / self.elongation
        return float(self.contrast_hu * shape * radius_mm**0.5)


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """HU and closed lung in a window of cubic voxels around a candidate."""

    window: Window
    hu: NDArray[np.float32]
    lung: Mask
    from_centre_mm: NDArray[np.float32]

    @property
    def spacing(self) -> Triple:
        return self.window.step_mm, self.window.step_mm, self.window.step_mm


def segmented(area: SearchArea, candidate: Candidate) -> Lesion | None:
    """Segment the lesion at ``candidate``; None where nothing stands out from the lung."""
    reach_mm = 0.75 * candidate.diameter_mm + 3.0
    scene = _scene(area, candidate, reach_mm + 6.0)
    core_hu, lung_hu = _levels(scene, candidate)
    if core_hu - lung_hu < 100.0:
        return None
    threshold_hu = float(np.clip((core_hu + lung_hu) / 2, *THRESHOLD_HU))
    dense = scene.hu > threshold_hu
    whole = dense & scene.lung & (scene.from_centre_mm <= reach_mm)
    mask = _without_vessels(whole, scene)
    if not mask.any():
        return None
    source_shape = (area.hu.shape[0], area.hu.shape[1], area.hu.shape[2])
    back, offset = scene.window.back(mask, source_shape, area.spacing)
    if not back.any():
        return None
    return Lesion(
        candidate=candidate,
        mask=back,
        offset=offset,
        contrast_hu=core_hu - lung_hu,
        volume_mm3=float(np.count_nonzero(mask)) * scene.window.step_mm**3,
        elongation=_elongation(mask),
        in_lung=_share_in_lung(mask, dense, scene),
    )


def _scene(area: SearchArea, candidate: Candidate, half_mm: float) -> _Scene:
    step_mm = float(np.clip(min(area.spacing), 0.5, 1.0))
    window = Window.around(candidate.centre_mm, half_mm, step_mm)
    hu = window.sampled(area.hu, area.spacing).cpu().numpy()
    closed = area.closed_for(candidate.sigma_mm)
    lung = window.sampled(closed, area.lungs_spacing).cpu().numpy() > 0.5
    offsets = [
        (window.centres_mm(axis) - candidate.centre_mm[axis]).astype(np.float32)
        for axis in range(3)
    ]
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    return _Scene(window, hu, lung, np.sqrt(z * z + y * y + x * x))


def _levels(scene: _Scene, candidate: Candidate) -> tuple[float, float]:
    """HU of the lesion's core and of the lung around it."""
    radius_mm = candidate.diameter_mm / 2
    core = scene.hu[scene.from_centre_mm <= max(1.2, 0.4 * radius_mm)]
    shell = (scene.from_centre_mm > radius_mm) & (scene.from_centre_mm <= radius_mm + 6.0)
    around = scene.hu[shell & scene.lung]
    lung_hu = float(np.percentile(around, 30)) if around.size else -850.0
    core_hu = float(np.percentile(core, 70))
    return float(np.clip(core_hu, *CORE_HU)), float(np.clip(lung_hu, *LUNG_HU))


def _without_vessels(whole: Mask, scene: _Scene) -> Mask:
    """The part at the centre that stays together when everything thin is cut off."""
    inside = morphology.depth(whole, scene.spacing)
    near = np.where(scene.from_centre_mm <= max(2.0, 0.4 * scene.from_centre_mm.max()), inside, 0.0)
    thickest_mm = float(near.max())
    if thickest_mm == 0.0:
        return np.zeros_like(whole)
    cut_mm = min(0.55 * thickest_mm, THICKEST_CUT_MM)
    seeds = np.zeros_like(whole)
    seeds[np.unravel_index(int(np.argmax(near)), near.shape)] = True
    core = components.touching(inside > cut_mm, seeds)
    grown = morphology.dilated(core, scene.spacing, cut_mm + 0.5 * scene.window.step_mm)
    return components.touching(grown & whole, core)


def _elongation(mask: Mask) -> float:
    """Longest over shortest standard deviation of the mask, 1 for a ball."""
    points = np.argwhere(mask).astype(np.float64)
    spread = np.cov(points.T) + np.eye(3) / 12 if len(points) > 1 else np.eye(3) / 12
    values = np.linalg.eigvalsh(spread)
    return float(np.sqrt(values[-1] / values[0]))


def _share_in_lung(mask: Mask, dense: Mask, scene: _Scene) -> float:
    """Share of the lesion's skin that lies against lung, not against vessels or the wall."""
    step_mm = scene.window.step_mm
    distance = morphology.distance_to(mask, scene.spacing)
    skin = (distance > 0) & (distance <= 2.0 * step_mm)
    free = skin & ~dense & scene.lung
    return float(np.count_nonzero(free)) / max(1, int(np.count_nonzero(skin)))

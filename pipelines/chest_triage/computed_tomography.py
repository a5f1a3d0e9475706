"""Signs of a chest CT that raise its urgency: fluid, air beside the lung, a small lung, a mass.

Everything is looked for on a grid of 2 mm along the patient. The triage tells signs with their
figures and sides; segments are the business of the pipelines that measure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging import components, morphology, orient, resample
from dicomnode.imaging.chest import GRID_MM, Chest, closed_lungs, midline_voxel, segment_chest
from dicomnode.imaging.filters import gaussian
from dicomnode.sdk import (
    Assessment,
    Code,
    Context,
    Declined,
    Findings,
    Laterality,
    Measurement,
    Sign,
    Urgency,
    Volume,
)
from dicomnode.sdk.codes import MASS, NODULE
from pipelines.chest_triage.words import (
    AERATED_RATIO,
    AERATED_VOLUME,
    BARE_AIR,
    RIB_FLUID,
    SIGN_VOLUME,
    UNEVEN_AERATION,
)

Mask = NDArray[np.bool_]

FEWEST_SLICES = 20
SHORTEST_MM = 60.0
WIDEST_STEP_MM = 8.5

FLUID_HU = (-10.0, 32.0)
FLUID_ML = 300.0
# Pleural fluid lies against the ribs and beside the middle; a stomach or the heart does not.
FLUID_AT_RIBS = 0.1
FLUID_ASIDE_MM = 40.0
PLEURAL_AIR_HU = -960.0
PLEURAL_AIR_ML = 30.0
LESION_ML = 1.5
# Nearer to the airways, vessels of the hilum are as round and as large as a lesion.
LESION_FROM_AIRWAYS_MM = 25.0
BEYOND_VESSELS_ML = 15.0
MASS_MM = 30.0
SMALL_SIDE = 0.6
AERATED_HU = -500.0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the chest that a rule points at."""

    type: Code
    volume_ml: float
    urgency: Urgency
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What all rules look at: HU, smoothed HU, the chest's parts, the index of the midline."""

    hu: NDArray[np.float32]
    smooth: NDArray[np.float32]
    chest: Chest
    midline: float

    def side(self, mask: Mask) -> Laterality:
        """Side of the patient on which the middle of ``mask`` lies."""
        return Laterality.RIGHT if self.column(mask) < self.midline else Laterality.LEFT

    def column(self, mask: Mask) -> float:
        """Mean index of ``mask`` along the axis to the patient's left."""
        return float(np.nonzero(mask)[2].mean())


def triage_ct(volume: Volume, context: Context) -> Findings | Declined:
    """Apply all rules to ``volume``; declined where it is no chest that they can judge."""
    upright = orient.to_lps(volume)
    length_mm = upright.shape[0] * upright.spacing[0]
    if upright.shape[0] < FEWEST_SLICES or length_mm < SHORTEST_MM:
        return Declined(
            f"The series covers {length_mm:.0f} mm in {upright.shape[0]} slices; "
            f"{SHORTEST_MM:.0f} mm and {FEWEST_SLICES} slices are needed."
        )
    if upright.spacing[0] > WIDEST_STEP_MM:
        return Declined(
            f"The slices are {upright.spacing[0]:.1f} mm apart; "
            f"up to {WIDEST_STEP_MM} mm can be judged."
        )
    scene = _scene(upright, context)
    if not scene.chest.lungs.any():
        return Declined("No lung was found in the series.")
    context.progress(0.6, "looking for signs")
    regions = [*_effusions(scene), *_pleural_air(scene), *_lesions(scene)]
    reasons = [_sign(region) for region in regions]
    small = _small_side(scene)
    if small is not None:
        reasons.append(small)
    urgent = [region.urgency for region in regions]
    return Findings(
        summary=_summary(reasons),
        sought=(RIB_FLUID, BARE_AIR, UNEVEN_AERATION, MASS),
        assessment=Assessment(_worst(urgent, reasons), tuple(reasons)),
    )


def _scene(upright: Volume, context: Context) -> Scene:
    grid, spacing = resample.to_spacing(
        upright.tensor(context.device), upright.spacing, GRID_MM, average=True
    )
    smooth = gaussian(grid, 3.0, spacing).cpu().numpy()
    hu = grid.cpu().numpy()
    chest = segment_chest(
        hu, spacing, lambda share: context.progress(0.55 * share, "finding lungs")
    )
    return Scene(hu, smooth, chest, midline_voxel(hu, chest.body, spacing))


def _parts(mask: Mask, chest: Chest, smallest_ml: float) -> list[tuple[Mask, float]]:
    """Components of at least ``smallest_ml`` with their volume in mL, the largest first."""
    labels, count = components.labelled(mask)
    volumes = components.sizes(labels, count) * chest.voxel_mm3 / 1000.0
    order = np.argsort(-volumes[1:], kind="stable") + 1
    return [(labels == n, float(volumes[n])) for n in order if volumes[n] >= smallest_ml]


def _effusions(scene: Scene) -> list[Region]:
    """Fluid of some size that lies against the ribs, outside of the aerated lung."""
    chest = scene.chest
    is_fluid = (scene.smooth > FLUID_HU[0]) & (scene.smooth < FLUID_HU[1])
    fluid = morphology.opened(chest.body & is_fluid & ~chest.lungs, chest.spacing, 6.0)
    near_bone = morphology.distance_to(chest.body & (scene.hu > 220.0), chest.spacing) < 12.0
    regions = []
    for mask, volume_ml in _parts(fluid, chest, FLUID_ML):
        aside_mm = abs(scene.column(mask) - scene.midline) * chest.spacing[2]
        if near_bone[mask].mean() < FLUID_AT_RIBS or aside_mm < FLUID_ASIDE_MM:
            continue
        side = scene.side(mask)
        text = (
            f"Fluid density against the ribs on the {side} side, {volume_ml:.0f} mL: "
            "pleural effusion, or fluid in the abdomen."
        )
        regions.append(Region(RIB_FLUID, volume_ml, Urgency.SIGNIFICANT, text))
    return regions


def _pleural_air(scene: Scene) -> list[Region]:
    """Air without lung texture within or right beside a lung: pneumothorax, or a large bulla."""
    chest = scene.chest
    beside = morphology.dilated(chest.lungs, chest.spacing, 4.0)
    airways = morphology.dilated(chest.airways, chest.spacing, 6.0)
    air = chest.body & beside & ~airways & (scene.smooth < PLEURAL_AIR_HU)
    regions = []
    for mask, volume_ml in _parts(
        morphology.opened(air, chest.spacing, 5.0), chest, PLEURAL_AIR_ML
    ):
        side = scene.side(mask)
        text = (
            f"Air without lung texture on the {side} side, at least {volume_ml:.0f} mL: "
            "pneumothorax, or a large bulla."
        )
        regions.append(Region(BARE_AIR, volume_ml, Urgency.HIGHLY_SIGNIFICANT, text))
    return regions


def _lesions(scene: Scene) -> list[Region]:
    """Dense parts of a lung that a ball of 12 mm fits into, away from the hilum."""
    chest = scene.chest
    dense = closed_lungs(chest, 10.0) & (scene.hu > -250.0) & (scene.hu < 250.0)
    solid = morphology.opened(dense, chest.spacing, 6.0)
    from_airways = morphology.distance_to(chest.airways, chest.spacing)
    regions = []
    for mask, volume_ml in _parts(solid, chest, LESION_ML):
        is_near = float(from_airways[mask].min()) < LESION_FROM_AIRWAYS_MM
        if is_near and volume_ml < BEYOND_VESSELS_ML:
            continue
        side = scene.side(mask)
        extent_mm = _longest_mm(mask, chest)
        kind, name = (MASS, "mass") if extent_mm >= MASS_MM else (NODULE, "nodule")
        text = f"Solid {name} of {extent_mm:.0f} mm and {volume_ml:.1f} mL in the {side} lung."
        regions.append(Region(kind, volume_ml, Urgency.SIGNIFICANT, text))
    return regions


def _longest_mm(mask: Mask, chest: Chest) -> float:
    """Largest distance of two voxel edges of ``mask`` within one slice, in mm."""
    longest = 0.0
    for plane in mask[mask.any(axis=(1, 2))]:
        points = np.argwhere(plane) * np.asarray(chest.spacing[1:])
        # The two farthest points lie at the ends of one of these directions, to within 1 %.
        angles = np.linspace(0.0, np.pi, 24, endpoint=False)
        along = points @ np.stack([np.sin(angles), np.cos(angles)])
        longest = max(longest, float(np.ptp(along, axis=0).max()) + chest.spacing[1])
    return longest


def _small_side(scene: Scene) -> Sign | None:
    """The sign that one side holds far less aerated lung, where both sides are in the image."""
    chest = scene.chest
    if not _is_whole(scene):
        return None
    right, left = (
        chest.volume_mm3(lung & (scene.hu < AERATED_HU)) / 1000.0
        for lung in (chest.right_lung, chest.left_lung)
    )
    ratio = min(right, left) / max(right, left)
    if ratio >= SMALL_SIDE:
        return None
    side = "right" if right < left else "left"
    text = (
        f"Little aerated lung on the {side} side: right {right:.0f} mL, left {left:.0f} mL "
        "(collapse, consolidation, effusion or resection)."
    )
    figures = (
        Measurement(AERATED_VOLUME, min(right, left), "cm3"),
        Measurement(AERATED_RATIO, ratio, "1"),
    )
    return Sign(UNEVEN_AERATION, text, figures)


def _is_whole(scene: Scene) -> bool:
    """Tell whether both sides lie in the image from apex to base, as far as lungs show it."""
    chest = scene.chest
    width_mm = scene.hu.shape[2] * chest.spacing[2]
    middle_mm = scene.midline * chest.spacing[2]
    areas_mm2 = chest.lungs.sum(axis=(1, 2)) * chest.spacing[1] * chest.spacing[2]
    levels = np.flatnonzero(areas_mm2 > 500.0)
    if levels.size == 0:
        return False
    height_mm = float(levels[-1] - levels[0] + 1) * chest.spacing[0]
    ends_mm2 = max(float(areas_mm2[0]), float(areas_mm2[-1]))
    return min(middle_mm, width_mm - middle_mm) > 80.0 and height_mm > 140.0 and ends_mm2 < 6000.0


def _sign(region: Region) -> Sign:
    return Sign(region.type, region.text, (Measurement(SIGN_VOLUME, region.volume_ml, "cm3"),))


def _worst(urgencies: list[Urgency], reasons: list[Sign]) -> Urgency | None:
    if Urgency.HIGHLY_SIGNIFICANT in urgencies:
        return Urgency.HIGHLY_SIGNIFICANT
    return Urgency.SIGNIFICANT if reasons else None


def _summary(reasons: list[Sign]) -> str:
    if not reasons:
        return (
            "No sign that raises the urgency was found by rules; "
            "this says nothing about the absence of disease."
        )
    return " ".join(reason.text for reason in reasons)

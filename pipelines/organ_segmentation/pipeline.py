"""Lungs, airways, body outline and skeleton in CT by rules: no trained network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dicomnode.imaging import chest, orient, resample
from dicomnode.sdk import (
    Code,
    Context,
    Declined,
    Findings,
    Laterality,
    Match,
    Pipeline,
    Segment,
    Select,
    Volume,
    most_slices,
    soft_kernel,
    thinnest_slices,
)
from dicomnode.sdk.codes import BODY, LUNG, SKELETON, TRACHEA_AND_BRONCHI
from dicomnode.sdk.match import SLABS
from pipelines.organ_segmentation.skeleton import Skeleton, segment_skeleton

HOUNSFIELD = "[hnsf'U]"
# More than marrow gives: the aorta alone has 150 mL.
MOST_ENHANCED_MM3 = 100_000.0
SMALLEST_BODY_MM3 = 200_000.0
LUNGS_OF_AN_ADULT_ML = (1_500.0, 9_000.0)

Organ = tuple[NDArray[np.bool_], Code, str, Laterality | None]


class OrganSegmentation(Pipeline[Volume]):
    """Segment right and left lung, trachea with main bronchi, body outline and skeleton in CT."""

    name, version = "organ-segmentation", "1.0.0"
    match = Match(modality="CT", image_type={"not": ["LOCALIZER", {"regex": SLABS}]})
    select = Select(
        one_series=True,
        prefer=(thinnest_slices(), soft_kernel(), most_slices()),
        minimum_slices=10,
        maximum_spacing_mm=8.0,
    )
    bundles = ()
    series_number = 9100

    def run(self, series: Volume, context: Context) -> Findings | Declined:
        """Segment what is in the field of view; declines where there is no body in it."""
        if series.unit != HOUNSFIELD:
            return Declined("The values of this series are not Hounsfield units.")
        volume = orient.to_lps(series)
        context.progress(0.0, "body")
        coarse, spacing = resample.to_spacing(
            volume.tensor(context.device), volume.spacing, chest.GRID_MM, average=True
        )
        # Padding outside of the scanner's circle is stored far below air.
        coarse = coarse.clamp(-1024.0, 3071.0)
        parts = chest.segment_chest(
            coarse.cpu().numpy(),
            spacing,
            lambda done: context.progress(0.6 * done, "lungs and airways"),
        )
        if parts.volume_mm3(parts.body) < SMALLEST_BODY_MM3:
            return Declined("No body was found in this series.")
        context.progress(0.65, "skeleton")
        skeleton = segment_skeleton(coarse, parts.body, spacing)
        organs: tuple[Organ, ...] = (
            (parts.right_lung, LUNG, "Right lung", Laterality.RIGHT),
            (parts.left_lung, LUNG, "Left lung", Laterality.LEFT),
            (parts.airways, TRACHEA_AND_BRONCHI, "Trachea and main bronchi", None),
            (parts.body, BODY, "Body", None),
            (skeleton.mask, SKELETON, "Skeleton", None),
        )
        segments = []
        for number, (mask, code, label, side) in enumerate(organs):
            context.progress(0.75 + 0.05 * number, label.lower())
            if mask.any():
                fine = _on_source_grid(mask, volume, series, context.device)
                segments.append(Segment(fine, type=code, label=label, laterality=side))
        return Findings(summary=_summary(parts, organs, skeleton), segments=tuple(segments))


def _on_source_grid(
    mask: NDArray[np.bool_], volume: Volume, series: Volume, device: torch.device
) -> NDArray[np.bool_]:
    """Bring a coarse mask to the source's voxels with a smooth edge: half of a trilinear value."""
    values = torch.from_numpy(mask).to(device).float()
    fine = (resample.to_shape(values, volume.shape) > 0.5).cpu().numpy()
    back: NDArray[np.bool_] = orient.from_lps(fine, series)
    return back


def _summary(parts: chest.Chest, organs: tuple[Organ, ...], skeleton: Skeleton) -> str:
    there = [label.lower() for mask, _, label, _ in organs if mask.any()]
    missing = [label.lower() for mask, _, label, _ in organs if not mask.any()]
    text = f"Segmented: {', '.join(there)}"
    if missing:
        text += f". Not found in the field of view: {', '.join(missing)}"
    lungs_ml = parts.volume_mm3(parts.lungs) / 1000.0
    low_ml, high_ml = LUNGS_OF_AN_ADULT_ML
    if parts.lungs.any() and (not low_ml <= lungs_ml <= high_ml or chest.are_lungs_cut(parts)):
        text += ". The lungs are cut by the field of view or of unusual size"
    if skeleton.mask.any() and skeleton.enhanced_mm3 > MOST_ENHANCED_MM3:
        text += (
            ". There is much of a contrast agent's density: "
            "the skeleton may hold parts of vessels and kidneys"
        )
    return text

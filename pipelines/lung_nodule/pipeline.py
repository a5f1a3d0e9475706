"""Lung nodules in chest CT by rules: no trained network, hence no probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from dicomnode.imaging import chest, measure, orient, resample
from dicomnode.sdk import (
    Context,
    Declined,
    Finding,
    Findings,
    Match,
    Pipeline,
    Segment,
    Select,
    Volume,
    most_slices,
    soft_kernel,
    thinnest_slices,
)
from dicomnode.sdk.codes import MASS, NODULE
from dicomnode.sdk.match import SLABS
from pipelines.lung_nodule import candidates, choice, lesion
from pipelines.lung_nodule.sides import Sides

HOUNSFIELD = "[hnsf'U]"
# Half a litre of both lungs: less is the base of the lungs in an abdomen, or a chest full of fluid.
SMALLEST_LUNGS_MM3 = 500_000.0
# Dents of the lung up to twice this wide are closed, so that lesions at the pleura lie inside: the
# first for the search of small ones, the second, which takes in more of the hilum, for large ones.
CLOSING_MM = (10.0, 18.0)
LONGEST_NODULE_MM = 30.0


@dataclass(frozen=True, slots=True)
class LungNoduleSettings:
    """What a hospital may change; the defaults are those of the README's figures."""

    minimum_diameter_mm: float = 4.0
    maximum_findings: int = 20
    maximum_candidates: int = 300
    largest_elongation: float = 2.5
    smallest_in_lung: float = 0.5
    lowest_score: float = 250.0

    @property
    def limits(self) -> choice.Limits:
        """The part that decides about segmented lesions."""
        return choice.Limits(
            self.minimum_diameter_mm,
            self.maximum_findings,
            self.largest_elongation,
            self.smallest_in_lung,
            self.lowest_score,
        )


class LungNodule(Pipeline[Volume]):
    """Find, segment and order pulmonary nodules of 4 mm and more in chest CT."""

    name, version = "lung-nodule", "1.0.0"
    match = Match(
        modality="CT",
        body_part=["CHEST", "THORAX", None],
        image_type={"not": ["LOCALIZER", {"regex": SLABS}]},
    )
    select = Select(
        one_series=True,
        prefer=(thinnest_slices(), soft_kernel(), most_slices()),
        minimum_slices=40,
        maximum_spacing_mm=3.0,
    )
    bundles = ()
    settings = LungNoduleSettings
    series_number = 9000

    def run(self, series: Volume, context: Context) -> Findings | Declined:
        """Look for nodules in one CT; declines where there is no lung to look at."""
        if series.unit != HOUNSFIELD:
            return Declined("The values of this series are not Hounsfield units.")
        settings = context.settings
        if not isinstance(settings, LungNoduleSettings):
            settings = LungNoduleSettings()
        volume = orient.to_lps(series)
        hu = volume.tensor(context.device)
        parts = _parts_of(hu, volume, context)
        if parts.volume_mm3(parts.lungs) < SMALLEST_LUNGS_MM3:
            return Declined(
                "No lung was found in this series: not a chest, or the lungs are cut off."
            )
        area = _search_area(hu, volume, parts, context)
        context.progress(0.35, "lungs found")
        found = candidates.found_in(area, context.reduction, _part(context, 0.35, 0.7, "search"))
        lesions = _lesions(area, found[: settings.maximum_candidates], series, context)
        pixels = (series.spacing[1], series.spacing[2])
        chosen = choice.chosen_from(lesions, series.shape, pixels, settings.limits)
        return _findings(series, chosen, settings, parts)


def _part(context: Context, first: float, last: float, text: str) -> Callable[[float], None]:
    """Progress of one part of the run as progress of the whole."""
    return lambda fraction: context.progress(first + (last - first) * fraction, text)


def _parts_of(hu: torch.Tensor, volume: Volume, context: Context) -> chest.Chest:
    context.progress(0.0, "lungs")
    coarse, spacing = resample.to_spacing(hu, volume.spacing, chest.GRID_MM, average=True)
    # Padding outside of the scanner's circle is stored far below air.
    values = coarse.clamp(-1024.0, 3071.0).cpu().numpy()
    return chest.segment_chest(values, spacing, _part(context, 0.02, 0.3, "lungs"))


def _search_area(
    hu: torch.Tensor, volume: Volume, parts: chest.Chest, context: Context
) -> candidates.SearchArea:
    closed: list[torch.Tensor] = []
    for radius_mm in CLOSING_MM:
        context.progress(0.3 + 0.02 * len(closed), "lungs")
        mask = chest.closed_lungs(parts, radius_mm)
        closed.append(torch.from_numpy(mask).to(hu.device).float())
    return candidates.SearchArea(hu, volume.spacing, closed[0], closed[1], parts.spacing)


def _lesions(
    area: candidates.SearchArea,
    found: list[candidates.Candidate],
    series: Volume,
    context: Context,
) -> list[lesion.Lesion]:
    """Segment each candidate; the masks come back on the grid of ``series``."""
    lesions = []
    for number, candidate in enumerate(found):
        context.progress(0.7 + 0.3 * number / len(found), "nodules")
        segmented = lesion.segmented(area, candidate)
        if segmented is not None:
            mask, offset = orient.box_from_lps(segmented.mask, segmented.offset, series)
            lesions.append(replace(segmented, mask=mask, offset=offset))
    return lesions


def _findings(
    series: Volume, chosen: choice.Chosen, settings: LungNoduleSettings, parts: chest.Chest
) -> Findings:
    findings, longest_mm = [], 0.0
    sides = Sides.of(series, parts)
    for nodule in chosen.lesions:
        axes = measure.axes_of(nodule.mask, (series.spacing[1], series.spacing[2]))
        longest_mm = max(longest_mm, axes.long_mm)
        site, side = sides.at(np.argwhere(nodule.mask).mean(axis=0) + nodule.offset)
        findings.append(
            Finding(
                type=MASS if axes.long_mm > LONGEST_NODULE_MM else NODULE,
                site=site,
                laterality=side,
                segment=Segment(mask=nodule.mask, offset=nodule.offset),
                score=nodule.score,
            )
        )
    cut = chest.are_lungs_cut(parts)
    return Findings(
        summary=_summary(len(findings), longest_mm, chosen.left_out, settings, cut),
        findings=tuple(findings),
        sought=(NODULE,),
    )


def _summary(
    count: int, longest_mm: float, left_out: int, settings: LungNoduleSettings, cut: bool
) -> str:
    least = f"{settings.minimum_diameter_mm:g} mm"
    if count == 0:
        text = f"No nodule of {least} or more found"
    elif count == 1:
        text = f"1 possible nodule of {least} or more, {longest_mm:.0f} mm long"
    else:
        text = f"{count} possible nodules of {least} or more, the longest {longest_mm:.0f} mm"
    if left_out:
        text += f"; {left_out} less likely ones left out"
    if cut:
        text += "; the lungs are not whole in the field of view"
    return text

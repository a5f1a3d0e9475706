"""Chest triage: a chest CT or a frontal chest radiograph that should be read first, and why."""

from __future__ import annotations

from dicomnode.sdk import (
    Context,
    Declined,
    Findings,
    Images,
    Match,
    Pipeline,
    Select,
    Volume,
    most_slices,
    soft_kernel,
    thinnest_slices,
)
from dicomnode.sdk.match import SLABS
from pipelines.chest_triage.computed_tomography import triage_ct
from pipelines.chest_triage.radiograph import LATERAL_VIEWS, triage_radiographs


class ChestTriage(Pipeline[Volume | Images]):
    """Raise the urgency of a chest CT or frontal chest radiograph by rules; never reassure.

    There is no trained network and no probability in it. Where no rule fires the urgency is
    undetermined: that says nothing about the absence of disease.
    """

    name = "chest-triage"
    version = "1.0.0"
    series_number = 9200
    match = Match(
        modality=["CT", "CR", "DX"],
        body_part=["CHEST", "THORAX", "LUNG", None],
        image_type={"not": ["LOCALIZER", {"regex": SLABS}]},
        ViewPosition={"not": sorted(LATERAL_VIEWS)},
        # Half of all normal children raise the rules, which were chosen on adults (README).
        PatientAge=[{"min": 16}, None],
    )
    select = Select(one_series=True, prefer=(thinnest_slices(), soft_kernel(), most_slices()))

    def run(self, series: Volume | Images, context: Context) -> Findings | Declined:
        """Judge ``series`` by the rules of its kind."""
        if isinstance(series, Volume):
            return triage_ct(series, context)
        return triage_radiographs(series, context)

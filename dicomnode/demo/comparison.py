"""What was found against what was drawn, and what of that is a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dicomnode.demo.material import Material, Truth
from dicomnode.demo.received import Place, Received, why_no_result
from dicomnode.imaging.phantoms import PhantomNodule
from dicomnode.rules.states import DeliveryState, JobState
from dicomnode.sdk import Urgency, Volume
from dicomnode.worklist.story import Story

# A smaller nodule spans two slices of the phantom: it may be missed.
MUST_FIND_MM = 6.0
# A nodule's volume: half of the voxels of a 6 mm ball lie at its edge.
_NODULE_RATIO = (1 / 3, 3.0)
_ORGAN_OFF = 0.10
_NEAR_MM = 5.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One line: what was drawn, what the received report says, and whether that will do."""

    what: str
    drawn: str
    found: str
    difference: str
    ok: bool

    def as_data(self) -> dict[str, Any]:
        """Give it as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NodulePair:
    """A nodule that was drawn, and the finding that lies there."""

    drawn: PhantomNodule
    found: Place | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole comparison; ``faults`` are sentences, none where all is well."""

    lines: tuple[Compared, ...]
    pairs: tuple[NodulePair, ...]
    faults: tuple[str, ...]

    @property
    def nodules_in_words(self) -> str:
        """How many of the nodules were found, and how far their diameters are off."""
        found = [pair for pair in self.pairs if pair.found is not None]
        words = f"{len(found)} of {len(self.pairs)} nodules found"
        if found:
            worst = max(abs(p.found.diameter_mm - p.drawn.diameter_mm) for p in found if p.found)
            words += f", diameters within {worst:.1f} mm"
        return words


def compare(material: Material, sets: Sequence[Received], stories: Sequence[Story]) -> Verdict:
    """Compare every set with the truth, and what should be at the PACS with what is."""
    by_pipeline: dict[str, list[Received]] = {}
    for one in sets:
        by_pipeline.setdefault(one.pipeline, []).append(one)
    radiograph_uid = material.radiograph[0].sop_instance_uid
    triage = by_pipeline.get("chest-triage", [])
    lines: list[Compared] = []
    pairs: list[NodulePair] = []
    if material.is_drawn:
        pairs = _pairs(material.truth, by_pipeline.get("lung-nodule", []))
        lines += [_nodule(pair) for pair in pairs]
        lines += _organs(material.truth, by_pipeline.get("organ-segmentation", []))
        lines += [_healthy(one) for one in triage if isinstance(one.source, Volume)]
    sick = next((one for one in triage if radiograph_uid in one.image_uids), None)
    lines.append(_sick(material.truth, sick))
    faults = [f"{line.what}: {line.found} ({line.difference})" for line in lines if not line.ok]
    return Verdict(tuple(lines), tuple(pairs), (*faults, *_unfinished(material, sets, stories)))


def _pairs(truth: Truth, sets: Sequence[Received]) -> list[NodulePair]:
    """Join each nodule that was drawn with the nearest finding that lies over it."""
    centres = [
        (place, one.source.to_patient(place.mask.centre_zyx()))
        for one in sets
        if isinstance(one.source, Volume)
        for place in one.lesions
        if place.mask is not None
    ]
    pairs = []
    for nodule in truth.nodules:
        away = [
            (float(np.linalg.norm(centre - np.asarray(nodule.centre_lps))), n)
            for n, (_, centre) in enumerate(centres)
        ]
        nearest = min(away, default=None)
        is_there = nearest is not None and nearest[0] <= max(_NEAR_MM, nodule.diameter_mm / 2)
        pairs.append(NodulePair(nodule, centres[nearest[1]][0] if nearest and is_there else None))
    return pairs


def _nodule(pair: NodulePair) -> Compared:
    nodule, found = pair.drawn, pair.found
    drawn_ml = nodule.volume_mm3 / 1000
    what = f"nodule, {nodule.place}"
    drawn = f"{nodule.diameter_mm:.1f} mm  {drawn_ml:.2f} mL  {nodule.laterality}"
    if found is None:
        is_small = nodule.diameter_mm < MUST_FIND_MM
        return Compared(what, drawn, "not found", "missed", is_small)
    told = f"{found.diameter_mm:.1f} mm  {found.volume_ml:.2f} mL  {found.side or '-'}"
    ratio = found.volume_ml / drawn_ml
    is_right = found.side is nodule.laterality
    ok = _NODULE_RATIO[0] <= ratio <= _NODULE_RATIO[1] and is_right
    difference = f"{found.diameter_mm - nodule.diameter_mm:+.1f} mm  {ratio - 1:+.0%} volume"
    return Compared(what, drawn, told, difference if is_right else "wrong side", ok)


def _organs(truth: Truth, sets: Sequence[Received]) -> list[Compared]:
    found = {place.label: place.volume_ml for one in sets for place in one.organs}
    lines = []
    for label, drawn_ml in truth.organs_ml.items():
        what, drawn = label.lower(), f"{drawn_ml:.0f} mL"
        if label not in found:
            lines.append(Compared(what, drawn, "not found", "missed", ok=False))
            continue
        off = found[label] / drawn_ml - 1
        told = f"{found[label]:.0f} mL"
        lines.append(Compared(what, drawn, told, f"{off:+.1%}", abs(off) <= _ORGAN_OFF))
    return lines


def _healthy(one: Received) -> Compared:
    """The CT has no acute sign; a nodule may make it significant."""
    ok = one.urgency is not Urgency.HIGHLY_SIGNIFICANT
    return Compared(
        "CT, urgency", "no acute sign", _urgency(one), "as drawn" if ok else "wrong", ok
    )


def _sick(truth: Truth, one: Received | None) -> Compared:
    what, drawn = "radiograph, urgency", f"white {truth.sick_side} side"
    if one is None:
        return Compared(what, drawn, "no report", "missed", ok=False)
    sides = {place.side for place in one.lesions}
    ok = one.urgency is not None and sides == {truth.sick_side}
    told = f"{_urgency(one)}, {' and '.join(sorted(str(side) for side in sides)) or 'no'} side"
    return Compared(what, drawn, told, "as drawn" if ok else "missed", ok)


def _urgency(one: Received) -> str:
    return str(one.urgency) if one.urgency else "undetermined"


def _unfinished(
    material: Material, sets: Sequence[Received], stories: Sequence[Story]
) -> list[str]:
    """Sentences about objects that are missing and, on phantoms, jobs that were not done."""
    faults = [f"{one.pipeline}: {kind} is not at the PACS" for one in sets for kind in one.missing]
    faults += [
        f"{one.pipeline} {one.story.job.state}: {why_no_result(one.story)}"
        for one in sets
        if one.story.job.state is JobState.FAILED
        or (material.is_drawn and one.story.job.state is not JobState.DONE)
    ]
    faults += [
        f"delivery {entry.delivery.id} to {entry.delivery.peer}: {entry.delivery.state}"
        for told in stories
        for entry in told.deliveries
        if entry.delivery.state is not DeliveryState.CONFIRMED
    ]
    if not any(one.paths for one in sets):
        faults.append("nothing came back")
    return faults

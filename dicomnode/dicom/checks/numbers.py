"""Number rules: every figure of a report is possible, and is what its mask recounts to."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from dicomnode.dicom import codes
from dicomnode.dicom.checks.content import (
    ATTENUATION,
    DIAMETER,
    LENGTHS,
    LONG_AXIS,
    MEAN,
    PROBABILITY,
    SHORT_AXIS,
    VOLUME,
    Group,
    Region,
    plain,
)
from dicomnode.dicom.checks.masks import Count, Described, Masks, inside
from dicomnode.dicom.checks.reading import Coded, text
from dicomnode.dicom.checks.results import ResultObject
from dicomnode.dicom.checks.rules import Rule
from dicomnode.sdk import Laterality

Texts = Iterator[str]
# A group, the segment that it or its twin refers to, and that segment's recount.
Linked = tuple[Group, Described, Count, Masks]

_UNITS: Final[Mapping[Coded, frozenset[str]]] = MappingProxyType(
    {
        VOLUME: frozenset({"mm3", "cm3"}),
        LONG_AXIS: frozenset({"mm"}),
        SHORT_AXIS: frozenset({"mm"}),
        DIAMETER: frozenset({"mm"}),
        ATTENUATION: frozenset({"[hnsf'U]"}),
        PROBABILITY: frozenset({"1"}),
    }
)
_LOWEST_HU, _HIGHEST_HU = -1100.0, 4000.0
_VOLUME_SHARE, _VOLUME_VOXELS = 0.01, 2
_AXIS_SHARE = 0.05
_MEAN_HU = 2.0
_MIDLINE_MM = 10.0
_SIDES: Final = MappingProxyType(
    {plain(codes.SIDES[side]): side for side in (Laterality.LEFT, Laterality.RIGHT)}
)


def _finite(o: ResultObject) -> Texts:
    for group in o.content.groups:
        for number in group.numbers:
            if not math.isfinite(number.value):
                yield f"{group.label}: {_name(number.name)} is not a number"


def _units(o: ResultObject) -> Texts:
    for group in o.content.groups:
        for number in group.numbers:
            allowed = _UNITS.get(number.name) if number.name else None
            if allowed is not None and number.unit not in allowed:
                yield f"{group.label}: {_name(number.name)} has unit '{number.unit}'"
            if number.name == ATTENUATION and number.derivation is None:
                yield f"{group.label}: an attenuation without its derivation"


def _ranges(o: ResultObject) -> Texts:
    for group in o.content.groups:
        for number in group.numbers:
            sized = number.name == VOLUME or number.name in LENGTHS
            if sized and number.value <= 0:
                yield f"{group.label}: {_name(number.name)} is not positive"
            if number.name == PROBABILITY and not 0 <= number.value <= 1:
                yield f"{group.label}: probability {number.value:g}"
            if number.name == ATTENUATION and not _LOWEST_HU <= number.value <= _HIGHEST_HU:
                yield f"{group.label}: attenuation {number.value:g} HU"


def _axis_order(o: ResultObject) -> Texts:
    for group in o.content.groups:
        long, short = group.number(LONG_AXIS), group.number(SHORT_AXIS)
        if long and short and short.value > long.value + 1e-6:
            yield f"{group.label}: the short axis is longer than the long one"


def _name(concept: Coded | None) -> str:
    return concept.value if concept else "a measurement"


def _masks(o: ResultObject) -> dict[str, Masks]:
    """Give the recounted segmentations by instance UID; none of a radiograph."""
    if o.source.is_radiograph:
        return {}
    return {text(s.data, "SOPInstanceUID"): s.masks for s in o.set.segmentations}


def _linked(o: ResultObject) -> Iterator[Linked]:
    """Give each group that speaks of a segment, itself or by its twin, with the recount."""
    by_uid = {
        described.tracking_uid: (described, masks.counts[described.number], masks)
        for masks in _masks(o).values()
        for described in masks.described
    }
    for group in o.content.groups:
        found = by_uid.get(group.tracking_uid)
        if found is not None and found[1].voxels:
            yield group, *found


def _segment_reference(o: ResultObject) -> Texts:
    masks, seen = _masks(o), set()
    for group in o.content.groups:
        if group.segment is None:
            if group.template == "1411":
                yield f"{group.label}: a volumetric group without a segment"
            continue
        uid, numbers = group.segment
        described = masks[uid].by_number.get(numbers[0]) if uid in masks and numbers else None
        if described is None or len(numbers) != 1:
            yield f"{group.label}: the segment reference does not resolve"
            continue
        if described.tracking_uid != group.tracking_uid:
            yield f"{group.label}: its tracking UID is not that of segment {described.number}"
        if described.type != group.finding:
            yield f"{group.label}: its finding is not the type of segment {described.number}"
        if (uid, described.number) in seen:
            yield f"{group.label}: a second group for segment {described.number}"
        seen.add((uid, described.number))


def _every_segment(o: ResultObject) -> Texts:
    reported = {group.segment for group in o.content.groups if group.segment}
    tracked = set()
    for uid, masks in _masks(o).items():
        for described in masks.described:
            tracked.add(described.tracking_uid)
            if (uid, (described.number,)) not in reported:
                yield f"segment {described.number} has no volumetric group"
    for group in o.content.groups:
        if tracked and group.template == "1410" and group.tracking_uid not in tracked:
            yield f"{group.label}: its tracking UID is not in the segmentation"


def _wanted(o: ResultObject) -> Texts:
    had: dict[str, set[Coded | None]] = {}
    lesions: dict[str, bool] = {}
    for group, described, _, _ in _linked(o):
        had.setdefault(group.tracking_uid, set()).update(n.name for n in group.numbers)
        lesions[group.tracking_uid] = described.is_lesion
    for uid, is_lesion in lesions.items():
        wanted = {VOLUME}
        if is_lesion:
            wanted |= {LONG_AXIS, SHORT_AXIS}
            wanted |= set() if o.content.is_rule_based else {PROBABILITY}
        if missing := wanted - had[uid]:
            names = ", ".join(sorted(code.value for code in missing))
            yield f"the groups of {uid} lack measurements {names}"


def _volume(o: ResultObject) -> Texts:
    for group, _, count, masks in _linked(o):
        number = group.number(VOLUME)
        if number is None:
            continue
        said = number.value * (1000 if number.unit == "cm3" else 1)
        voxel = masks.grid.voxel_mm3
        counted = count.voxels * voxel
        if not abs(said - counted) <= max(_VOLUME_SHARE * counted, _VOLUME_VOXELS * voxel):
            yield f"{group.label}: volume {said:.1f} mm³, the mask has {counted:.1f} mm³"


def _axis(o: ResultObject, which: Coded, attribute: str) -> Texts:
    for group, described, count, masks in _linked(o):
        number = group.number(which)
        if number is None or not described.is_lesion:
            continue
        counted = float(getattr(count, attribute))
        pixel = math.hypot(masks.grid.row_step, masks.grid.column_step)
        if not abs(number.value - counted) <= max(pixel, _AXIS_SHARE * counted):
            yield f"{group.label}: {number.value:.2f} mm, the mask has {counted:.2f} mm"


def _long_axis(o: ResultObject) -> Texts:
    yield from _axis(o, LONG_AXIS, "long_mm")


def _short_axis(o: ResultObject) -> Texts:
    yield from _axis(o, SHORT_AXIS, "short_mm")


def _mean(o: ResultObject) -> Texts:
    for group, _, count, _ in _linked(o):
        number = group.number(ATTENUATION)
        if number is None or number.derivation != MEAN:
            continue
        if not abs(number.value - count.mean) <= _MEAN_HU:
            yield f"{group.label}: mean {number.value:.1f} HU, the mask has {count.mean:.1f} HU"


def _laterality(o: ResultObject) -> Texts:
    for group, _, count, masks in _linked(o):
        side = _SIDES.get(group.laterality) if group.laterality else None
        middle = masks.grid.midline if side is not None else None
        if side is None or middle is None:
            continue
        apart = float(count.centre[0]) - middle
        if abs(apart) > _MIDLINE_MM and (apart > 0) != (side is Laterality.LEFT):
            lies = "left" if apart > 0 else "right"
            yield f"{group.label}: {side.value}, lies {abs(apart):.0f} mm to the patient's {lies}"


def _outlined(o: ResultObject) -> Texts:
    drawn: dict[str, bool] = {}
    for group, described, _, _ in _linked(o):
        if described.is_lesion:
            drawn[group.tracking_uid] = drawn.get(group.tracking_uid, False) or bool(group.regions)
    for uid, is_drawn in drawn.items():
        if not is_drawn:
            yield f"the lesion {uid} has no outline"


def _outline_fits(o: ResultObject) -> Texts:
    for group, described, _, masks in _linked(o):
        for region in group.regions:
            fault = _region_fault(region, described, masks)
            if fault:
                yield f"{group.label}: {fault}"


def _region_fault(region: Region, described: Described, masks: Masks) -> str:
    """Say what is wrong with an outline of a segment, empty if nothing."""
    places = ((s.sop_instance_uid, s.frame) for s in masks.grid.slices)
    slice_index = next((k for k, place in enumerate(places) if place == region.image), -1)
    frame = masks.frame_of(described.number, slice_index)
    if frame is None:
        return "its outline is on a slice without the segment"
    mask = masks.mask(frame.index)
    rows, columns = mask.shape
    covered = inside(region.points, rows, columns)
    both = np.count_nonzero(mask & covered)
    if both < 0.5 * np.count_nonzero(mask):
        return "its outline leaves out most of the segment"
    if described.is_lesion and np.count_nonzero(covered) > 4 * np.count_nonzero(mask) + 16:
        return "its outline is far larger than the segment"
    return ""


def _regions(o: ResultObject) -> Texts:
    for group in o.content.groups:
        for region in group.regions:
            header = o.source.by_uid.get(region.image[0])
            points = region.points
            closed = len(points) >= 4 and np.abs(points[0] - points[-1]).max() <= 1e-3
            if (region.kind, region.graphic) != ("SCOORD", "POLYLINE") or not closed:
                yield f"{group.label}: its outline is not a closed polyline on an image"
            elif header is None:
                yield f"{group.label}: its outline is on no source image"
            elif (points < 0).any() or (points > [header.Columns, header.Rows]).any():
                yield f"{group.label}: its outline leaves the image"


RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("sr.number_finite", "Every measurement is a number", _finite),
    Rule("sr.number_unit", "Every measurement has the right unit", _units),
    Rule("sr.number_range", "Every measurement is possible", _ranges),
    Rule("sr.axis_order", "The short axis is not longer than the long one", _axis_order),
    Rule("sr.segment_reference", "Volumetric groups name their segment", _segment_reference),
    Rule("sr.every_segment", "Every segment has its group, and the reverse", _every_segment),
    Rule("sr.required_numbers", "The required measurements are there", _wanted),
    Rule("sr.volume", "Volume is what the mask counts", _volume),
    Rule("sr.long_axis", "Long axis is what the mask measures", _long_axis),
    Rule("sr.short_axis", "Short axis is what the mask measures", _short_axis),
    Rule("sr.mean", "Mean attenuation is what lies under the mask", _mean),
    Rule("sr.laterality", "The side agrees with the place", _laterality),
    Rule("sr.outlined", "Every lesion has an outline", _outlined),
    Rule("sr.outline_fits", "An outline fits its segment on that slice", _outline_fits),
    Rule("sr.region", "Outlines are closed and lie inside their image", _regions),
)

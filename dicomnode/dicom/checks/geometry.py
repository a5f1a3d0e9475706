"""Geometry rules: a segmentation is binary, whole, and lies exactly on its source."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.dicom import codes
from dicomnode.dicom.checks.content import plain
from dicomnode.dicom.checks.reading import Coded, coded, first, text
from dicomnode.dicom.checks.results import ResultObject
from dicomnode.dicom.checks.rules import Rule
from dicomnode.dicom.checks.vocabulary import faults
from dicomnode.dicom.uids import is_valid_uid

Texts = Iterator[str]

_MOST_FRAMES: Final = 12_000
_MOST_BYTES: Final = 250_000_000
_POSITION_MM: Final = 0.01
_EXACT: Final = 1e-4
_SLICE_SPACING_SHARE: Final = 0.01
_IN_BODY: Final = 0.9
_FAMILY: Final[Coded] = plain(codes.ARTIFICIAL_INTELLIGENCE)


def _encoding(o: ResultObject) -> Texts:
    d = o.data
    if (text(d, "SegmentationType"), d.BitsAllocated, d.BitsStored, d.SamplesPerPixel) != (
        "BINARY", 1, 1, 1,
    ):  # fmt: skip
        yield "is not BINARY with one bit"
    if text(d, "PhotometricInterpretation") != "MONOCHROME2":
        yield "is not MONOCHROME2"


def _frames(o: ResultObject) -> Texts:
    frames, items = int(o.data.NumberOfFrames), len(o.data.PerFrameFunctionalGroupsSequence)
    needed = (frames * int(o.data.Rows) * int(o.data.Columns) + 7) // 8
    if frames != items or frames == 0 or not needed <= len(o.data.PixelData) <= needed + 1:
        size = len(o.data.PixelData)
        yield f"{frames} frames, {items} items, {size} bytes of pixels where {needed} are needed"


def _not_radiograph(o: ResultObject) -> Texts:
    if o.source.is_radiograph:
        yield "a segmentation of a radiograph stops common viewers"


def _size(o: ResultObject) -> Texts:
    if int(o.data.NumberOfFrames) > _MOST_FRAMES or len(o.data.PixelData) > _MOST_BYTES:
        size = len(o.data.PixelData) // 1_000_000
        yield f"{int(o.data.NumberOfFrames)} frames and {size} MB are more than archives take"


def _matrix(o: ResultObject) -> Texts:
    got = (int(o.data.Rows), int(o.data.Columns))
    if got != o.source.grid.shape:
        yield f"{got[0]} × {got[1]} pixels, the source has {o.source.grid.shape}"


def _groups(o: ResultObject, keyword: str) -> list[Dataset]:
    """Give the distinct functional groups of that name over all frames; shared ones once."""
    shared = first(first(o.data, "SharedFunctionalGroupsSequence"), keyword)
    own = [first(item, keyword) for item in o.data.PerFrameFunctionalGroupsSequence]
    found = [group for group in own if group is not None]
    if len(found) < len(own):
        if shared is None:
            raise ValueError(f"a frame without {keyword}")
        found.append(shared)
    return found


def _spacing(o: ResultObject) -> Texts:
    wanted = np.array([o.source.grid.row_step, o.source.grid.column_step])
    for group in _groups(o, "PixelMeasuresSequence"):
        got = np.array(group.PixelSpacing, dtype=np.float64)
        if np.abs(got - wanted).max() > _EXACT:
            yield f"pixel spacing {got.tolist()}, the source has {wanted.tolist()}"
            return


def _slice_spacing(o: ResultObject) -> Texts:
    wanted = o.source.grid.gap
    for group in _groups(o, "PixelMeasuresSequence"):
        got = group.get("SpacingBetweenSlices")
        if got is not None and not abs(float(got) - wanted) <= _SLICE_SPACING_SHARE * wanted:
            yield f"spacing between slices {float(got):g} mm, the source has {wanted:g} mm"
            return


def _orientation(o: ResultObject) -> Texts:
    for group in _groups(o, "PlaneOrientationSequence"):
        got = np.array(group.ImageOrientationPatient, dtype=np.float64)
        if np.abs(got - o.source.grid.orientation).max() > _EXACT:
            yield "orientation differs from the source's"
            return


def _position(o: ResultObject) -> Texts:
    off = [f for f in o.masks.frames if f.apart_mm > _POSITION_MM]
    if off:
        farthest = max(f.apart_mm for f in off)
        yield f"{len(off)} frames lie up to {farthest:.2f} mm off the source slices"


def _source_image(o: ResultObject) -> Texts:
    wrong = 0
    for frame in o.masks.frames:
        place = o.source.grid.slices[frame.slice]
        wrong += (place.sop_instance_uid, place.frame) not in frame.sources
    if wrong:
        yield f"{wrong} frames do not name the source image at their position"


def _frame_of_reference(o: ResultObject) -> Texts:
    if text(o.data, "FrameOfReferenceUID") != text(o.source.header, "FrameOfReferenceUID"):
        yield "Frame of Reference UID is not the source's"


def _referenced_series(o: ResultObject) -> Texts:
    listed = {
        text(instance, "ReferencedSOPInstanceUID")
        for series in o.data.get("ReferencedSeriesSequence") or []
        if text(series, "SeriesInstanceUID") in o.source.series_uids
        for instance in series.get("ReferencedInstanceSequence") or []
    }
    needed = {o.source.grid.slices[f.slice].sop_instance_uid for f in o.masks.frames}
    if missing := needed - listed:
        yield f"Referenced Series Sequence lacks {len(missing)} source images that have a frame"


def _numbers(o: ResultObject) -> Texts:
    numbers = [d.number for d in o.masks.described]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"segment numbers {numbers} do not count from 1"


def _described(o: ResultObject) -> Texts:
    if loose := {f.segment for f in o.masks.frames} - set(o.masks.by_number):
        yield f"frames of segments {sorted(loose)}, which are not described"


def _voxels(o: ResultObject) -> Texts:
    for described in o.masks.described:
        if not o.masks.counts[described.number].voxels:
            yield f"segment {described.number} has no voxel"


def _no_empty_frame(o: ResultObject) -> Texts:
    if o.masks.empty_frames:
        yield f"{len(o.masks.empty_frames)} frames hold no voxel"


def _no_frame_twice(o: ResultObject) -> Texts:
    places = Counter((f.segment, f.slice) for f in o.masks.frames)
    if twice := [place for place, n in places.items() if n > 1]:
        yield f"segment {twice[0][0]} has two frames at one slice"


def _labels(o: ResultObject) -> Texts:
    for described in o.masks.described:
        if not text(described.item, "SegmentLabel"):
            yield f"segment {described.number} has no label"


def _segment_codes(o: ResultObject) -> Texts:
    keywords = (
        "SegmentedPropertyCategoryCodeSequence",
        "SegmentedPropertyTypeCodeSequence",
        "AnatomicRegionSequence",
    )
    for described in o.masks.described:
        for keyword in keywords:
            for fault in faults(first(described.item, keyword)):
                yield f"segment {described.number}, {keyword}: {fault}"


def _algorithm(o: ResultObject) -> Texts:
    for described in o.masks.described:
        named = first(described.item, "SegmentationAlgorithmIdentificationSequence")
        if text(described.item, "SegmentAlgorithmType") != "AUTOMATIC":
            yield f"segment {described.number} is not marked AUTOMATIC"
        if named is None or not text(named, "AlgorithmName") or not text(named, "AlgorithmVersion"):
            yield f"segment {described.number} names no algorithm with a version"
        elif coded(first(named, "AlgorithmFamilyCodeSequence")) != _FAMILY:
            yield f"segment {described.number}: the algorithm family is not {_FAMILY.value} DCM"


def _colour(o: ResultObject) -> Texts:
    for described in o.masks.described:
        if described.is_lesion and not described.item.get("RecommendedDisplayCIELabValue"):
            yield f"segment {described.number} has no display colour"


def _tracking(o: ResultObject) -> Texts:
    uids = [d.tracking_uid for d in o.masks.described]
    ids = [d.tracking_id for d in o.masks.described]
    if not all(ids) or not all(is_valid_uid(uid) for uid in uids):
        yield "a segment has no tracking ID or no valid tracking UID"
    if len(set(uids)) < len(uids) or len(set(ids)) < len(ids):
        yield "two segments share a tracking ID or UID"


def _in_body(o: ResultObject) -> Texts:
    for number, count in sorted(o.masks.counts.items()):
        if not count.voxels:
            continue
        slice_index = o.source.grid.at_height(count.centre)
        row, column = o.source.grid.pixel(slice_index, count.centre)
        body = o.masks.body_at(slice_index)
        within = 0 <= row < body.shape[0] and 0 <= column < body.shape[1] and body[row, column]
        share = count.in_body / count.voxels
        if not within or share < _IN_BODY:
            yield f"segment {number} lies outside the body ({share:.0%} of it inside)"


def _overlap(o: ResultObject) -> Texts:
    if o.masks.overlaps:
        segment, slice_index = o.masks.overlaps[0]
        yield f"lesion {segment} overlaps another on slice {slice_index + 1}"


RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("seg.encoding", "BINARY, one bit, MONOCHROME2", _encoding),
    Rule("seg.frames", "Frames, per-frame items and pixel data agree", _frames),
    Rule("seg.not_radiograph", "No segmentation of a radiograph", _not_radiograph),
    Rule("seg.size", "At most 12,000 frames and 250 MB", _size),
    Rule("seg.matrix", "Rows and columns are the source's", _matrix),
    Rule("seg.spacing", "Pixel spacing is the source's", _spacing),
    Rule("seg.slice_spacing", "Spacing between slices is the source's", _slice_spacing),
    Rule("seg.orientation", "Orientation is the source's", _orientation),
    Rule("seg.position", "Every frame lies on a source slice", _position),
    Rule("seg.source_image", "Every frame names the source image at its position", _source_image),
    Rule("seg.frame_of_reference", "Frame of Reference UID is the source's", _frame_of_reference),
    Rule("seg.referenced_series", "The source series and its slices are named", _referenced_series),
    Rule("seg.numbers", "Segments are numbered 1…n", _numbers),
    Rule("seg.described", "Every frame's segment is described", _described),
    Rule("seg.voxels", "Every segment has voxels", _voxels),
    Rule("seg.empty_frame", "No frame is empty", _no_empty_frame),
    Rule("seg.frame_twice", "No segment has two frames at one slice", _no_frame_twice),
    Rule("seg.labels", "Every segment has a label", _labels),
    Rule("seg.codes", "Category, type and region are complete codes", _segment_codes),
    Rule("seg.algorithm", "AUTOMATIC, with name, version and family", _algorithm),
    Rule("seg.colour", "Every lesion has a display colour", _colour),
    Rule("seg.tracking", "Tracking ID and UID are there and unique", _tracking),
    Rule("seg.body", "Segments lie inside the body", _in_body),
    Rule("seg.overlap", "Lesions do not overlap", _overlap),
)

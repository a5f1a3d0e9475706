"""What the small PACS received, read back: masks from the SEG, numbers and words from the SR.

Nothing here comes from the pipelines or from the node's own rows but which objects there should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicomnode.demo.material import Material
from dicomnode.dicom import codes, volumes
from dicomnode.dicom.checks.content import LONG_AXIS, SHORT_AXIS, VOLUME, Content, Group, plain
from dicomnode.dicom.checks.reading import REPORTS, SEGMENTATION, name
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.sdk import Images, Laterality, Urgency, Volume
from dicomnode.worklist.results import Result
from dicomnode.worklist.story import JobStory, Story

Mask = NDArray[np.bool_]

_SIDES = {plain(code): side for side, code in codes.SIDES.items()}
_URGENCIES = {plain(code): urgency for urgency, code in codes.SIGNIFICANCE.items()}
_LESION = plain(codes.ABNORMAL_STRUCTURE)
_MM3_PER_ML = 1000.0


class SegmentMask:
    """The frames of one segment by the slice of the source volume on which they lie."""

    def __init__(self, bits: NDArray[np.uint8], shape: tuple[int, int]) -> None:
        self._bits = bits
        self._shape = shape
        self.frame_of_slice: dict[int, int] = {}

    @property
    def slices(self) -> list[int]:
        """Slices that hold voxels, ascending."""
        return sorted(self.frame_of_slice)

    def plane(self, z: int) -> Mask:
        """The mask ``(row, column)`` on slice ``z`` of the source volume."""
        frame = self.frame_of_slice.get(z)
        if frame is None:
            return np.zeros(self._shape, dtype=np.bool_)
        # Frames follow each other bit by bit, least significant first (PS3.5 8.1.1).
        size = self._shape[0] * self._shape[1]
        start, end = frame * size, (frame + 1) * size
        unpacked = np.unpackbits(self._bits[start // 8 : -(-end // 8)], bitorder="little")
        return unpacked[start % 8 :][:size].reshape(self._shape).view(np.bool_)

    @cached_property
    def areas(self) -> dict[int, int]:
        """Pixels on each slice."""
        return {z: int(self.plane(z).sum()) for z in self.slices}

    @property
    def key_slice(self) -> int:
        """The slice with the largest area."""
        return max(self.areas, key=lambda z: self.areas[z])

    def centre_zyx(self) -> NDArray[np.float64]:
        """Mean voxel index (z, y, x)."""
        total = np.zeros(3)
        for z, area in self.areas.items():
            rows, columns = np.nonzero(self.plane(z))
            total += (z * area, rows.sum(), columns.sum())
        return total / max(1, sum(self.areas.values()))


@dataclass(frozen=True, slots=True)
class Place:
    """A lesion, a sign or an organ; numbers are those of the report, NaN where it gives none.

    ``mask`` is set where a segmentation holds it, ``outline`` ``(n, 2)`` in (column, row) where
    the report draws it on the image ``image_uid``.
    """

    label: str
    is_lesion: bool
    side: Laterality | None
    volume_ml: float = math.nan
    long_mm: float = math.nan
    short_mm: float = math.nan
    mask: SegmentMask | None = None
    outline: NDArray[np.float64] | None = None
    image_uid: str = ""

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball with the volume that the report states."""
        return float((6 * self.volume_ml * _MM3_PER_ML / math.pi) ** (1 / 3))


@dataclass(frozen=True, slots=True)
class Received:
    """The results of one job as they lie at the PACS.

    ``missing`` names the objects that should be there and are not; ``source`` the images that they
    are about, None where these do not load.
    """

    story: JobStory
    paths: tuple[Path, ...]
    missing: tuple[str, ...]
    source: Volume | Images | None
    places: tuple[Place, ...] = ()
    urgency: Urgency | None = None
    is_assessed: bool = False
    summary: str = ""
    image_uids: tuple[str, ...] = field(default=())

    @property
    def pipeline(self) -> str:
        """Name of the pipeline that made them."""
        return self.story.job.pipeline

    @property
    def lesions(self) -> tuple[Place, ...]:
        """Findings in the order of the report."""
        return tuple(place for place in self.places if place.is_lesion)

    @property
    def organs(self) -> tuple[Place, ...]:
        """Anatomy in the order of the report."""
        return tuple(place for place in self.places if not place.is_lesion)


def received_sets(stories: Sequence[Story], pacs: Path, material: Material) -> list[Received]:
    """Read every job's results from the PACS's folder."""
    sets = []
    for told in stories:
        series = {one.id: one.series_instance_uid for one in told.series}
        for job in told.jobs:
            uid = series.get(job.job.series_id or 0, "")
            sets.append(_received(job, pacs, material.paths_of_series(uid)))
    return sets


def _received(job: JobStory, pacs: Path, source_paths: Sequence[Path]) -> Received:
    paths, missing = [], []
    for result in job.results:
        path = pacs / f"{result.sop_instance_uid}.dcm"
        if path.is_file():
            paths.append(path)
        else:
            missing.append(_kind(result))
    objects = [dcmread(path) for path in paths]
    report = next((Content(o) for o in objects if o.SOPClassUID in REPORTS), None)
    if report is None:
        return Received(job, tuple(paths), tuple(missing), None)
    loaded = volumes.load(source_paths, "either")
    source = None if isinstance(loaded, Reason) else loaded.input
    masks: dict[str, SegmentMask] = {}
    segments: list[Dataset] = []
    for seg in objects:
        if seg.SOPClassUID == SEGMENTATION and isinstance(source, Volume):
            masks |= _masks(seg, source)
            segments += seg.SegmentSequence
    levels = [v for n, v in report.statements if n == plain(codes.LEVEL_OF_SIGNIFICANCE)]
    return Received(
        story=job,
        paths=tuple(paths),
        missing=tuple(missing),
        source=source,
        places=_places(report, masks, {str(s.TrackingUID): str(s.SegmentLabel) for s in segments}),
        urgency=next((_URGENCIES[v] for v in levels if v in _URGENCIES), None),
        is_assessed=bool(levels),
        summary=_summary(report),
        image_uids=() if isinstance(loaded, Reason) else _image_uids(loaded.source.datasets),
    )


def _kind(result: Result) -> str:
    return f"{result.kind.upper()} {result.sop_instance_uid}"


def _image_uids(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    return tuple(str(dataset.SOPInstanceUID) for dataset in datasets)


def _masks(seg: Dataset, volume: Volume) -> dict[str, SegmentMask]:
    """Masks of a segmentation by tracking UID, each frame laid on its slice by its position."""
    bits = np.frombuffer(seg.PixelData, dtype=np.uint8)
    shape = (int(seg.Rows), int(seg.Columns))
    by_number = {int(s.SegmentNumber): SegmentMask(bits, shape) for s in seg.SegmentSequence}
    for index, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        z = round(float(volume.to_index(position)[0]))
        by_number[number].frame_of_slice[z] = index
    return {str(s.TrackingUID): by_number[int(s.SegmentNumber)] for s in seg.SegmentSequence}


def _places(
    report: Content, masks: Mapping[str, SegmentMask], labels: Mapping[str, str]
) -> tuple[Place, ...]:
    """Join the groups of one tracking UID: the volumetric one and the one that is drawn."""
    by_uid: dict[str, list[Group]] = {}
    for group in report.groups:
        if group.is_placed:
            by_uid.setdefault(group.tracking_uid, []).append(group)
    return tuple(
        _place(groups, masks.get(uid), labels.get(uid, groups[0].tracking_id))
        for uid, groups in by_uid.items()
    )


def _place(groups: Sequence[Group], mask: SegmentMask | None, label: str) -> Place:
    numbers = {n.name: n for group in groups for n in group.numbers}
    region = next((region for group in groups for region in group.regions), None)
    volume = numbers.get(VOLUME)
    volume_ml = math.nan
    if volume is not None:
        volume_ml = volume.value / (_MM3_PER_ML if volume.unit == "mm3" else 1.0)
    long_axis, short_axis = numbers.get(LONG_AXIS), numbers.get(SHORT_AXIS)
    sides = [_SIDES[group.laterality] for group in groups if group.laterality in _SIDES]
    return Place(
        label=label,
        is_lesion=groups[0].category == _LESION,
        side=sides[0] if sides else None,
        volume_ml=volume_ml,
        long_mm=long_axis.value if long_axis else math.nan,
        short_mm=short_axis.value if short_axis else math.nan,
        mask=mask if mask is not None and mask.frame_of_slice else None,
        outline=region.points if region else None,
        image_uid=region.image[0] if region else "",
    )


def _summary(report: Content) -> str:
    wanted = plain(codes.SUMMARY_TEXT)
    texts = (str(i.get("TextValue") or "") for i in report.items if name(i) == wanted)
    return next(texts, "")


def why_no_result(job: JobStory) -> str:
    """The sentence why a job has none, empty for one that is done."""
    return sentence(job.job.reason) if job.job.reason else ""

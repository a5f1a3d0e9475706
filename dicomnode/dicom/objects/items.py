"""What a set of results names: each lesion and organ, in order, with its number and identity."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from dicomnode.dicom.codes import ABNORMAL_STRUCTURE, ANATOMICAL_STRUCTURE
from dicomnode.dicom.objects.measured import Measured, measured
from dicomnode.dicom.objects.outlines import Points, close
from dicomnode.dicom.objects.request import EncodeRequest
from dicomnode.dicom.objects.sides import (
    is_paired,
    side_of_centre,
    side_of_organ,
    side_of_outline,
    unsided,
)
from dicomnode.dicom.uids import derived_uid
from dicomnode.errors import EncodingError
from dicomnode.imaging.midline import midline_lps
from dicomnode.sdk import (
    Code,
    Finding,
    Image,
    Images,
    Laterality,
    Measurement,
    Outline,
    Segment,
    Volume,
)

_LONGEST_LABEL: Final = 64  # Segment Label is an LO


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A closed polygon ``(n, 2)`` in (column, row) on one image of the source, by its place."""

    points: Points
    image: int


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One lesion, sign or organ with its number in the set; unplaced where both places are None."""

    number: int
    tracking_uid: str
    label: str
    type: Code
    category: Code
    site: Code
    laterality: Laterality | None
    segment: Segment | None = None
    measured: Measured | None = None
    drawn: Drawn | None = None
    probability: float | None = None
    measurements: tuple[Measurement, ...] = ()
    qualities: tuple[tuple[Code, Code], ...] = ()

    @property
    def is_lesion(self) -> bool:
        """True for a finding, false for anatomy."""
        return self.category == ABNORMAL_STRUCTURE

    @property
    def is_placed(self) -> bool:
        """True when the item lies somewhere in the images."""
        return self.drawn is not None

    @property
    def tracking_id(self) -> str:
        """What people call the item; unique in the set by its number."""
        return self.label if self.is_lesion else f"{self.label} ({self.number})"


def items(request: EncodeRequest) -> tuple[Item, ...]:
    """Give every lesion by probability, else score, else place, and then the anatomy.

    Raises
    ------
    EncodingError
        A finding or segment cannot be written: no voxel, off the grid, overlapping lesions, a
        segment on radiographs, or a probability that does not suit the pipeline.
    """
    findings = request.findings.findings
    for finding in findings:
        _check_probability(request, finding)
    if isinstance(request.volume, Images):
        return _on_images(request, request.volume)
    return _in_volume(request, request.volume)


def _check_probability(request: EncodeRequest, finding: Finding) -> None:
    name, probability = finding.type.meaning, finding.probability
    if request.algorithm.rule_based and probability is not None:
        raise EncodingError(f"{name} has a probability, but the pipeline has no trained bundle.")
    if probability is None:
        if not request.algorithm.rule_based and (finding.segment or finding.outline):
            raise EncodingError(f"{name} has no probability, but the pipeline is a trained one.")
    elif not 0.0 <= probability.value <= 1.0:
        raise EncodingError(f"{name} has a probability of {probability.value}, not 0 to 1.")


def _in_volume(request: EncodeRequest, volume: Volume) -> tuple[Item, ...]:
    placed = []
    for finding in request.findings.findings:
        if finding.outline is not None:
            raise EncodingError(f"{finding.type.meaning} has an outline in a volume; give a mask.")
        size = None
        if finding.segment is not None:
            size = measured(volume, finding.segment, finding.type.meaning, is_lesion=True)
        placed.append((finding, size))
    placed.sort(key=lambda pair: (pair[1] is None, *_rank(pair[0]), *_place(pair[1])))
    midline = midline_lps(volume)
    lesions = [
        _lesion(request, volume, n, (finding, size), midline)
        for n, (finding, size) in enumerate(placed, 1)
    ]
    organs = [
        _organ(request, volume, n, segment, midline)
        for n, segment in enumerate(request.findings.segments, len(lesions) + 1)
    ]
    return (*lesions, *organs)


def _rank(finding: Finding) -> tuple[float, float]:
    probability = finding.probability.value if finding.probability else 0.0
    return -probability, -finding.score


def _place(size: Measured | None) -> tuple[float, ...]:
    return size.centre_zyx if size else (0.0, 0.0, 0.0)


def _lesion(
    request: EncodeRequest,
    volume: Volume,
    number: int,
    placed: tuple[Finding, Measured | None],
    midline: float | None,
) -> Item:
    finding, size = placed
    site, side = finding.site, finding.laterality
    if size is not None and side is None and is_paired(site):
        side = side_of_centre(volume, size.centre_zyx, midline)
        site = site if side is not None else unsided(site)
    return _of_finding(
        request, number, finding, (site, side),
        measured=size, drawn=Drawn(size.outline, size.key_slice) if size else None,
    )  # fmt: skip


def _of_finding(
    request: EncodeRequest,
    number: int,
    finding: Finding,
    where: tuple[Code, Laterality | None],
    *,
    measured: Measured | None = None,
    drawn: Drawn | None = None,
) -> Item:
    label = finding.label or finding.type.meaning
    return Item(
        number=number,
        tracking_uid=derived_uid(request.key, "finding", str(number)),
        label=f"{label[: _LONGEST_LABEL - 6]} {number}",
        type=finding.type,
        category=ABNORMAL_STRUCTURE,
        site=where[0],
        laterality=where[1],
        segment=finding.segment,
        measured=measured,
        drawn=drawn,
        probability=finding.probability.value if finding.probability else None,
        measurements=finding.measurements,
        qualities=finding.qualities,
    )


def _organ(
    request: EncodeRequest, volume: Volume, number: int, segment: Segment, midline: float | None
) -> Item:
    if segment.type is None:
        raise EncodingError(f"Segment '{segment.label}' does not say by a code what it is.")
    site, side = segment.type, segment.laterality
    name = segment.label or segment.type.meaning
    size = measured(volume, segment, name, is_lesion=False)
    if side is None and is_paired(site):
        side = side_of_organ(volume, segment, midline)
        site = site if side is not None else unsided(site)
    if not segment.label and side is not None:
        name = f"{side.value.capitalize()} {segment.type.meaning.lower()}"
    return Item(
        number=number,
        tracking_uid=derived_uid(request.key, "finding", str(number)),
        label=name[:_LONGEST_LABEL],
        type=segment.type,
        category=ANATOMICAL_STRUCTURE,
        site=site,
        laterality=side,
        segment=segment,
        measured=size,
        drawn=Drawn(size.outline, size.key_slice),
        measurements=segment.measurements,
    )


def _on_images(request: EncodeRequest, images: Images) -> tuple[Item, ...]:
    if request.findings.segments or any(f.segment for f in request.findings.findings):
        raise EncodingError(
            "A pipeline gave a mask on a radiograph; outlines are what can be sent."
        )
    ordered = sorted(
        request.findings.findings,
        key=lambda f: (f.outline is None, *_rank(f), *_outline_place(f.outline)),
    )
    return tuple(_on_image(request, images, n, finding) for n, finding in enumerate(ordered, 1))


def _outline_place(outline: Outline | None) -> tuple[float, ...]:
    if outline is None:
        return 0.0, 0.0, 0.0
    column, row = outline.points.min(axis=0)
    return float(outline.image), float(row), float(column)


def _on_image(request: EncodeRequest, images: Images, number: int, finding: Finding) -> Item:
    outline = finding.outline
    if outline is None:
        return _of_finding(request, number, finding, (finding.site, finding.laterality))
    if not 0 <= outline.image < len(images.images):
        raise EncodingError(f"{finding.type.meaning} lies on image {outline.image}, which is none.")
    image = images.images[outline.image]
    points = _inside(outline, image, finding.type.meaning)
    site, side = finding.site, finding.laterality
    if side is None and is_paired(site):
        side = side_of_outline(image, points)
        site = site if side is not None else unsided(site)
    return _of_finding(
        request, number, finding, (site, side), drawn=Drawn(close(points), outline.image)
    )


def _inside(outline: Outline, image: Image, name: str) -> Points:
    rows, columns = image.array.shape
    points = outline.points
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise EncodingError(f"The outline of {name} is no polygon of three points or more.")
    if not np.isfinite(points).all() or (points < 0).any() or (points > [columns, rows]).any():
        raise EncodingError(f"The outline of {name} leaves its image.")
    return points

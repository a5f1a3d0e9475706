"""What routing knows of a series: counted and measured from the headers of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dicomnode.dicom.headers import Header
from dicomnode.rules.routing import SeriesFacts
from dicomnode.rules.selection import InstanceFacts
from dicomnode.rules.states import Role

# Objects with pixel data that are not images of the patient: segmentations, parametric maps and
# real world values, doses (PS3.4 table B.5-1).
_NO_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.481.2",
    }
)
# Below it two positions along the normal are one (mm): doubled slices say nothing of the spacing.
_SAME_POSITION_MM = 0.01
# Two orientations are one when their cosines agree to this many digits.
_ORIENTATION_DIGITS = 3


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One object of a series: its row's id, the digest of its bytes, and its header."""

    id: int
    digest: str
    header: Header
    has_pixels: bool = True

    @property
    def is_image(self) -> bool:
        """Tell whether a pipeline may look at it."""
        return self.has_pixels and self.header.sop_class_uid not in _NO_IMAGE_CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSource:
    """A series as its rows, or the headers of its files, have it.

    ``callers`` are AE titles and names of the peers that sent it.
    """

    id: int
    series_instance_uid: str
    modality: str
    images: Sequence[SourceImage]
    attributes: Mapping[str, Sequence[str]]
    role: Role = Role.SOURCE
    facts: Mapping[str, object] = field(default_factory=dict)
    callers: Iterable[str] = ()


def series_facts(source: SeriesSource) -> SeriesFacts:
    """Give a series as routing sees it; what is no image is left out of its instances."""
    images = [image for image in source.images if image.is_image]
    attributes = {name: tuple(values) for name, values in source.attributes.items()}
    attributes["CallingAETitle"] = tuple(dict.fromkeys(name for name in source.callers if name))
    headers = [image.header for image in images]
    return SeriesFacts(
        id=source.id,
        series_instance_uid=source.series_instance_uid,
        modality=source.modality,
        instances=tuple(
            InstanceFacts(image.id, image.header.sop_instance_uid, image.digest) for image in images
        ),
        attributes=attributes,
        slice_count=sum(header.frames for header in headers),
        spacing_mm=slice_spacing_mm(headers, attributes),
        kernel=_most_common(header.kernel for header in headers),
        role=source.role,
        has_images=bool(images),
        facts={name: str(value) for name, value in source.facts.items()},
    )


def slice_spacing_mm(
    headers: Sequence[Header], attributes: Mapping[str, Sequence[str]]
) -> float | None:
    """Give the distance of neighbouring slices along their normal in mm, None where not known.

    The median over the images of the orientation that most of them have: a gap or a localizer in
    the series does not change it. Slice Thickness is never taken for it.
    """
    positions = _positions_along_normal(headers)
    steps = np.diff(np.sort(positions))
    steps = steps[steps > _SAME_POSITION_MM]
    if steps.size:
        return round(float(np.median(steps)), 4)
    if any(header.frames > 1 for header in headers):
        return _number(attributes.get("SpacingBetweenSlices", ()))
    return None


def _positions_along_normal(
    headers: Sequence[Header],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the positions in mm along the common normal, shape (n,), float64."""
    placed = [
        (header.image_orientation, header.image_position)
        for header in headers
        if header.image_orientation is not None and header.image_position is not None
    ]
    rounded = [
        tuple(round(cosine, _ORIENTATION_DIGITS) for cosine in orientation)
        for orientation, _ in placed
    ]
    if not placed:
        return np.empty(0)
    usual, _ = Counter(rounded).most_common(1)[0]
    orientation = placed[rounded.index(usual)][0]
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    if length == 0:
        return np.empty(0)
    chosen = [position for (_, position), one in zip(placed, rounded, strict=True) if one == usual]
    return np.asarray(np.asarray(chosen, dtype=np.float64) @ (normal / length))


def _most_common(values: Iterable[str]) -> str:
    given = [value for value in values if value]
    return Counter(given).most_common(1)[0][0] if given else ""


def _number(values: Sequence[str]) -> float | None:
    try:
        return abs(float(values[0])) if values else None
    except ValueError:
        return None

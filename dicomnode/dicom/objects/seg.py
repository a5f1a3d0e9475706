"""The Segmentation (PS3.3 A.51): one BINARY object per set, in the geometry of the source.

BINARY only: viewers draw nothing for label maps, and stop at fractions. Frames without a voxel are
left out.
"""

import colorsys
from collections.abc import Sequence
from typing import Final

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.dicom import codes
from dicomnode.dicom.equipment import MANUFACTURER, MODEL_NAME
from dicomnode.dicom.objects.concepts import concept
from dicomnode.dicom.objects.dress import Series
from dicomnode.dicom.objects.items import Item
from dicomnode.dicom.objects.request import (
    Algorithm,
    EncodeRequest,
)
from dicomnode.dicom.uids import derived_uid
from dicomnode.errors import EncodingError
from dicomnode.sdk import Segment

MOST_FRAMES: Final = 12_000
MOST_BYTES: Final = 250_000_000
# Segments that overlap go to the library as one array per segment; beyond this it would need
# more memory than a node may count on.
_MOST_STACK_BYTES: Final = 3_000_000_000
_GOLDEN: Final = 0.618034  # hues that far apart stay distinct however many there are


def segmentation(
    request: EncodeRequest, headers: Sequence[Dataset], items: Sequence[Item], place: Series
) -> Dataset:
    """Build the segmentation of all segmented ``items``, numbered 1…n in their order.

    Raises
    ------
    EncodingError
        Two lesions overlap, or the object would pass the size that archives take.
    """
    segmented = [item for item in items if item.segment is not None]
    shape = _shape(request)
    _check_size(segmented, shape)
    planes = sorted({z for item in segmented if item.measured for z in item.measured.slices})
    pixels = _pixels(segmented, shape)
    if request.source.frame_numbers is None:
        pixels = pixels[planes]
    else:
        order = np.argsort(np.array(request.source.frame_numbers))
        pixels = pixels[order]
    data_set = Segmentation(
        source_images=_sources(request, headers, planes),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[
            _description(item, n, request.algorithm) for n, item in enumerate(segmented, 1)
        ],
        series_instance_uid=place.series_instance_uid,
        series_number=place.series_number,
        sop_instance_uid=place.sop_instance_uid,
        instance_number=place.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=request.equipment.software_version,
        device_serial_number=request.equipment.serial_number,
        content_label="AI_RESULT",
        content_description="AI result, research use only",
        content_creator_name="dicomnode^AI",
    )
    _settle_dimensions(data_set, derived_uid(place.sop_instance_uid, "dimensions"))
    if planes != list(range(planes[0], planes[-1] + 1)):
        # The library calls frames 3D at any even distance; a reader of that would close the gaps.
        data_set.pop("DimensionOrganizationType", None)
    return data_set


def _shape(request: EncodeRequest) -> tuple[int, int, int]:
    z, y, x = request.volume.array.shape  # type: ignore[union-attr]  # only volumes have segments
    return z, y, x


def _check_size(segmented: Sequence[Item], shape: tuple[int, int, int]) -> None:
    frames = sum(len(item.measured.slices) for item in segmented if item.measured)
    size = frames * shape[1] * shape[2] // 8
    if frames > MOST_FRAMES or size > MOST_BYTES:
        raise EncodingError(
            f"The segmentation would have {frames} frames and {size // 1_000_000} MB; archives "
            f"take {MOST_FRAMES} frames and {MOST_BYTES // 1_000_000} MB. Report fewer segments."
        )


def _box(segment: Segment) -> tuple[slice, ...]:
    return tuple(slice(o, o + n) for o, n in zip(segment.offset, segment.mask.shape, strict=True))


def _pixels(segmented: Sequence[Item], shape: tuple[int, int, int]) -> NDArray[np.unsignedinteger]:
    """Give a label map ``(z, y, x)``, or ``(z, y, x, segment)`` where segments overlap."""
    labels = np.zeros(shape, dtype=np.uint8 if len(segmented) < 256 else np.uint16)
    overlap = False
    for n, item in enumerate(segmented, 1):
        assert item.segment is not None
        part = labels[_box(item.segment)]
        under = part[item.segment.mask]
        for other in np.unique(under[under > 0]).tolist():
            _check_lesions(segmented[other - 1], item)
            overlap = True
        part[item.segment.mask] = n
    return _stack(segmented, shape) if overlap else labels


def _check_lesions(one: Item, other: Item) -> None:
    if one.is_lesion and other.is_lesion:
        raise EncodingError(f"{one.label} and {other.label} overlap; one voxel has one lesion.")


def _stack(segmented: Sequence[Item], shape: tuple[int, int, int]) -> NDArray[np.unsignedinteger]:
    if len(segmented) * int(np.prod(shape)) > _MOST_STACK_BYTES:
        raise EncodingError(
            f"{len(segmented)} overlapping segments on {shape[0]} slices are too many for one set."
        )
    stack = np.zeros((len(segmented), *shape), dtype=np.uint8)
    for layer, item in zip(stack, segmented, strict=True):
        assert item.segment is not None
        layer[_box(item.segment)] = item.segment.mask
    return np.moveaxis(stack, 0, -1)


def _sources(
    request: EncodeRequest, headers: Sequence[Dataset], planes: Sequence[int]
) -> list[Dataset]:
    """Give the headers of ``planes``, or the one of all frames, with one grid told in each.

    The loader proved that they share it, if need be to rounding; the library wants it told alike,
    and would take the distance of the planes that it is given for the distance of the slices.
    """
    distance_mm = request.volume.spacing[0]  # type: ignore[union-attr]  # only volumes have segments
    if request.source.frame_numbers is not None:
        headers[0].SharedFunctionalGroupsSequence = [_shared_grid(headers[0], distance_mm)]
        return [headers[0]]
    for z in planes:
        headers[z].ImageOrientationPatient = headers[0].ImageOrientationPatient
        headers[z].PixelSpacing = headers[0].PixelSpacing
        _tell_distance(headers[z], distance_mm)
    return [headers[z] for z in planes]


def _shared_grid(header: Dataset, distance_mm: float) -> Dataset:
    """Give a shared functional group with the plane of the first frame, wherever that is told."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frame = header.PerFrameFunctionalGroupsSequence[0]
    told = {
        keyword: (frame.get(keyword) or shared.get(keyword))[0]
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence")
    }
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = told["PlaneOrientationSequence"].ImageOrientationPatient
    measures.PixelSpacing = told["PixelMeasuresSequence"].PixelSpacing
    measures.SliceThickness = told["PixelMeasuresSequence"].get("SliceThickness")
    _tell_distance(measures, distance_mm)
    grid = Dataset()
    grid.PlaneOrientationSequence, grid.PixelMeasuresSequence = [orientation], [measures]
    return grid


def _tell_distance(measures: Dataset, distance_mm: float) -> None:
    """Set Spacing Between Slices, and a missing Slice Thickness, which the library insists on."""
    measures.SpacingBetweenSlices = round(distance_mm, 6)
    if float(measures.get("SliceThickness") or 0) <= 0:
        measures.SliceThickness = round(distance_mm, 4)


def _description(item: Item, number: int, algorithm: Algorithm) -> SegmentDescription:
    hue = (number - 1) * _GOLDEN % 1.0
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 1.0))
    description = SegmentDescription(
        segment_number=number,
        segment_label=item.label,
        segmented_property_category=concept(item.category),
        segmented_property_type=concept(item.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            algorithm.name[:64], concept(codes.ARTIFICIAL_INTELLIGENCE), algorithm.version[:64]
        ),
        tracking_uid=item.tracking_uid,
        tracking_id=item.tracking_id,
        anatomic_regions=[concept(item.site)],
        display_color=CIELabColor.from_rgb(red, green, blue),
    )
    if item.laterality is not None:
        side = concept(codes.SIDES[item.laterality])
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
        if not item.is_lesion:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _settle_dimensions(data_set: Dataset, dimension_organization_uid: str) -> None:
    """Replace the random Dimension Organization UID, so that a rebuild gives the same bytes."""
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for part in data_set[keyword].value:
            part.DimensionOrganizationUID = dimension_organization_uid

"""The image planes of a series: one per single-frame image, one per frame of an enhanced object.

Geometry of enhanced objects stands in functional groups (PS3.3 C.7.6.16), a macro either shared or
per frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicomnode.dicom.geometry import Plane
from dicomnode.dicom.stored_images import PYDICOM_FAULTS, StoredImage
from dicomnode.rules.reasons import Reason

_POSITION, _ORIENTATION, _SPACING = 0x00200032, 0x00200037, 0x00280030
_FRAME_OF_REFERENCE, _KERNEL = 0x00200052, 0x00181210


@dataclass(frozen=True, slots=True, eq=False)
class SlicePlane:
    """One slice to be: its plane, and where its pixels and its calibration come from.

    ``frame`` counts from 0. ``calibration_group`` is the Pixel Value Transformation item of an
    enhanced frame, None where the header itself says it.
    """

    plane: Plane
    image: StoredImage
    frame: int = 0
    kernel: str = ""
    calibration_group: Dataset | None = None


def slice_planes(images: Sequence[StoredImage], series: int | None) -> list[SlicePlane] | Reason:
    """Give the planes of all images, in the order given, or why a plane cannot be told."""
    multi_frame = [image for image in images if _is_multi_frame(image)]
    if not multi_frame:
        return [_of_image(image) for image in images]
    if len(images) > 1:
        return _declined(f"{len(multi_frame)} multi-frame objects in one series", series)
    try:
        return _of_frames(images[0])
    except PYDICOM_FAULTS:
        return _declined("no position for each frame", series)


def _declined(cause: str, series: int | None) -> Reason:
    return Reason("declined.geometry", {"cause": cause, "series": series})


def _is_multi_frame(image: StoredImage) -> bool:
    return image.frame_count > 1 or "PerFrameFunctionalGroupsSequence" in image.dataset


def _of_image(image: StoredImage) -> SlicePlane:
    values, form = image.values, image.form
    plane = Plane(
        number=image.number,
        position=values.numbers(_POSITION, 3),  # type: ignore[arg-type]  # three, as asked for
        orientation=values.numbers(_ORIENTATION, 6),
        pixel_spacing=values.numbers(_SPACING, 2),  # type: ignore[arg-type]
        rows=form.rows,
        columns=form.columns,
        frame_of_reference_uid=values.uid(_FRAME_OF_REFERENCE),
    )
    return SlicePlane(plane, image, kernel=values.text(_KERNEL, 64))


def _of_frames(image: StoredImage) -> list[SlicePlane]:
    """One plane per frame; raises a pydicom fault where a macro is missing or broken."""
    dataset = image.dataset
    shared_groups = dataset.get("SharedFunctionalGroupsSequence")
    shared = shared_groups[0] if shared_groups else Dataset()
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != image.frame_count:
        raise ValueError("as many functional groups as frames are needed")
    return [_of_frame(image, index, group, shared) for index, group in enumerate(groups)]


def _of_frame(image: StoredImage, index: int, group: Dataset, shared: Dataset) -> SlicePlane:
    def macro(keyword: str) -> Dataset | None:
        found = group.get(keyword) or shared.get(keyword)
        return found[0] if found else None

    position, orientation = macro("PlanePositionSequence"), macro("PlaneOrientationSequence")
    measures, reconstruction = macro("PixelMeasuresSequence"), macro("CTReconstructionSequence")
    if position is None or orientation is None or measures is None:
        raise ValueError("a frame without plane position, orientation or pixel measures")
    form = image.form
    plane = Plane(
        number=index + 1,
        position=_numbers(position.ImagePositionPatient, 3),  # type: ignore[arg-type]
        orientation=_numbers(orientation.ImageOrientationPatient, 6),
        pixel_spacing=_numbers(measures.PixelSpacing, 2),  # type: ignore[arg-type]
        rows=form.rows,
        columns=form.columns,
        frame_of_reference_uid=image.values.uid(_FRAME_OF_REFERENCE),
    )
    kernel = str(reconstruction.get("ConvolutionKernel", "")) if reconstruction else ""
    return SlicePlane(plane, image, index, kernel, macro("PixelValueTransformationSequence"))


def _numbers(values: Sequence[float], count: int) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if len(found) != count:
        raise ValueError(f"{count} numbers are needed")
    return found

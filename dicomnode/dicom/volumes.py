"""From the files of one series to what a pipeline takes, or the reason why they are not that.

`load` gives `Loaded`: the sdk's input and, made in the same pass, the `SourceSeries` that results
are built on and checked against. Whoever loads several series calls it once for each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicomnode.dicom.calibration import Calibration, calibration_of
from dicomnode.dicom.geometry import Stack, named, stack
from dicomnode.dicom.images2d import load_images
from dicomnode.dicom.planes import SlicePlane, slice_planes
from dicomnode.dicom.series_files import Opened, open_series, series_info, unusable_header
from dicomnode.dicom.sources import SourceSeries
from dicomnode.dicom.stored_images import StoredImage, open_image
from dicomnode.dicom.uids import is_valid_uid
from dicomnode.dicom.voxels import Voxels, read_voxels
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import Images, Volume

LARGEST_VOLUME_BYTES = 4 << 30
_FEWEST_SLICES = 2
_VOLUME_MODALITIES = frozenset({"CT", "MR", "PT"})


class Takes(StrEnum):
    """What a pipeline's ``run`` takes of one series."""

    VOLUME = "volume"
    IMAGES = "images"
    EITHER = "either"
    VOLUMES = "volumes"


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A series as a pipeline sees it, and the images behind it.

    ``left_out`` counts files that were no part of it: localizers, captures, objects without pixels.
    """

    input: Volume | Images
    source: SourceSeries
    left_out: int = 0


def load(
    paths: Sequence[Path], takes: str, largest_bytes: int = LARGEST_VOLUME_BYTES
) -> Loaded | Reason:
    """Load one series.

    Parameters
    ----------
    paths
        Files of one series, in any order.
    takes
        A value of `Takes`; ``either`` gives a volume of CT, MR and PET, 2D images of all else.
    largest_bytes
        Memory that the calibrated array may take; more is declined before anything is decoded.

    Raises
    ------
    UnreadableError
        A file is not readable DICOM; all else that may be wrong is a declined reason.
    """
    opened = open_series(paths)
    if isinstance(opened, Reason):
        return opened
    wanted = Takes(takes)
    modality = opened.images[0].modality
    if wanted is Takes.IMAGES or (wanted is Takes.EITHER and modality not in _VOLUME_MODALITIES):
        ordered = sorted(opened.images, key=_instance_order)
        images = load_images(ordered, largest_bytes)
        if isinstance(images, Reason):
            return images
        return Loaded(images, _source(ordered, is_volume=False), opened.left_out)
    return _load_volume(opened, largest_bytes)


def headers_of(paths: Sequence[Path]) -> SourceSeries:
    """Headers of images that could not be loaded, for a report that says so; in Instance order."""
    images = sorted((open_image(path) for path in paths), key=_instance_order)
    return _source(images, is_volume=False)


def _instance_order(image: StoredImage) -> tuple[int, str]:
    return (image.number or 0, image.path.name)


def _source(images: Sequence[StoredImage], *, is_volume: bool) -> SourceSeries:
    datasets = tuple(image.dataset for image in images)
    return SourceSeries(datasets, is_volume, tuple(image.path for image in images))


def _load_volume(opened: Opened, largest_bytes: int) -> Loaded | Reason:
    series = opened.images[0].values.integer(0x00200011)
    arranged = _arranged(opened, series)
    if isinstance(arranged, Reason):
        return arranged
    grid, slices = arranged
    calibrations = _calibrations(slices, series)
    if isinstance(calibrations, Reason):
        return calibrations
    needed = len(slices) * slices[0].plane.rows * slices[0].plane.columns * 4
    if needed > largest_bytes:
        return Reason("declined.too_large", {"need_bytes": needed, "limit_bytes": largest_bytes})
    voxels = read_voxels(slices, calibrations)
    if isinstance(voxels, Reason):
        return voxels
    volume = _volume(grid, slices, calibrations[0].unit, voxels)
    return Loaded(volume, _volume_source(slices), opened.left_out)


def _arranged(opened: Opened, series: int | None) -> tuple[Stack, list[SlicePlane]] | Reason:
    """The grid of the series and its slices in order along axis 0."""
    planes = slice_planes(opened.images, series)
    if isinstance(planes, Reason):
        return planes
    if len(planes) < _FEWEST_SLICES:
        return Reason(
            "declined.too_few",
            {"n": len(planes), "min": _FEWEST_SLICES, "pipeline": "a volume", "series": series},
        )
    grid = stack([part.plane for part in planes], series)
    if isinstance(grid, Reason):
        return grid
    if not is_valid_uid(planes[0].plane.frame_of_reference_uid):  # one and the same in a stack
        return unusable_header("FrameOfReferenceUID", len(opened.images), series)
    return grid, [planes[index] for index in grid.order]


def _volume(grid: Stack, slices: Sequence[SlicePlane], unit: str, voxels: Voxels) -> Volume:
    return Volume(
        array=voxels.array,
        spacing=grid.spacing,
        origin=grid.origin,
        direction=grid.direction,
        series=series_info(slices[0].image, slices[0].kernel),
        unit=unit,
        padding=voxels.padding,
    )


def _volume_source(slices: Sequence[SlicePlane]) -> SourceSeries:
    first = slices[0].image
    if all(part.image is first for part in slices):
        numbers = tuple(part.frame + 1 for part in slices)
        return SourceSeries((first.dataset,), True, (first.path,), numbers)
    return _source([part.image for part in slices], is_volume=True)


def _calibrations(slices: Sequence[SlicePlane], series: int | None) -> list[Calibration] | Reason:
    """One calibration per slice; the slices must agree in unit and reconstruction."""
    found = []
    for part in slices:
        calibration = calibration_of(part.image, part.calibration_group)
        if isinstance(calibration, Reason):
            return calibration
        found.append(calibration)
    return (
        _mixed(slices, [item.rescale_type.upper() for item in found], "RescaleType", series)
        or _mixed(slices, [part.kernel for part in slices], "ConvolutionKernel", series)
        or _mixed(slices, [part.image.modality for part in slices], "Modality", series)
        or found
    )


def _mixed(
    slices: Sequence[SlicePlane], traits: Sequence[str], keyword: str, series: int | None
) -> Reason | None:
    usual = Counter(traits).most_common(1)[0][0]
    others = [part.plane for part, trait in zip(slices, traits, strict=True) if trait != usual]
    if not others:
        return None
    parameters = {"keyword": keyword, "series": series, "slices": named(others), "n": len(others)}
    return Reason("declined.mixed", parameters)

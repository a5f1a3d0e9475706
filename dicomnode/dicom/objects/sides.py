"""Right or left of the patient, from where something lies.

The side is always the patient's: LPS x grows to the patient's left. The midline is that of the
body on the slice of the centre; within a centimetre of it the side still follows the sign of the
distance, because a paired organ has no middle.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.dicom.codes import PAIRED_SITES
from dicomnode.sdk import Code, Image, Laterality, Segment, Volume

_AIR_HU: Final = -500.0
_EACH_SIDE: Final = 0.2  # a paired organ with this share of its voxels on either side is both
_SAMPLES: Final = 100_000  # voxels that are asked; a lung has ten million


def is_paired(site: Code) -> bool:
    """Tell whether a place at ``site`` must name its side."""
    return site in PAIRED_SITES


def midline_lps(volume: Volume, slice_index: int) -> float:
    """LPS x in mm of the middle of the body on one slice; of the picture where there is no body."""
    pixels = volume.array[slice_index]
    body = np.argwhere(pixels > _body_threshold(volume, pixels))
    if not len(body):
        body = np.array([[0, 0], [pixels.shape[0] - 1, pixels.shape[1] - 1]])
    ends = body[[body[:, 1].argmin(), body[:, 1].argmax()]]
    index = np.column_stack([np.full(2, slice_index), ends]).astype(np.float64)
    return float(volume.to_patient(index)[:, 0].mean())


def _body_threshold(volume: Volume, pixels: NDArray[np.float32]) -> float:
    if volume.unit == "[hnsf'U]":
        return _AIR_HU
    low, high = float(pixels.min()), float(np.percentile(pixels, 99))
    return low + 0.1 * (high - low)


def side_of_centre(volume: Volume, centre_zyx: tuple[float, float, float]) -> Laterality:
    """Side on which a lesion's centre (voxel index) lies."""
    depth = min(max(round(centre_zyx[0]), 0), volume.shape[0] - 1)
    x = float(volume.to_patient(np.array(centre_zyx))[0])
    return Laterality.LEFT if x > midline_lps(volume, depth) else Laterality.RIGHT


def side_of_organ(volume: Volume, segment: Segment) -> Laterality:
    """Side of a paired organ, both when a fifth of it at least lies on either side."""
    every = np.flatnonzero(segment.mask)
    some = every[:: max(1, len(every) // _SAMPLES)]
    found = np.column_stack(np.unravel_index(some, segment.mask.shape)) + np.array(segment.offset)
    depth = round(float(found[:, 0].mean()))
    left = float((volume.to_patient(found)[:, 0] > midline_lps(volume, depth)).mean())
    if _EACH_SIDE <= left <= 1 - _EACH_SIDE:
        return Laterality.BILATERAL
    return Laterality.LEFT if left > 1 - _EACH_SIDE else Laterality.RIGHT


def side_of_outline(image: Image, points: NDArray[np.float64]) -> Laterality | None:
    """Side of an outline on a 2D image, None where the image does not say which way it faces."""
    facing = image.patient_orientation[0][:1] if image.patient_orientation else ""
    if facing not in ("L", "R"):
        return None
    right_half = float(points[:, 0].mean()) > image.array.shape[1] / 2
    return Laterality.LEFT if right_half == (facing == "L") else Laterality.RIGHT

"""Right or left of the patient, from where something lies.

The side is always the patient's: LPS x grows to the patient's left. A volume has one midline, the
same for every slice; within a centimetre of it the side still follows the sign of the distance,
because a paired organ has no middle. Where the images do not show the midline, no side is made up.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.dicom.codes import PAIRED_SITES
from dicomnode.sdk import Code, Image, Laterality, Segment, Volume
from dicomnode.sdk.codes import CHEST

_EACH_SIDE: Final = 0.2  # a paired organ with this share of its voxels on either side is both
_SAMPLES: Final = 100_000  # voxels that are asked; a lung has ten million
_ABDOMEN: Final = Code("818981001", "SCT", "Abdomen")
_KIDNEY: Final = Code("64033007", "SCT", "Kidney")


def is_paired(site: Code) -> bool:
    """Tell whether a place at ``site`` must name its side."""
    return site in PAIRED_SITES


def unsided(site: Code) -> Code:
    """Give the part of the body that holds both organs of a pair, for a place of unknown side."""
    if not is_paired(site):
        return site
    return _ABDOMEN if site == _KIDNEY else CHEST


def side_of_centre(
    volume: Volume, centre_zyx: tuple[float, float, float], midline: float | None
) -> Laterality | None:
    """Side on which a lesion's centre (voxel index) lies, None without a midline."""
    if midline is None:
        return None
    x = float(volume.to_patient(np.array(centre_zyx))[0])
    return Laterality.LEFT if x > midline else Laterality.RIGHT


def side_of_organ(volume: Volume, segment: Segment, midline: float | None) -> Laterality | None:
    """Side of a paired organ, both when a fifth of it at least lies on either side."""
    if midline is None:
        return None
    every = np.flatnonzero(segment.mask)
    some = every[:: max(1, len(every) // _SAMPLES)]
    found = np.column_stack(np.unravel_index(some, segment.mask.shape)) + np.array(segment.offset)
    left = float((volume.to_patient(found)[:, 0] > midline).mean())
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

"""2D images as a reader sees them: 0…1, brighter is more attenuation, with what a pixel measures.

The VOI LUT or window of the image is applied as PS3.3 C.11.2 says, then MONOCHROME1 is turned
round. What a pixel spacing of a projection means follows PS3.3 10.7.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicomnode.dicom.calibration import calibration_of, lookup_table
from dicomnode.dicom.series_files import series_info
from dicomnode.dicom.stored_images import PYDICOM_FAULTS, StoredImage
from dicomnode.errors import NotDecodableError, UnreadableError
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import Image, Images, PixelSpacingOrigin

_CENTRE, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_SPACING, _IMAGER_SPACING, _SCANNED_SPACING = 0x00280030, 0x00181164, 0x00182010
_CALIBRATION_TYPE, _MAGNIFICATION = 0x00280A02, 0x00181114
_INTENT, _INTENSITY_SIGN = 0x00080068, 0x00281041
_PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG"})

Float32 = NDArray[np.float32]


def load_images(images: Sequence[StoredImage], largest_bytes: int) -> Images | Reason:
    """Load single-frame grey images in the order given, or tell why not."""
    multi_frame = [image for image in images if image.frame_count > 1]
    if multi_frame:
        return Reason("declined.image_kind", {"kind": "multi-frame", "n": len(multi_frame)})
    needed = sum(image.form.rows * image.form.columns * 4 for image in images)
    if needed > largest_bytes:
        return Reason("declined.too_large", {"need_bytes": needed, "limit_bytes": largest_bytes})
    loaded: list[Image] = []
    for image in images:
        found = _load_image(image)
        if isinstance(found, Reason):
            return found
        loaded.append(found)
    return Images(tuple(loaded), series_info(images[0]))


def _load_image(image: StoredImage) -> Image | Reason:
    try:
        array = _shown(image)
    except (UnreadableError, NotDecodableError, *PYDICOM_FAULTS):
        return Reason("declined.not_decodable", {"n": 1, "slices": f"image {image.number}"})
    spacing, origin = pixel_spacing_of(image)
    sides = image.values.texts(0x00200020)
    return Image(
        array=array,
        pixel_spacing=spacing,
        pixel_spacing_origin=origin,
        view_position=image.values.text(0x00185101, 16),
        laterality=_laterality(image),
        patient_orientation=(sides[0], sides[1]) if len(sides) == 2 and all(sides) else None,
    )


def _laterality(image: StoredImage) -> str:
    """Image Laterality, else Laterality; unpaired (U) says no side."""
    given = image.values.text(0x00200062, 16) or image.values.text(0x00200060, 16)
    return given if given in ("R", "L", "B") else ""


def _shown(image: StoredImage) -> Float32:
    """``(row, column)`` in 0…1 after Modality LUT, VOI LUT and photometric interpretation."""
    samples = image.decode()
    values = np.empty(samples.shape, dtype=np.float32)
    calibration = calibration_of(image)
    if isinstance(calibration, Reason):
        values[...] = samples
    elif calibration.apply(samples, values):
        measured = values[~np.isnan(values)]
        darkest = _darkest(image, measured)
        np.nan_to_num(values, copy=False, nan=darkest)
    shown = _windowed(image, values)
    return (1 - shown).astype(np.float32) if _is_inverted(image) else shown


def _darkest(image: StoredImage, measured: Float32) -> float:
    """The value that padding gets: the one shown darkest."""
    if measured.size == 0:
        return 0.0
    return float(measured.max() if _is_inverted(image) else measured.min())


def _is_inverted(image: StoredImage) -> bool:
    """Whether low values mean more attenuation.

    A DX image for processing tells it by Pixel Intensity Relationship Sign, 1 where more X-rays
    give higher values (PS3.3 C.8.11.3.1.2); else by its photometric interpretation.
    """
    sign = image.values.integer(_INTENSITY_SIGN)
    if sign in (1, -1) and image.values.text(_INTENT) == "FOR PROCESSING":
        return sign == 1
    return image.form.photometric == "MONOCHROME1"


def _windowed(image: StoredImage, values: Float32) -> Float32:
    """Scale to 0…1 by the first VOI LUT, else the first window, else by what is there."""
    sequence = image.dataset.get("VOILUTSequence")
    if sequence:
        return _looked_up(image, values)
    centres, widths = image.values.texts(_CENTRE), image.values.texts(_WIDTH)
    try:
        centre, width = float(centres[0]), float(widths[0])
    except (IndexError, ValueError):
        return _stretched(values)
    function = image.values.text(_FUNCTION) or "LINEAR"
    if not (np.isfinite(centre) and np.isfinite(width)) or width <= 0:
        return _stretched(values)
    return window(values, centre, width, function)


def _looked_up(image: StoredImage, values: Float32) -> Float32:
    item = image.dataset.VOILUTSequence[0]
    table = lookup_table(item, image)
    top = 2.0 ** int(item["LUTDescriptor"].value[2]) - 1
    last = table.outputs.size - 1
    index = np.clip(np.rint(values).astype(np.int64) - table.first, 0, last)
    return np.clip(table.outputs[index] / top, 0, 1).astype(np.float32)


def window(values: Float32, centre: float, width: float, function: str = "LINEAR") -> Float32:
    """Apply a window (PS3.3 C.11.2.1.2, .3) with an output of 0…1."""
    if function == "SIGMOID":
        slope = np.clip(-4.0 * (values - centre) / width, -80, 80)
        return (1 / (1 + np.exp(slope))).astype(np.float32)
    if function == "LINEAR_EXACT":
        scaled = (values - centre) / width + 0.5
    elif width <= 1:
        scaled = (values > centre - 0.5).astype(np.float32)
    else:
        scaled = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.clip(scaled, 0, 1).astype(np.float32)


def _stretched(values: Float32) -> Float32:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return ((values - low) / (high - low)).astype(np.float32)


def pixel_spacing_of(
    image: StoredImage,
) -> tuple[tuple[float, float] | None, PixelSpacingOrigin]:
    """Mm between (rows, columns), and whether that is in the patient, at the detector, or unknown.

    Pixel Spacing of a projection counts as calibrated when the header says how it was, or when it
    differs from Imager Pixel Spacing; equal or alone it is the detector's.
    """
    pixel, imager = _spacing(image, _SPACING), _spacing(image, _IMAGER_SPACING)
    calibrated = PixelSpacingOrigin.CALIBRATED
    if image.modality not in _PROJECTIONS:
        return (pixel, calibrated) if pixel else (None, PixelSpacingOrigin.NONE)
    if pixel and (image.values.text(_CALIBRATION_TYPE) or (imager and pixel != imager)):
        return pixel, calibrated
    if imager:
        factor = image.values.numbers(_MAGNIFICATION, 1)
        if factor and factor[0] > 0:
            return (imager[0] / factor[0], imager[1] / factor[0]), calibrated
        return imager, PixelSpacingOrigin.IMAGER
    at_detector = pixel or _spacing(image, _SCANNED_SPACING)
    if at_detector:
        return at_detector, PixelSpacingOrigin.IMAGER
    return None, PixelSpacingOrigin.NONE


def _spacing(image: StoredImage, tag: int) -> tuple[float, float] | None:
    found = image.values.numbers(tag, 2)
    return (found[0], found[1]) if found and min(found) > 0 else None

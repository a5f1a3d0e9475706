"""The images of one series among its files: what is left out, what makes all of it unusable."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dicomnode.dicom.sanitise import unusable
from dicomnode.dicom.stored_images import StoredImage, open_image
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import SeriesInfo

_SOP_CLASS = 0x00080016
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E
_CAPTURES = frozenset({"1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.1"})
_CAPTURE_TYPES = frozenset({"SCREEN SAVE", "SCREEN CAPTURE", "DOSE INFO"})
# Objects with pixels that are results of something, not images of a patient.
_RESULT_MODALITIES = MappingProxyType({"SEG": "segmentation", "RTDOSE": "dose"})


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The images of a series that count, in the order of their files, and how many do not."""

    images: tuple[StoredImage, ...]
    left_out: int


def open_series(paths: Sequence[Path]) -> Opened | Reason:
    """Open every file and keep the images that a volume or a picture is made of.

    Localizers, screen captures and objects without pixels are left out beside real images; where
    nothing else is there, that is the reason. Raises `UnreadableError` for a file that is no DICOM.
    """
    everything = [open_image(path) for path in paths]
    unsuited = [_unsuited(image) for image in everything]
    images = tuple(image for image, kind in zip(everything, unsuited, strict=True) if kind is None)
    if not images:
        return _nothing_left([kind for kind in unsuited if kind is not None])
    return (
        _one_series(images)
        or _decodable(images)
        or _usable(images)
        or Opened(images, len(everything) - len(images))
    )


def _nothing_left(kinds: Sequence[str]) -> Reason:
    if not kinds or set(kinds) == {""}:
        return Reason("declined.no_pixels", {"n": len(kinds)})
    usual = Counter(kind for kind in kinds if kind).most_common(1)[0][0]
    return Reason("declined.image_kind", {"kind": usual, "n": len(kinds)})


def _unsuited(image: StoredImage) -> str | None:
    """What kind an image is that cannot be analysed, empty without pixels, None if it can be."""
    if image.pixel_data is None and image.is_decodable:
        return ""
    form, types = image.form, image.image_type
    is_capture = image.values.uid(_SOP_CLASS) in _CAPTURES or _CAPTURE_TYPES.intersection(types)
    is_unusual = not image.has_integer_pixels or not form.is_usable
    kinds = (
        (image.modality in _RESULT_MODALITIES, _RESULT_MODALITIES.get(image.modality, "")),
        ("LOCALIZER" in types, "localizer"),
        (is_capture, "screen capture"),
        (form.samples > 1 or form.photometric == "PALETTE COLOR", "colour"),
        (image.is_decodable and is_unusual, "unusual pixel"),
    )
    return next((kind for holds, kind in kinds if holds), None)


def _one_series(images: Sequence[StoredImage]) -> Reason | None:
    count = len({image.values.uid(_SERIES_UID) for image in images})
    if count == 1:
        return None
    cause = f"images of {count} series"
    return Reason("declined.geometry", {"cause": cause, "series": None, "n": len(images)})


def _decodable(images: Sequence[StoredImage]) -> Reason | None:
    for image in images:
        if not image.is_decodable:
            name = image.transfer_syntax_uid
            return Reason("declined.transfer_syntax", {"transfer_syntax": name})
    return None


def _usable(images: Sequence[StoredImage]) -> Reason | None:
    """Refuse what a pipeline could analyse and no result could name: better now than after it."""
    series = images[0].values.integer(0x00200011)
    studies = Counter(image.values.uid(_STUDY_UID) for image in images)
    if len(studies) > 1:
        others = len(images) - studies.most_common(1)[0][1]
        return Reason(
            "declined.mixed", {"keyword": "StudyInstanceUID", "series": series, "n": others}
        )
    faults = Counter(keyword for image in images if (keyword := unusable(image.dataset)))
    if not faults:
        return None
    keyword, count = faults.most_common(1)[0]
    return unusable_header(keyword, count, series)


def unusable_header(keyword: str, count: int, series: int | None) -> Reason:
    """Give the reason for ``count`` images of one series whose ``keyword`` no result can repeat."""
    return Reason("declined.header", {"keyword": keyword, "n": count, "series": series})


def series_info(image: StoredImage, kernel: str = "") -> SeriesInfo:
    """Acquisition facts for a pipeline, taken from one image of the series."""
    values = image.values
    thickness = values.numbers(0x00180050, 1)
    attributes = {keyword: "\\".join(texts) for keyword, texts in values.attributes().items()}
    return SeriesInfo(
        modality=image.modality,
        body_part=values.text(0x00180015, 64),
        series_description=values.text(0x0008103E),
        series_number=values.integer(0x00200011),
        manufacturer=values.text(0x00080070, 64),
        kernel=kernel,
        slice_thickness_mm=thickness[0] if thickness else None,
        view_position=values.text(0x00185101, 16),
        contrast_agent=values.text(0x00180010, 64),
        attributes=MappingProxyType(attributes),
    )

"""From stored samples to physical values: HU for CT, SUV for PET (PS3.3 C.11.1, C.8.9.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.dicom.header_values import Values
from dicomnode.dicom.stored_images import PYDICOM_FAULTS, StoredImage
from dicomnode.dicom.transfer_syntaxes import Samples
from dicomnode.rules.reasons import Reason

HOUNSFIELD = "[hnsf'U]"
SUV_BODY_WEIGHT = "{SUVbw}g/ml"
UNCALIBRATED = "1"

_SLOPE, _INTERCEPT, _TYPE = 0x00281053, 0x00281052, 0x00281054
_UNITS, _DECAY_CORRECTION, _WEIGHT, _SUV_TYPE = 0x00541001, 0x00541102, 0x00101030, 0x00541006
_PADDING, _PADDING_LIMIT = 0x00280120, 0x00280121


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """A Modality LUT: ``outputs`` for the stored values from ``first`` on, ends held."""

    first: int
    outputs: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How one image's stored samples become values of ``unit``.

    ``padding`` is the closed range of stored values that stand for no measurement at all.
    """

    unit: str
    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None
    rescale_type: str = ""
    padding: tuple[int, int] | None = None

    def apply(self, samples: Samples, out: NDArray[np.float32]) -> bool:
        """Write calibrated values into ``out`` of the same shape; padding becomes NaN.

        Returns whether there was padding.
        """
        if self.table is not None:
            last = self.table.outputs.size - 1
            np.take(
                self.table.outputs,
                np.clip(samples.astype(np.int64) - self.table.first, 0, last),
                out=out,
            )
        else:
            exact = np.float32 if samples.dtype.itemsize <= 2 else np.float64
            np.multiply(samples, exact(self.slope), out=out, dtype=exact, casting="same_kind")
            out += np.float32(self.intercept)
        if self.padding is None:
            return False
        low, high = self.padding
        padded = samples == low if low == high else (samples >= low) & (samples <= high)
        out[padded] = np.nan
        return bool(padded.any())


def calibration_of(image: StoredImage, group: Dataset | None = None) -> Calibration | Reason:
    """Give the calibration of an image, or why it has none that its modality needs.

    Parameters
    ----------
    image
        A stored image.
    group
        Pixel Value Transformation item of one frame of an enhanced object, instead of the header.
    """
    try:
        rescaled = _transformed(group) if group is not None else _of_header(image)
        padding = _padding(image)
    except PYDICOM_FAULTS:
        return Reason("declined.calibration", {"unit": _wanted_unit(image.modality)})
    if image.modality == "CT":
        return _in_hounsfield(rescaled, padding)
    if image.modality == "PT":
        return _in_suv(image, rescaled, padding)
    given = rescaled or Calibration(UNCALIBRATED)
    return Calibration(
        UNCALIBRATED, given.slope, given.intercept, given.table, given.rescale_type, padding
    )


def _wanted_unit(modality: str) -> str:
    return {"CT": "HU", "PT": "SUV"}.get(modality, "values")


def _transformed(group: Dataset) -> Calibration:
    return Calibration(
        UNCALIBRATED,
        float(group.RescaleSlope),
        float(group.RescaleIntercept),
        rescale_type=str(group.get("RescaleType", "")),
    )


def _of_header(image: StoredImage) -> Calibration | None:
    """Modality LUT or rescale of the header, None where there is neither."""
    sequence = image.dataset.get("ModalityLUTSequence")
    if sequence:
        item = sequence[0]
        return Calibration(
            UNCALIBRATED, table=lookup_table(item, image), rescale_type=str(item.ModalityLUTType)
        )
    slope, intercept = image.values.numbers(_SLOPE, 1), image.values.numbers(_INTERCEPT, 1)
    if slope is None or intercept is None:
        return None
    kind = image.values.text(_TYPE, 16)
    return Calibration(UNCALIBRATED, slope[0], intercept[0], rescale_type=kind)


def lookup_table(item: Dataset, image: StoredImage) -> LookupTable:
    """Read a LUT item (PS3.3 C.11.1.1.1): entries, first stored value, bits of each entry."""
    entries, first, bits = (int(value) for value in item["LUTDescriptor"].value)
    if image.form.is_signed and first > 0x7FFF:
        first -= 0x10000
    data = item["LUTData"].value
    if isinstance(data, bytes):
        width = "u1" if len(data) == (entries or 0x10000) else "<u2"
        data = np.frombuffer(data, dtype=width)
    table = np.atleast_1d(np.asarray(data)).astype(np.int64)[: entries or 0x10000]
    if table.size == 0 or not 1 <= bits <= 32:
        raise ValueError("an empty lookup table")
    return LookupTable(first, table.astype(np.float32))


def _padding(image: StoredImage) -> tuple[int, int] | None:
    """The range of padding values, read with the sign of the pixels whatever VR it came in."""
    value = image.values.integer(_PADDING)
    if value is None:
        return None
    limit = image.values.integer(_PADDING_LIMIT)
    ends = [_signed_like(end, image) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _signed_like(value: int, image: StoredImage) -> int:
    if image.form.is_signed:
        return value - 0x10000 if 0x8000 <= value <= 0xFFFF else value
    return value + 0x10000 if -0x8000 <= value < 0 else value


def _in_hounsfield(
    rescaled: Calibration | None, padding: tuple[int, int] | None
) -> Calibration | Reason:
    """CT: rescaled to HU, which an absent Rescale Type means (PS3.3 C.11.1.1.2)."""
    if rescaled is None or rescaled.slope == 0 or rescaled.rescale_type.upper() not in ("", "HU"):
        return Reason("declined.calibration", {"unit": "HU"})
    return Calibration(
        HOUNSFIELD,
        rescaled.slope,
        rescaled.intercept,
        rescaled.table,
        rescaled.rescale_type,
        padding,
    )


def _in_suv(
    image: StoredImage, rescaled: Calibration | None, padding: tuple[int, int] | None
) -> Calibration | Reason:
    """PET: SUV by body weight, from Bq/ml with dose and weight or as the scanner gives it."""
    units = image.values.text(_UNITS, 16)
    refused = Reason("declined.calibration", {"unit": "SUV"})
    if rescaled is None or rescaled.slope == 0:
        return refused
    factor: float | None = None
    if units == "GML" and image.values.text(_SUV_TYPE, 16) in ("", "BW"):
        factor = 1.0
    elif units == "BQML":
        try:
            factor = _suv_factor(image.dataset, image.values)
        except PYDICOM_FAULTS:
            factor = None
    if factor is None:
        return refused
    return Calibration(
        SUV_BODY_WEIGHT,
        rescaled.slope * factor,
        rescaled.intercept * factor,
        rescaled.table,
        units,
        padding,
    )


def _suv_factor(dataset: Dataset, values: Values) -> float | None:
    """Grams of body per becquerel still there when the decay-corrected image counts from."""
    weight = values.numbers(_WEIGHT, 1)
    correction = values.text(_DECAY_CORRECTION, 16)
    if weight is None or weight[0] <= 0 or correction not in ("START", "ADMIN"):
        return None
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    dose_bq, half_life_s = float(item.RadionuclideTotalDose), float(item.RadionuclideHalfLife)
    if dose_bq <= 0 or half_life_s <= 0:
        return None
    if correction == "ADMIN":
        return weight[0] * 1000 / dose_bq
    decayed_s = (_scan_start(dataset) - _injection(dataset, item)).total_seconds()
    if not 0 <= decayed_s < timedelta(days=1).total_seconds():
        return None
    return weight[0] * 1000 / (dose_bq * 0.5 ** (decayed_s / half_life_s))


def _scan_start(dataset: Dataset) -> datetime:
    """Series time, or acquisition time where a later reconstruction moved the series time on."""
    series = _moment(dataset.SeriesDate, dataset.SeriesTime)
    acquisition = _moment(dataset.AcquisitionDate, dataset.AcquisitionTime)
    return series if series <= acquisition else acquisition


def _injection(dataset: Dataset, item: Dataset) -> datetime:
    started = item.get("RadiopharmaceuticalStartDateTime")
    if started:
        text = str(started)
        return _moment(text[:8], text[8:14])
    return _moment(dataset.SeriesDate, item.RadiopharmaceuticalStartTime)


def _moment(date: object, time: object) -> datetime:
    """Local time of the scanner: only differences of two such moments are used."""
    text = f"{date}{str(time)[:6]}"
    return datetime.strptime(text, "%Y%m%d%H%M%S")  # noqa: DTZ007

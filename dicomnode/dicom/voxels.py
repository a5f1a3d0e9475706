"""Pixels of slices into one calibrated array: decoded by two threads, allocated once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.dicom.calibration import Calibration
from dicomnode.dicom.geometry import named
from dicomnode.dicom.planes import SlicePlane
from dicomnode.errors import NotDecodableError, UnreadableError
from dicomnode.rules.reasons import Reason

# The decoders hold the interpreter for much of their time: more threads gain nothing.
_THREADS = 2


@dataclass(frozen=True, slots=True)
class _Written:
    """How one slice went: its least value, NaN where there is none, and what was wrong."""

    minimum: float = np.nan
    has_padding: bool = False
    is_broken: bool = False


def read_voxels(
    slices: Sequence[SlicePlane], calibrations: Sequence[Calibration]
) -> NDArray[np.float32] | Reason:
    """Decode and calibrate every slice.

    Parameters
    ----------
    slices
        In the order of axis 0, all of one matrix.
    calibrations
        One per slice.

    Returns
    -------
    NDArray or Reason
        ``(z, y, x)`` float32, padding as the least value that was measured; or which slices could
        not be decoded.
    """
    plane = slices[0].plane
    voxels = np.empty((len(slices), plane.rows, plane.columns), dtype=np.float32)

    def write(index: int) -> _Written:
        return _write(slices[index], calibrations[index], voxels[index])

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        written = list(pool.map(write, range(len(slices))))
    broken = [part.plane for part, done in zip(slices, written, strict=True) if done.is_broken]
    if broken:
        return Reason("declined.not_decodable", {"n": len(broken), "slices": named(broken)})
    _fill_padding(voxels, written)
    return voxels


def _write(part: SlicePlane, calibration: Calibration, out: NDArray[np.float32]) -> _Written:
    try:
        samples = part.image.decode(part.frame)
    except (UnreadableError, NotDecodableError):
        return _Written(is_broken=True)
    if samples.shape != out.shape:
        return _Written(is_broken=True)
    if not calibration.apply(samples, out):
        return _Written(float(out.min()) if calibration.padding else np.nan)
    measured = out[~np.isnan(out)]
    return _Written(float(measured.min()) if measured.size else np.nan, has_padding=True)


def _fill_padding(voxels: NDArray[np.float32], written: Sequence[_Written]) -> None:
    """Put the least measured value of the volume where scanners padded their circle of view."""
    padded = [index for index, done in enumerate(written) if done.has_padding]
    if not padded:
        return
    minima = [done.minimum for done in written if not np.isnan(done.minimum)]
    least = np.float32(min(minima, default=0.0))
    for index in padded:
        np.nan_to_num(voxels[index], copy=False, nan=float(least))

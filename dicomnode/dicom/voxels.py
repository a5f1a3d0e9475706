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
_TRACE = 1e-6  # more than the rounding of a float32, less than any scanner resolves


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """``array`` ``(z, y, x)`` float32, and what its padding became; None where there is none."""

    array: NDArray[np.float32]
    padding: float | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """How one slice went: its least value, NaN where there is none, and what was wrong."""

    minimum: float = np.nan
    has_padding: bool = False
    is_broken: bool = False


def read_voxels(
    slices: Sequence[SlicePlane], calibrations: Sequence[Calibration]
) -> Voxels | Reason:
    """Decode and calibrate every slice.

    Parameters
    ----------
    slices
        In the order of axis 0, all of one matrix.
    calibrations
        One per slice.

    Returns
    -------
    Voxels or Reason
        Calibrated values, padding a trace below the least that was measured; or which slices
        could not be decoded.
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
    return Voxels(voxels, _fill_padding(voxels, written))


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


def _fill_padding(voxels: NDArray[np.float32], written: Sequence[_Written]) -> float | None:
    """Put one value, which it gives, where scanners padded their circle of view; None if nowhere.

    It is a millionth below the least measured one: as dark to any threshold, and yet no measured
    voxel has it.
    """
    padded = [index for index, done in enumerate(written) if done.has_padding]
    if not padded:
        return None
    minima = [done.minimum for done in written if not np.isnan(done.minimum)]
    least = min(minima, default=0.0)
    padding = float(np.float32(least - _TRACE * max(abs(least), 1.0))) if minima else 0.0
    for index in padded:
        np.nan_to_num(voxels[index], copy=False, nan=padding)
    return padding

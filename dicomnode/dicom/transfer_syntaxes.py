"""Which transfer syntaxes this node can decode, found out by decoding, and the decoding itself.

What is offered to senders is what `decodable` proved with the same table that `decode_frame` uses
later. Deflated data sets are left out: a few bytes may inflate to gigabytes. JPEG Extended is left
out: no permissively licensed decoder here reads its 12-bit form. Never call this on a stream from
a peer outside a process that may die.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import decode as decode_openjpeg
from openjpeg.utils import get_parameters
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # public, not listed
from rle.utils import decode_frame as decode_rle_frame  # type: ignore[attr-defined]  # compiled

from dicomnode.dicom.files import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomnode.dicom.probe_frames import ProbeFrame, probe_frames
from dicomnode.errors import NotDecodableError, UnreadableError

NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
# Encapsulated ones that give back every bit (PS3.5 A.4).
LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.201",
        "1.2.840.10008.1.2.4.202",
        "1.2.840.10008.1.2.5",
    }
)

# What the decoders raise for a broken stream; anything else is a fault of ours.
_DECODER_FAULTS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    struct.error,
)


# Start of frame of the JPEG processes that are read here, and of JPEG-LS (ISO 10918-1, 14495-1).
_FRAME_HEADERS = frozenset({0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFF7})


@dataclass(frozen=True, slots=True)
class PixelForm:
    """How the samples of one frame are described by the header (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int = 1
    bits_allocated: int = 8
    bits_stored: int = 8
    high_bit: int = 7
    is_signed: bool = False
    photometric: str = "MONOCHROME2"
    planar: bool = False

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The integer type of one stored sample."""
        return np.dtype(f"{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @property
    def is_usable(self) -> bool:
        """Whether the numbers fit each other and whole bytes."""
        return (
            self.rows > 0
            and self.columns > 0
            and self.samples in (1, 3, 4)
            and self.bits_allocated in (8, 16, 32)
            and 0 < self.bits_stored <= self.high_bit + 1 <= self.bits_allocated
        )


Samples = NDArray[np.integer]
Decoder = Callable[[bytes, str, PixelForm], Samples]


def _require_size(rows: int, columns: int, form: PixelForm) -> None:
    if (rows, columns) != (form.rows, form.columns):
        raise UnreadableError("The compressed frame has another size than the header says.")


def _check_stated_size(encoded: bytes, form: PixelForm) -> None:
    """Hold the size in a JPEG or JPEG-LS frame header against ours before memory is taken for it.

    Raises `UnreadableError` where they differ, or where no frame header is found.
    """
    at = 2
    while at + 9 <= len(encoded):
        marker, length = struct.unpack_from(">HH", encoded, at)
        if marker in _FRAME_HEADERS:
            rows, columns = struct.unpack_from(">HH", encoded, at + 5)
            _require_size(rows, columns, form)
            return
        at += 1 if marker == 0xFFFF else 2 + length
    raise UnreadableError("The compressed frame has no frame header.")


def _with_charls(encoded: bytes, _: str, form: PixelForm) -> Samples:
    _check_stated_size(encoded, form)
    buffer, info = jpeg_ls.decode_buffer(encoded)
    depth = 1 if info["bits_per_sample"] <= 8 else 2
    samples = np.frombuffer(buffer, dtype=f"<u{depth}")
    if info["components"] > 1 and info["interleave_mode"] == 0:
        planes = samples.reshape(form.samples, form.rows, form.columns)
        return planes.transpose(1, 2, 0)
    return samples


def _with_openjpeg(encoded: bytes, _: str, form: PixelForm) -> Samples:
    stated = get_parameters(encoded)
    _require_size(int(stated["rows"]), int(stated["columns"]), form)
    return decode_openjpeg(encoded)


def _with_rle(encoded: bytes, _: str, form: PixelForm) -> Samples:
    frame = decode_rle_frame(encoded, form.rows * form.columns, form.bits_allocated, "<")
    planes = np.frombuffer(frame, dtype=f"<u{form.bits_allocated // 8}")
    return planes.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)


def _with_gdcm(encoded: bytes, transfer_syntax_uid: str, form: PixelForm) -> Samples:
    _check_stated_size(encoded, form)
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": 1,
        "samples_per_pixel": form.samples,
        "photometric_interpretation": form.photometric,
        "pixel_representation": int(form.is_signed),
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "planar_configuration": int(form.planar),
        "pixel_keyword": "PixelData",
    }
    decoded, _ = get_decoder(transfer_syntax_uid).as_array(
        encapsulate([encoded], has_bot=False),
        index=0,
        decoding_plugin="gdcm",
        raw=True,
        **options,
    )
    return decoded


# One decoder for each: the fastest of those measured, never whichever happens to be installed.
_DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "1.2.840.10008.1.2.4.50": _with_gdcm,
        "1.2.840.10008.1.2.4.57": _with_gdcm,
        "1.2.840.10008.1.2.4.70": _with_gdcm,
        "1.2.840.10008.1.2.4.80": _with_charls,
        "1.2.840.10008.1.2.4.81": _with_charls,
        "1.2.840.10008.1.2.4.90": _with_openjpeg,
        "1.2.840.10008.1.2.4.91": _with_openjpeg,
        "1.2.840.10008.1.2.4.201": _with_openjpeg,
        "1.2.840.10008.1.2.4.202": _with_openjpeg,
        "1.2.840.10008.1.2.4.203": _with_openjpeg,
        "1.2.840.10008.1.2.5": _with_rle,
    }
)


@cache
def decodable() -> frozenset[str]:
    """UIDs of the transfer syntaxes that this machine decodes, each proved once on a tiny frame."""
    frames = probe_frames()
    return NATIVE | {uid for uid in _DECODERS if _is_proved(uid, frames[uid])}


def _is_proved(transfer_syntax_uid: str, probe: ProbeFrame) -> bool:
    rows, columns = probe.expected.shape
    try:
        decoded = decode_frame(probe.encoded, transfer_syntax_uid, PixelForm(rows, columns))
    except (NotDecodableError, UnreadableError):
        return False
    difference = np.abs(decoded.astype(np.int64) - probe.expected)
    return bool(difference.max() <= probe.tolerance)


def decode_frame(encoded: bytes, transfer_syntax_uid: str, form: PixelForm) -> Samples:
    """Decode one frame to ``(rows, columns)``, or ``(rows, columns, samples)`` if coloured.

    The result has the sign and the size that ``form`` says, bits outside of Bits Stored removed.

    Raises
    ------
    NotDecodableError
        No decoder for this transfer syntax.
    UnreadableError
        The stream is broken, or holds another frame than the header says.
    """
    if transfer_syntax_uid in NATIVE:
        return _native_frame(encoded, transfer_syntax_uid, form)
    decoder = _DECODERS.get(transfer_syntax_uid)
    if decoder is None:
        raise NotDecodableError(f"No decoder for transfer syntax {transfer_syntax_uid}.")
    try:
        decoded = decoder(encoded, transfer_syntax_uid, form)
    except _DECODER_FAULTS as fault:
        raise UnreadableError("The compressed pixel data is broken.") from fault
    return settle_bits(_shaped(decoded, form), form, high_bit=form.bits_stored - 1)


def _native_frame(encoded: bytes, transfer_syntax_uid: str, form: PixelForm) -> Samples:
    if len(encoded) < form.frame_bytes:
        raise UnreadableError("Pixel Data is shorter than its dimensions say.")
    is_big = transfer_syntax_uid == EXPLICIT_BIG
    dtype = form.dtype.newbyteorder(">" if is_big else "<")
    stored = np.frombuffer(encoded[: form.frame_bytes], dtype=dtype)
    if form.samples > 1 and form.planar:
        stored = stored.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return settle_bits(_shaped(stored, form), form, high_bit=form.high_bit)


def _shaped(samples: Samples, form: PixelForm) -> Samples:
    shape = (form.rows, form.columns) if form.samples == 1 else (
        form.rows, form.columns, form.samples,
    )  # fmt: skip
    if samples.size != form.rows * form.columns * form.samples:
        raise UnreadableError("The compressed frame has another size than the header says.")
    return samples.reshape(shape)


def settle_bits(samples: Samples, form: PixelForm, high_bit: int) -> Samples:
    """Give the samples the header's sign and size, and drop overlay or filling bits.

    A JPEG-LS stream has no sign, and a JPEG 2000 stream may contradict the header's; what counts
    is Pixel Representation with Bits Stored.
    """
    size = form.bits_allocated // 8
    native = samples.dtype.newbyteorder("=")
    if samples.dtype.itemsize != size:
        native = np.dtype(f"{samples.dtype.kind}{size}")
    settled = samples.astype(native, copy=False).view(form.dtype)
    left = form.bits_allocated - 1 - high_bit
    right = form.bits_allocated - form.bits_stored
    if left == 0 and right == 0:
        return settled
    return (settled << left) >> right

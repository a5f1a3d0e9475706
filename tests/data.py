"""Builders of small data sets: a series with the fault that a test is about, and no other.

The same arguments give the same bytes; UIDs derive from the words for study and series, so that
two builders with the same words make objects of one study.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
# Where columns and rows of a slice go, in patient LPS.
PLANES = {
    "axial": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "coronal": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
    "sagittal": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]),
}
CT_PADDING = -2000
INTERCEPT = -1024


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a test's images belong to."""

    patient_id: str = "PHANTOM-1"
    name: str = "Phantom^Chest"
    birth_date: str = "19600101"
    sex: str = "O"
    issuer: str = ""


PHANTOM = Patient()


def uid(*parts: object) -> str:
    """The UID that always belongs to these words."""
    name = "|".join(str(part) for part in parts)
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'dicomnode tests ' + name).int}"


def ct_series(
    *,
    slices: int = 20,
    missing: Collection[int] = (),
    duplicate: Collection[int] = (),
    tilt: float = 0.0,
    rows: int = 64,
    columns: int | None = None,
    spacing: tuple[float, float, float] = (2.5, 1.25, 1.25),
    study: str = "study",
    series: str = "ct",
    patient: Patient = PHANTOM,
    kernel: str = "STANDARD",
    body_part: str = "CHEST",
    description: str = "Chest CT",
    series_number: int = 2,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    accession_number: str = "ACC1",
    transfer_syntax: str = ExplicitVRLittleEndian,
    charset: str = "ISO_IR 100",
    values: NDArray[np.int16] | None = None,
    plane: str = "axial",
) -> list[FileDataset]:
    """CT images, feet first in the list; ``missing`` and ``duplicate`` are places in the stack.

    ``tilt`` leans the gantry by so many degrees: the stack is then sheared. A duplicate is another
    instance at the same position. ``values`` are HU ``(slices, rows, columns)``; by default a body
    of 40 HU with a lung of −850 HU on each side. ``plane`` is one of `PLANES`; others than axial
    want ``values``, and their slices go on to the patient's back or right.
    """
    columns = columns or rows
    hounsfield = body_slices(slices, rows, columns) if values is None else values
    angle = np.radians(tilt)
    orientation = [1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle))]
    if plane != "axial":
        orientation = PLANES[plane].ravel().tolist()
    centre = PLANES[plane].T @ np.array([columns * spacing[2] / 2, rows * spacing[1] / 2])
    onward = np.cross(*PLANES[plane])
    places = [(place, False) for place in range(slices) if place not in set(missing)]
    places += [(place, True) for place in sorted(duplicate)]
    datasets = []
    for place, is_copy in places:
        number = place + 1 + (1000 if is_copy else 0)
        dataset = _image(CTImageStorage, "CT", patient, charset)
        _identify(dataset, study, series, number)
        dataset.AccessionNumber = accession_number
        dataset.SeriesNumber = series_number
        dataset.SeriesDescription = description
        dataset.BodyPartExamined = body_part
        dataset.ImageType = list(image_type)
        dataset.FrameOfReferenceUID = uid(study, "frame of reference")
        dataset.PositionReferenceIndicator = ""
        dataset.ImageOrientationPatient = [round(part, 6) for part in orientation]
        corner = (-100.0 + place * spacing[0]) * onward - centre
        dataset.ImagePositionPatient = [round(float(part), 6) for part in corner]
        dataset.PixelSpacing = [spacing[1], spacing[2]]
        dataset.SliceThickness = spacing[0]
        dataset.KVP = 120
        dataset.GantryDetectorTilt = tilt
        dataset.PatientPosition = "HFS"
        dataset.ConvolutionKernel = kernel
        dataset.AcquisitionNumber = 1
        dataset.RescaleIntercept = INTERCEPT
        dataset.RescaleSlope = 1
        dataset.RescaleType = "HU"
        _put_pixels(dataset, (hounsfield[place] - INTERCEPT).astype(np.int16), "MONOCHROME2")
        datasets.append(encoded(dataset, transfer_syntax))
    return datasets


def mr_series(
    *,
    slices: int = 8,
    rows: int = 32,
    study: str = "study",
    series: str = "mr",
    patient: Patient = PHANTOM,
    body_part: str = "BRAIN",
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[FileDataset]:
    """Axial MR images of a bright ball."""
    values = (body_slices(slices, rows, rows) + 1100).clip(0).astype(np.uint16)
    datasets = []
    for place in range(slices):
        dataset = _image(MRImageStorage, "MR", patient, "ISO_IR 100")
        _identify(dataset, study, series, place + 1)
        dataset.SeriesDescription = "T1 axial"
        dataset.BodyPartExamined = body_part
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        dataset.ScanningSequence, dataset.SequenceVariant = "SE", "NONE"
        dataset.ScanOptions, dataset.MRAcquisitionType = "", "2D"
        dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = 12, 500, 1
        dataset.FrameOfReferenceUID = uid(study, "frame of reference")
        dataset.PositionReferenceIndicator = ""
        dataset.PatientPosition = "HFS"
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-rows / 2, -rows / 2, place * 4.0]
        dataset.PixelSpacing = [1.0, 1.0]
        dataset.SliceThickness = 4.0
        _put_pixels(dataset, values[place], "MONOCHROME2")
        datasets.append(encoded(dataset, transfer_syntax))
    return datasets


def cr_image(
    *,
    rows: int = 96,
    columns: int = 80,
    study: str = "study",
    series: str = "cr",
    number: int = 1,
    patient: Patient = PHANTOM,
    photometric: str = "MONOCHROME2",
    view: str = "PA",
    body_part: str = "CHEST",
    sop_class: str = ComputedRadiographyImageStorage,
    pixel_spacing: tuple[float, float] | None = None,
    imager_pixel_spacing: tuple[float, float] | None = (4.0, 4.0),
    values: NDArray[np.uint16] | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> FileDataset:
    """One radiograph, CR by default or DX by ``sop_class``; values 0…4095, bright is dense.

    MONOCHROME1 stores the same picture turned round.
    """
    is_dx = sop_class == DigitalXRayImageStorageForPresentation
    dataset = _image(sop_class, "DX" if is_dx else "CR", patient, "ISO_IR 100")
    _identify(dataset, study, series, number)
    dataset.SeriesDescription = "Chest " + view
    dataset.BodyPartExamined = body_part
    dataset.ViewPosition = view
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    if pixel_spacing:
        dataset.PixelSpacing = list(pixel_spacing)
    if imager_pixel_spacing:
        dataset.ImagerPixelSpacing = list(imager_pixel_spacing)
    if is_dx:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.ImageLaterality = "U"
        dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    shape = body_slices(3, rows, columns)[1]
    stored = ((shape + 1000) * 2.0 + 500).astype(np.uint16) if values is None else values
    if photometric == "MONOCHROME1":
        stored = (4095 - stored).astype(np.uint16)
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    _put_pixels(dataset, stored.astype(np.uint16), photometric, bits_stored=12)
    return encoded(dataset, transfer_syntax)


def enhanced_ct(
    *,
    frames: int = 6,
    rows: int = 32,
    study: str = "study",
    series: str = "enhanced",
    patient: Patient = PHANTOM,
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    slopes: Sequence[float] | None = None,
) -> FileDataset:
    """One Enhanced CT object; each frame may have a rescale slope of its own."""
    dataset = _image(EnhancedCTImageStorage, "CT", patient, "ISO_IR 100")
    _identify(dataset, study, series, 1)
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.FrameOfReferenceUID = uid(study, "frame of reference")
    dataset.NumberOfFrames = frames
    shared = Dataset()
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[2]], spacing[0]
    shared.PixelMeasuresSequence = DicomSequence([measures])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    per_frame = []
    for place in range(frames):
        item, position, rescale, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-rows / 2, -rows / 2, place * spacing[0]]
        item.PlanePositionSequence = DicomSequence([position])
        rescale.RescaleIntercept, rescale.RescaleType = INTERCEPT, "HU"
        rescale.RescaleSlope = slopes[place] if slopes else 1
        item.PixelValueTransformationSequence = DicomSequence([rescale])
        content.InStackPositionNumber, content.StackID = place + 1, "1"
        content.DimensionIndexValues = [place + 1]
        item.FrameContentSequence = DicomSequence([content])
        per_frame.append(item)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(per_frame)
    stored = (body_slices(frames, rows, rows) - INTERCEPT).astype(np.int16)
    _put_pixels(dataset, stored, "MONOCHROME2")
    return encoded(dataset, ExplicitVRLittleEndian)


def structured_report(
    *, study: str = "study", series: str = "sr", patient: Patient = PHANTOM
) -> FileDataset:
    """A Comprehensive SR without content: an object that has no pixels."""
    dataset = _image("1.2.840.10008.5.1.4.1.1.88.33", "SR", patient, "ISO_IR 192")
    _identify(dataset, study, series, 1)
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ContentDate, dataset.ContentTime = dataset.StudyDate, dataset.StudyTime
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    return encoded(dataset, ExplicitVRLittleEndian)


def body_slices(slices: int, rows: int, columns: int) -> NDArray[np.int16]:
    """HU ``(slices, rows, columns)`` of a body with two lungs of −850 HU; no slice comes twice."""
    row = np.linspace(-1, 1, rows)[None, :, None]
    column = np.linspace(-1, 1, columns)[None, None, :]
    height = np.linspace(-1, 1, slices)[:, None, None] if slices > 1 else np.zeros((1, 1, 1))
    image = np.where((row / 0.7) ** 2 + (column / 0.9) ** 2 < 1.0, 40, -1000)
    for side in (-0.4, 0.4):
        lung = (row / 0.5) ** 2 + ((column - side) / 0.3) ** 2 + (height / 1.05) ** 2 < 1.0
        image = np.where(lung, -850, image)
    image = image + np.arange(slices)[:, None, None]
    return np.ascontiguousarray(image.astype(np.int16))


def encoded(dataset: Dataset, transfer_syntax: str) -> FileDataset:
    """``dataset`` (native little endian pixels) in ``transfer_syntax``, with its file meta."""
    file = _with_meta(dataset, ExplicitVRLittleEndian)
    if transfer_syntax == ExplicitVRBigEndian:
        return _turned_round(file)
    if transfer_syntax in NATIVE:
        file.file_meta.TransferSyntaxUID = transfer_syntax
        return dcmread(io.BytesIO(as_bytes(file)))
    if transfer_syntax == JPEG2000Lossless:
        # pydicom has no encoder of its own for it; the codec is asked directly.
        frame = encode_array(file.pixel_array, photometric_interpretation=2, use_mct=False)
        file.PixelData = encapsulate([frame])
        file["PixelData"].VR = "OB"
        file.file_meta.TransferSyntaxUID = transfer_syntax
        return file
    file.compress(transfer_syntax, generate_instance_uid=False)
    return file


def save(dataset: Dataset, path: Path) -> Path:
    """Write ``dataset`` as a file with preamble and meta; gives ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(dataset))
    return path


def save_all(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write each data set into ``folder`` under a name of four digits, in the order given."""
    return [save(dataset, folder / f"{n:04}.dcm") for n, dataset in enumerate(datasets)]


def as_bytes(dataset: Dataset) -> bytes:
    """The file as bytes: preamble, meta, data set."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def not_dicom() -> bytes:
    """Bytes that are no DICOM file: the start of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


def truncated(dataset: Dataset, keep: float = 0.6) -> bytes:
    """The first part (0…1) of the file, as a broken transfer leaves it."""
    whole = as_bytes(dataset)
    return whole[: int(len(whole) * keep)]


def _image(sop_class_uid: str, modality: str, patient: Patient, charset: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.Manufacturer = "PHANTOM"
    dataset.ManufacturerModelName = "Test data"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.PatientID = patient.patient_id
    dataset.PatientName = patient.name
    dataset.PatientBirthDate = patient.birth_date
    dataset.PatientSex = patient.sex
    if patient.issuer:
        dataset.IssuerOfPatientID = patient.issuer
    return dataset


def _identify(dataset: Dataset, study: str, series: str, number: int) -> None:
    dataset.StudyInstanceUID = uid(study)
    dataset.SeriesInstanceUID = uid(study, series)
    dataset.SOPInstanceUID = uid(study, series, number)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20240102"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101500"
    dataset.StudyID = "1"
    dataset.StudyDescription = "Test study"
    dataset.AccessionNumber = "ACC1"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number


def _put_pixels(
    dataset: Dataset, stored: NDArray[np.generic], photometric: str, bits_stored: int = 16
) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(stored.dtype == np.int16)
    pixels = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"] = DataElement(0x7FE00010, "OW", pixels)


def _with_meta(dataset: Dataset, transfer_syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = uid("implementation")
    return FileDataset("", dataset, file_meta=meta, preamble=b"\0" * 128)


def _turned_round(file: FileDataset) -> FileDataset:
    """``file`` in Explicit VR Big Endian: the writer turns numbers round, but not pixels."""
    if "PixelData" in file:
        file.PixelData = np.frombuffer(file.PixelData, dtype="<u2").astype(">u2").tobytes()
    file.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, file, implicit_vr=False, little_endian=False, force_encoding=True)
    buffer.seek(0)
    return dcmread(buffer)

"""Phantoms as DICOM files: what a scanner would send, for the demonstration and for tests.

Every object names its patient as a phantom. UIDs derive from the seed, so that the same study
written twice is the same study.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from dicomnode.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derived_uid
from dicomnode.imaging.phantoms import ChestPhantom, RadiographPhantom

RESCALE_INTERCEPT = -1024
STORED_MAXIMUM = 4095


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """Whose study it is said to be, and the seed that its UIDs derive from."""

    seed: str = "0"
    patient_id: str = "PHANTOM-1"
    patient_name: str = "PHANTOM^Chest"
    accession_number: str = "PHANTOM1"
    study_date: str = "20240102"
    study_time: str = "101500"

    def uid(self, *parts: object) -> str:
        """The UID of a part of this study."""
        words = [self.seed, self.patient_id, self.accession_number, *map(str, parts)]
        return derived_uid("phantom study", *words)


def write_chest_ct(
    phantom: ChestPhantom,
    folder: Path,
    study: PhantomStudy | None = None,
    *,
    series_number: int = 2,
) -> list[Path]:
    """Write one CT Image object per slice into ``folder``; gives the paths, feet first.

    Values are HU + 1024 in 16 signed bits, Explicit VR Little Endian (PS3.3 A.3).
    """
    study = study or PhantomStudy()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for place in range(phantom.array.shape[0]):
        dataset = _slice(phantom, study, series_number, place)
        path = folder / f"CT{place + 1:04}.dcm"
        _write(dataset, path)
        paths.append(path)
    return paths


def write_radiograph(
    phantom: RadiographPhantom,
    folder: Path,
    study: PhantomStudy | None = None,
    *,
    is_dx: bool = True,
    photometric_interpretation: str = "MONOCHROME2",
) -> list[Path]:
    """Write the radiograph as a DX (PS3.3 A.26) or CR (PS3.3 A.2) object; gives its one path.

    MONOCHROME1 stores the same picture with its values turned round.
    """
    study = study or PhantomStudy()
    folder.mkdir(parents=True, exist_ok=True)
    sop_class_uid = (
        DigitalXRayImageStorageForPresentation if is_dx else ComputedRadiographyImageStorage
    )
    modality = "DX" if is_dx else "CR"
    dataset = _common(study, sop_class_uid, modality)
    _identify(dataset, study, f"{modality} {photometric_interpretation}", 1)
    _describe_view(dataset, phantom, is_dx)
    stored = np.rint(phantom.array * STORED_MAXIMUM).astype(np.uint16)
    if photometric_interpretation == "MONOCHROME1":
        stored = (STORED_MAXIMUM - stored).astype(np.uint16)
    _put_pixels(dataset, stored, photometric_interpretation, bits_stored=12)
    if is_dx:
        _describe_dx(dataset, photometric_interpretation)
    path = folder / f"{modality}0001.dcm"
    _write(dataset, path)
    return [path]


def _slice(phantom: ChestPhantom, study: PhantomStudy, series_number: int, place: int) -> Dataset:
    dataset = _common(study, CTImageStorage, "CT")
    _identify(dataset, study, f"CT {series_number}", place + 1)
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = "Chest phantom 2.5 mm"
    dataset.StudyDescription = "CT chest"
    dataset.ProtocolName = "Chest phantom"
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientPosition = "HFS"
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.ConvolutionKernel = "STANDARD"
    dataset.GantryDetectorTilt = 0
    dataset.FrameOfReferenceUID = study.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    step, row_mm, column_mm = phantom.spacing
    x, y, z = phantom.origin
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [x, y, z + place * step]
    dataset.SliceLocation = z + place * step
    dataset.PixelSpacing = [row_mm, column_mm]
    dataset.SliceThickness = step
    dataset.RescaleIntercept = RESCALE_INTERCEPT
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter = [-600, 40]
    dataset.WindowWidth = [1500, 400]
    dataset.WindowCenterWidthExplanation = ["LUNG", "SOFT TISSUE"]
    stored = (phantom.array[place].astype(np.int32) - RESCALE_INTERCEPT).astype(np.int16)
    _put_pixels(dataset, stored, "MONOCHROME2", bits_stored=16)
    return dataset


def _describe_view(dataset: Dataset, phantom: RadiographPhantom, is_dx: bool) -> None:
    """Say which view it is, for both kinds of radiograph."""
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "Chest phantom PA"
    dataset.StudyDescription = "Chest radiograph"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""] if is_dx else ["ORIGINAL", "PRIMARY"]
    dataset.ImagerPixelSpacing = list(phantom.pixel_spacing)
    dataset.WindowCenter = (STORED_MAXIMUM + 1) // 2
    dataset.WindowWidth = STORED_MAXIMUM + 1
    dataset.BurnedInAnnotation = "NO"


def _describe_dx(dataset: Dataset, photometric_interpretation: str) -> None:
    """Add what only a DX object has (PS3.3 C.8.11)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = (
        -1 if photometric_interpretation == "MONOCHROME2" else 1
    )
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = (
        "IDENTITY" if photometric_interpretation == "MONOCHROME2" else "INVERSE"
    )
    dataset.LossyImageCompression = "00"
    dataset.DetectorType = "DIRECT"
    dataset.PositionerType = ""
    dataset.ImageLaterality = "U"
    dataset.AcquisitionContextSequence = Sequence()
    dataset.AnatomicRegionSequence = Sequence([_code("816094009", "SCT", "Chest")])
    view = _code("399348003", "SCT", "postero-anterior")
    view.ViewModifierCodeSequence = Sequence()
    dataset.ViewCodeSequence = Sequence([view])


def _common(study: PhantomStudy, sop_class_uid: str, modality: str) -> Dataset:
    """Patient, equipment and what every object carries."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.Manufacturer = "PHANTOM"
    dataset.ManufacturerModelName = "Drawn chest"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = IMPLEMENTATION_VERSION_NAME
    dataset.InstitutionName = "PHANTOM"
    dataset.PatientID = study.patient_id
    dataset.PatientName = study.patient_name
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    return dataset


def _identify(dataset: Dataset, study: PhantomStudy, series: str, number: int) -> None:
    dataset.StudyInstanceUID = study.uid("study")
    dataset.SeriesInstanceUID = study.uid("series", series)
    dataset.SOPInstanceUID = study.uid("series", series, number)
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{kind}Date", study.study_date)
        setattr(dataset, f"{kind}Time", study.study_time)
    dataset.StudyID = "1"
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.InstanceNumber = number


def _put_pixels(
    dataset: Dataset,
    stored: NDArray[np.int16] | NDArray[np.uint16],
    photometric_interpretation: str,
    bits_stored: int,
) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric_interpretation
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(stored.dtype == np.int16)
    pixels = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"] = DataElement(0x7FE00010, "OW", pixels)


def _code(value: str, scheme: str, meaning: str) -> Any:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _write(dataset: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = FileDataset(path, dataset, file_meta=meta, preamble=b"\0" * 128)
    dcmwrite(path, file, enforce_file_format=True)

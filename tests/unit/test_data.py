"""The builders that other tests stand on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from tests import data

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big endian": "1.2.840.10008.1.2.2",
    "JPEG-LS lossless": "1.2.840.10008.1.2.4.80",
    "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}


@pytest.mark.parametrize("transfer_syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_pixels_are_the_same_in_every_transfer_syntax(transfer_syntax: str) -> None:
    (made,) = data.ct_series(slices=1, rows=64, transfer_syntax=transfer_syntax)
    read = dcmread(io.BytesIO(data.as_bytes(made)))
    assert read.file_meta.TransferSyntaxUID == transfer_syntax
    expected = data.body_slices(1, 64, 64)[0] - data.INTERCEPT
    np.testing.assert_array_equal(read.pixel_array, expected)


def test_a_series_lacks_the_missing_and_repeats_the_duplicate_slices() -> None:
    series = data.ct_series(slices=6, missing={2}, duplicate={4}, rows=8)
    heights = [float(image.ImagePositionPatient[2]) for image in series]
    assert heights == [-100.0, -97.5, -92.5, -90.0, -87.5, -90.0]
    assert len({image.SOPInstanceUID for image in series}) == 6


def test_the_same_words_give_the_same_bytes() -> None:
    first, second = data.cr_image(), data.cr_image()
    assert data.as_bytes(first) == data.as_bytes(second)
    assert data.cr_image(series="other").SOPInstanceUID != first.SOPInstanceUID


def test_a_tilted_stack_is_sheared() -> None:
    image = data.ct_series(slices=1, rows=8, tilt=20.0)[0]
    row, column = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(row, column)
    assert np.degrees(np.arccos(normal[2])) == pytest.approx(20.0, abs=1e-3)


def test_monochrome1_holds_the_same_picture_turned_round() -> None:
    bright, turned = data.cr_image(), data.cr_image(photometric="MONOCHROME1")
    np.testing.assert_array_equal(bright.pixel_array, 4095 - turned.pixel_array)


def test_names_travel_in_the_named_character_set() -> None:
    patient = data.Patient(name="Grün^Öder")
    image = data.ct_series(slices=1, rows=8, patient=patient, charset="ISO_IR 100")[0]
    assert "Grün".encode("latin-1") in data.as_bytes(image)


def test_an_enhanced_object_holds_all_frames(tmp_path: Path) -> None:
    path = data.save(data.enhanced_ct(frames=4, rows=8), tmp_path / "a" / "enhanced.dcm")
    read = dcmread(path)
    assert read.pixel_array.shape == (4, 8, 8)
    assert len(read.PerFrameFunctionalGroupsSequence) == 4


def test_a_cut_file_ends_early_and_a_picture_is_no_dicom() -> None:
    image = data.cr_image()
    assert data.as_bytes(image).startswith(data.truncated(image))
    with pytest.raises(InvalidDicomError):
        dcmread(io.BytesIO(data.not_dicom()))


def test_other_builders_make_objects_of_one_study() -> None:
    made = [*data.mr_series(slices=2), data.structured_report(), data.cr_image()]
    assert len({image.StudyInstanceUID for image in made}) == 1
    assert {image.Modality for image in made} == {"MR", "SR", "CR"}

"""Phantoms written as DICOM are complete objects that hold the phantom's own numbers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.dicom.phantom_study import PhantomStudy, write_chest_ct, write_radiograph
from dicomnode.imaging.phantoms import ChestPhantom, chest_ct, chest_radiograph


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_ct(shape=(6, 64, 64), spacing=(40.0, 5.0, 5.0), nodules=())


def test_slices_hold_the_phantom_in_hounsfield_units_at_its_place(
    chest: ChestPhantom, tmp_path: Path
) -> None:
    paths = write_chest_ct(chest, tmp_path / "ct")
    for place, path in enumerate(paths):
        image = dcmread(path)
        values = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        np.testing.assert_array_equal(values, chest.array[place])
        assert float(image.ImagePositionPatient[2]) == chest.origin[2] + place * 40.0
        assert list(image.PixelSpacing) == [5.0, 5.0]


def test_one_study_series_and_frame_of_reference(chest: ChestPhantom, tmp_path: Path) -> None:
    images = [dcmread(path) for path in write_chest_ct(chest, tmp_path)]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({image[keyword].value for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == len(images)


def test_the_same_seed_writes_the_same_bytes_and_another_another_study(
    chest: ChestPhantom, tmp_path: Path
) -> None:
    first, again, other = (
        write_chest_ct(chest, tmp_path / name, PhantomStudy(seed=seed))[0]
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert first.read_bytes() == again.read_bytes()
    assert dcmread(first).StudyInstanceUID != dcmread(other).StudyInstanceUID


def test_a_monochrome1_radiograph_is_the_same_picture_turned_round(tmp_path: Path) -> None:
    phantom = chest_radiograph()
    (bright,) = write_radiograph(phantom, tmp_path / "a")
    (turned,) = write_radiograph(
        phantom, tmp_path / "b", is_dx=False, photometric_interpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(dcmread(bright).pixel_array, 4095 - dcmread(turned).pixel_array)
    np.testing.assert_allclose(dcmread(bright).pixel_array / 4095, phantom.array, atol=2e-4)


@pytest.mark.peer
def test_an_independent_checker_finds_no_error(chest: ChestPhantom, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    paths = write_chest_ct(chest, tmp_path)[:1]
    paths += write_radiograph(chest_radiograph(), tmp_path)
    paths += write_radiograph(chest_radiograph(), tmp_path, is_dx=False)
    for path in paths:
        report = subprocess.run(
            ["dciodvfy", str(path)], capture_output=True, text=True, check=False
        ).stderr
        assert "Error" not in report, report

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation

from dicomnode.dicom.images2d import window
from dicomnode.dicom.volumes import Loaded, load
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import Image, Images, PixelSpacingOrigin
from tests import data


def images_of(files: list[FileDataset], folder: Path) -> Images:
    found = load(data.save_all(files, folder), "images")
    assert isinstance(found, Loaded), found
    assert isinstance(found.input, Images)
    return found.input


def image_of(file: FileDataset, folder: Path) -> Image:
    return images_of([file], folder).images[0]


def by_hand(stored: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1, its pseudo code with ymin 0 and ymax 1."""
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    inside = (stored - (centre - 0.5)) / (width - 1) + 0.5
    return np.where(stored <= low, 0, np.where(stored > high, 1, inside))


def test_both_photometric_interpretations_show_the_same_picture(tmp_path: Path) -> None:
    bright = image_of(data.cr_image(photometric="MONOCHROME2"), tmp_path / "2")
    turned = image_of(data.cr_image(photometric="MONOCHROME1"), tmp_path / "1")
    assert bright.array.dtype == np.float32
    assert bright.array.min() >= 0
    assert bright.array.max() <= 1
    assert np.allclose(bright.array, turned.array, atol=1e-3)
    lung, body = bright.array[48, 25], bright.array[48, 40]
    assert body > lung


def test_the_window_is_the_standards(tmp_path: Path) -> None:
    stored = np.arange(0, 4096, 32, dtype=np.uint16).reshape(8, 16)
    file = data.cr_image(values=stored, rows=8, columns=16)
    file.WindowCenter, file.WindowWidth = [1000, 5], [501, 5]
    shown = image_of(file, tmp_path).array
    assert np.allclose(shown, by_hand(stored.astype(float), 1000, 501), atol=1e-6)


@pytest.mark.parametrize(
    ("function", "value", "wanted"),
    [
        ("LINEAR", 2048, 0.5 + 0.5 / 4095),
        ("LINEAR", -10, 0),
        ("LINEAR", 5000, 1),
        ("LINEAR_EXACT", 2048, 0.5),
        ("LINEAR_EXACT", 0, 0),
        ("LINEAR_EXACT", 4096, 1),
        ("SIGMOID", 2048, 0.5),
        ("SIGMOID", 4096, 1 / (1 + np.exp(-2))),
    ],
)
def test_window_functions_have_known_answers(function: str, value: float, wanted: float) -> None:
    shown = window(np.array([[value]], np.float32), 2048, 4096, function)
    assert shown[0, 0] == pytest.approx(wanted, abs=1e-6)


def test_a_window_of_one_is_a_threshold() -> None:
    shown = window(np.array([[9.0, 10.0]], np.float32), 10, 1)
    assert shown.tolist() == [[0, 1]]


def test_a_voi_lut_comes_before_the_window(tmp_path: Path) -> None:
    stored = np.array([[9, 10], [11, 12]], dtype=np.uint16)
    file = data.cr_image(values=stored, rows=2, columns=2)
    item = Dataset()
    item.add_new(0x00283002, "US", [3, 10, 8])
    item.add_new(0x00283006, "US", [0, 51, 255])
    file.VOILUTSequence = Sequence([item])
    assert np.allclose(image_of(file, tmp_path).array, [[0, 0], [0.2, 1]])


def test_without_a_usable_window_the_values_are_stretched(tmp_path: Path) -> None:
    stored = np.array([[100, 200], [300, 500]], dtype=np.uint16)
    for number, width in enumerate(("0", "", "-5")):
        file = data.cr_image(values=stored, rows=2, columns=2)
        file.WindowWidth = width
        shown = image_of(file, tmp_path / str(number)).array
        assert np.allclose(shown, [[0, 0.25], [0.5, 1]])


def test_an_image_of_one_value_is_black(tmp_path: Path) -> None:
    file = data.cr_image(values=np.full((2, 2), 7, np.uint16), rows=2, columns=2)
    del file.WindowCenter, file.WindowWidth
    assert not image_of(file, tmp_path).array.any()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_shown_as_dark_as_it_gets(photometric: str, tmp_path: Path) -> None:
    stored = np.array([[0, 100], [300, 4095]], dtype=np.uint16)
    file = data.cr_image(values=stored, rows=2, columns=2)
    file.PhotometricInterpretation = photometric
    del file.WindowCenter, file.WindowWidth
    file.add_new(0x00280120, "US", 4095)
    shown = image_of(file, tmp_path).array
    assert shown[1, 1] == 0
    assert shown.max() == 1


def test_an_image_for_processing_tells_its_sign_itself(tmp_path: Path) -> None:
    stored = np.array([[0, 4095]] * 2, dtype=np.uint16)
    shown = {}
    for sign in (1, -1):
        file = data.cr_image(values=stored, rows=2, columns=2)
        file.PresentationIntentType = "FOR PROCESSING"
        file.PixelIntensityRelationshipSign = sign
        shown[sign] = image_of(file, tmp_path / str(sign)).array[0].round(3).tolist()
    assert shown == {1: [1, 0], -1: [0, 1]}


@pytest.mark.parametrize(
    ("changes", "spacing", "origin"),
    [
        ({}, (4.0, 4.0), PixelSpacingOrigin.IMAGER),
        ({"ImagerPixelSpacing": None}, None, PixelSpacingOrigin.NONE),
        ({"ImagerPixelSpacing": ["0.000", "0.000"]}, None, PixelSpacingOrigin.NONE),
        ({"PixelSpacing": ["0.000", "0.000"]}, (4.0, 4.0), PixelSpacingOrigin.IMAGER),
        ({"PixelSpacing": ["4", "4"]}, (4.0, 4.0), PixelSpacingOrigin.IMAGER),
        ({"PixelSpacing": ["3", "3"]}, (3.0, 3.0), PixelSpacingOrigin.CALIBRATED),
        (
            {"PixelSpacing": ["4", "4"], "PixelSpacingCalibrationType": "FIDUCIAL"},
            (4.0, 4.0),
            PixelSpacingOrigin.CALIBRATED,
        ),
        (
            {"PixelSpacing": ["3", "3"], "ImagerPixelSpacing": None},
            (3.0, 3.0),
            PixelSpacingOrigin.IMAGER,
        ),
        (
            {"EstimatedRadiographicMagnificationFactor": "1.25"},
            (3.2, 3.2),
            PixelSpacingOrigin.CALIBRATED,
        ),
        ({"EstimatedRadiographicMagnificationFactor": "0"}, (4.0, 4.0), PixelSpacingOrigin.IMAGER),
        (
            {"ImagerPixelSpacing": None, "NominalScannedPixelSpacing": ["0.1", "0.2"]},
            (0.1, 0.2),
            PixelSpacingOrigin.IMAGER,
        ),
    ],
)
def test_what_a_pixel_spacing_means(
    changes: dict[str, object],
    spacing: tuple[float, float] | None,
    origin: PixelSpacingOrigin,
    tmp_path: Path,
) -> None:
    file = data.cr_image()
    for keyword, value in changes.items():
        setattr(file, keyword, value)
    image = image_of(file, tmp_path)
    assert image.pixel_spacing == (None if spacing is None else pytest.approx(spacing))
    assert image.pixel_spacing_origin is origin


def test_images_come_in_the_order_of_instance_number_with_their_headers(tmp_path: Path) -> None:
    files = [data.cr_image(number=n, view=view) for n, view in ((2, "LL"), (1, "PA"))]
    found = load(data.save_all(files, tmp_path), "images")
    assert isinstance(found, Loaded)
    assert isinstance(found.input, Images)
    assert [image.view_position for image in found.input.images] == ["PA", "LL"]
    assert [dataset.InstanceNumber for dataset in found.source.datasets] == [1, 2]
    assert found.input.images[0].patient_orientation == ("L", "F")


def test_sides_are_told_and_no_side_is_none(tmp_path: Path) -> None:
    dx = data.cr_image(sop_class=DigitalXRayImageStorageForPresentation)
    assert image_of(dx, tmp_path / "u").laterality == ""
    dx.ImageLaterality = "L"
    assert image_of(dx, tmp_path / "l").laterality == "L"


def test_broken_pixels_are_declined(tmp_path: Path) -> None:
    file = data.cr_image()
    file.PixelData = b"\x00" * 10
    found = load([data.save(file, tmp_path / "x")], "images")
    assert isinstance(found, Reason)
    assert found.code == "declined.not_decodable"


def test_a_multi_frame_object_is_no_radiograph(tmp_path: Path) -> None:
    found = load([data.save(data.enhanced_ct(), tmp_path / "x")], "images")
    assert isinstance(found, Reason)
    assert found.parameters["kind"] == "multi-frame"


def test_memory_is_counted_first(tmp_path: Path) -> None:
    found = load([data.save(data.cr_image(), tmp_path / "x")], "images", largest_bytes=1000)
    assert isinstance(found, Reason)
    assert found.code == "declined.too_large"

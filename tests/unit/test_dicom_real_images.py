"""Real and deliberately odd files: each is read, or refused in words; nothing else may happen."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.dicom.compare import same_content
from dicomnode.dicom.headers import read_header, to_row
from dicomnode.dicom.stored_images import open_image
from dicomnode.dicom.volumes import Loaded, load
from dicomnode.errors import UnreadableError
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.sdk import Images, PixelSpacingOrigin, Volume

# Cut off, not beginning like DICOM, or in a byte order that no transfer syntax has.
UNREADABLE = {
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm",
    "MR_truncated.dcm",
    "meta_missing_tsyntax.dcm",
    "no_meta.dcm",
    "rtplan_truncated.dcm",
}


def odd_files(data_folder: Path) -> list[Path]:
    folders = [data_folder / "dicom-zoo", data_folder / "single-images"]
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".csv"
    ]


def files_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix in (".dcm", "") and path.is_file()
    )


def test_every_odd_file_has_a_header_or_is_unreadable_in_words(data_folder: Path) -> None:
    unreadable = {}
    for path in odd_files(data_folder):
        try:
            header = read_header(path)
        except UnreadableError as fault:
            unreadable[path.name] = str(fault)
            continue
        json.dumps(to_row(header))
    assert set(unreadable) == UNREADABLE
    assert all(words.endswith(".") for words in unreadable.values())


def test_headers_agree_with_the_index_of_the_collection(data_folder: Path) -> None:
    for folder in ("dicom-zoo", "single-images"):
        with (data_folder / folder / "index.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert rows
        for row in rows:
            path = data_folder / row["file"]
            if path.name in UNREADABLE:
                continue
            header = read_header(path)
            assert header.modality == row["modality"] or not row["modality"], path
            if row["frames"].isdigit():
                assert header.frames == int(row["frames"]), path


@pytest.mark.parametrize("takes", ["volume", "images"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_odd_file_loads_or_is_declined_with_a_reason(data_folder: Path, takes: str) -> None:
    loaded = 0
    for path in odd_files(data_folder):
        if path.name in UNREADABLE:
            continue
        found = load([path], takes)
        if isinstance(found, Reason):
            assert found.code.startswith("declined."), path
            assert "{" not in sentence(found)
        else:
            loaded += 1
    # Two more are pictures, and of no study: no result could name it.
    assert loaded == (0 if takes == "volume" else 30)


def test_one_slice_in_many_transfer_syntaxes_decodes_to_the_same_pixels(data_folder: Path) -> None:
    folder = data_folder / "dicom-zoo" / "syntaxes"
    files = {path.name.split(".dcm_")[1].split("_")[0]: path for path in folder.glob("CTImage*")}
    wanted = dcmread(files["LittleEndianExplicitTransferSyntax"]).pixel_array
    lossless = (
        "BigEndianExplicitTransferSyntax",
        "JPEG2000LosslessOnlyTransferSyntax",
        "JPEGLSLosslessTransferSyntax",
        "JPEGProcess14SV1TransferSyntax",
        "JPEGProcess14TransferSyntax",
        "RLELosslessTransferSyntax",
    )
    for name in lossless:
        assert np.array_equal(open_image(files[name]).decode(), wanted), name
    for name in ("JPEG2000TransferSyntax", "JPEGLSLossyTransferSyntax"):
        decoded = open_image(files[name]).decode()
        assert np.abs(decoded.astype(int) - wanted).mean() < 5, name


def test_every_readable_file_is_the_same_as_itself(data_folder: Path) -> None:
    for path in odd_files(data_folder):
        assert same_content(path, path) is (path.name not in UNREADABLE), path


def test_a_radiograph_without_preamble_is_a_picture(data_folder: Path) -> None:
    found = load([data_folder / "dicom-zoo" / "odd" / "CR-MONO1-10-chest"], "images")
    assert isinstance(found, Loaded)
    assert isinstance(found.input, Images)
    (image,) = found.input.images
    assert image.array.shape == (440, 440)
    assert image.pixel_spacing_origin is PixelSpacingOrigin.NONE


def test_a_pixel_spacing_of_zero_is_none(data_folder: Path) -> None:
    found = load([data_folder / "single-images" / "RG1_J2KI.dcm"], "either")
    assert isinstance(found, Loaded)
    assert isinstance(found.input, Images)
    (image,) = found.input.images
    assert image.pixel_spacing is None
    # MONOCHROME1: the spine is brighter than the lung beside it.
    rows, columns = image.array.shape
    middle = image.array[rows // 2 - 50 : rows // 2 + 50, columns // 2 - 40 : columns // 2 + 40]
    lung = image.array[rows // 3 : rows // 3 + 100, columns // 4 : columns // 4 + 80]
    assert middle.mean() > lung.mean()


@pytest.mark.parametrize(
    ("folder", "code", "words"),
    [
        ("lungs-ct/RIDER-0109/dicom-joint", "declined.geometry", "doubled positions"),
        ("ct-head-phantom-tilt", "declined.geometry", "tilted gantry, 18.5 degrees"),
    ],
)
def test_real_series_that_are_no_volume_are_declined(
    data_folder: Path, folder: str, code: str, words: str
) -> None:
    found = load(files_in(data_folder / folder), "volume")
    assert isinstance(found, Reason)
    assert found.code == code
    assert words in sentence(found)


def volume_of(folder: Path) -> Volume:
    found = load(files_in(folder), "volume")
    assert isinstance(found, Loaded), found
    assert isinstance(found.input, Volume)
    return found.input


def test_a_real_chest_is_loaded_with_air_at_minus_thousand(data_folder: Path) -> None:
    volume = volume_of(data_folder / "ct-chest-cptac-raw")
    assert volume.shape == (6, 512, 512)
    assert volume.spacing == pytest.approx((3.0, 0.564453125, 0.564453125))
    for index, path in enumerate(
        sorted(
            files_in(data_folder / "ct-chest-cptac-raw"),
            key=lambda path: float(dcmread(path).ImagePositionPatient[2]),
        )
    ):
        dataset = dcmread(path)
        wanted = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(volume.array[index], wanted)


def test_a_real_pet_has_suv_of_a_patient(data_folder: Path) -> None:
    volume = volume_of(data_folder / "lungs-ct" / "ACRIN-NSCLC-FDG-PET-042" / "pet-ac")
    assert volume.shape == (135, 128, 128)
    # Tracer spreads over the body: near 1 on average, tens only in tumour, brain and bladder.
    assert 10 < volume.array.max() < 100
    assert 0.3 < volume.array[volume.array > 0.3].mean() < 3


def test_an_oblique_real_stack_keeps_its_geometry(data_folder: Path) -> None:
    folder = data_folder / "mr-brain-datalad"
    volume = volume_of(folder)
    planes = sorted(
        (
            np.array(dcmread(path, stop_before_pixels=True).ImagePositionPatient, float)
            for path in files_in(folder)
        ),
        key=lambda position: float(position @ volume.direction[0]),
    )
    first = np.array([[index, 0, 0] for index in range(len(planes))], float)
    assert np.allclose(volume.to_patient(first), planes, atol=0.02)

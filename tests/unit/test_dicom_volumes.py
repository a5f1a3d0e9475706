from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.dicom.calibration import HOUNSFIELD, SUV_BODY_WEIGHT, UNCALIBRATED
from dicomnode.dicom.volumes import Loaded, headers_of, load
from dicomnode.errors import UnreadableError
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.sdk import Volume
from tests import data


def loaded(images: list[FileDataset], folder: Path, takes: str = "volume") -> Loaded:
    found = load(data.save_all(images, folder), takes)
    assert isinstance(found, Loaded), found
    return found


def volume_of(images: list[FileDataset], folder: Path) -> Volume:
    found = loaded(images, folder).input
    assert isinstance(found, Volume)
    return found


def declined(images: list[FileDataset], folder: Path, takes: str = "volume") -> Reason:
    found = load(data.save_all(images, folder), takes)
    assert isinstance(found, Reason)
    words = sentence(found)
    assert words.endswith(".")
    assert "{" not in words
    return found


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
    ],
)
def test_values_are_hounsfield_units_in_every_encoding(
    transfer_syntax: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(7).integers(-1024, 3000, (5, 32, 40)).astype(np.int16)
    images = data.ct_series(
        slices=5, rows=32, columns=40, values=values, transfer_syntax=transfer_syntax
    )
    volume = volume_of(images, tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, values)
    assert volume.unit == HOUNSFIELD
    assert volume.spacing == (2.5, 1.25, 1.25)
    assert volume.origin == (-25.0, -20.0, -100.0)
    assert not volume.array.flags.writeable
    assert volume.series.kernel == "STANDARD"
    assert volume.series.body_part == "CHEST"


def test_files_in_any_order_give_one_volume_and_the_headers_in_its_order(tmp_path: Path) -> None:
    images = data.ct_series(slices=8)
    mixed = [images[index] for index in (5, 0, 7, 2, 1, 6, 3, 4)]
    found = loaded(mixed, tmp_path)
    assert isinstance(found.input, Volume)
    assert np.array_equal(found.input.array, data.body_slices(8, 64, 64))
    assert found.source.is_volume
    assert [dataset.InstanceNumber for dataset in found.source.datasets] == list(range(1, 9))
    assert all("PixelData" not in dataset for dataset in found.source.datasets)
    assert [path.name for path in found.source.paths[:2]] == ["0001.dcm", "0004.dcm"]
    dataset, frame = found.source.image_of(2)
    assert (dataset.InstanceNumber, frame) == (3, None)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    images = data.ct_series(slices=4, rows=8)
    stored = np.arange(64, dtype=np.int16).reshape(8, 8)
    for number, image in enumerate(images):
        image.PixelData = stored.tobytes()
        image.RescaleSlope, image.RescaleIntercept = number + 0.5, -10 * number
    volume = volume_of(images, tmp_path)
    for number in range(4):
        assert np.allclose(volume.array[number], stored * (number + 0.5) - 10 * number)


def test_padding_lies_a_trace_below_the_least_value_that_was_measured(tmp_path: Path) -> None:
    values = np.full((3, 8, 8), 40, dtype=np.int16)
    values[1, 2, 2] = -990
    stored_padding = data.CT_PADDING
    values[:, 0, :] = stored_padding + data.INTERCEPT
    images = data.ct_series(slices=3, rows=8, values=values)
    for image in images:
        image.add_new(0x00280120, "US", stored_padding + 0x10000)  # as GE writes it: unsigned
    volume = volume_of(images, tmp_path)
    assert np.allclose(volume.array[:, 0, :], -990, atol=0.01)
    assert volume.array[:, 1:, :].min() == -990
    assert not volume.is_measured(volume.array[:, 0, :]).any()
    assert volume.is_measured(volume.array[:, 1:, :]).all()


def test_a_padding_range_is_padding_from_end_to_end(tmp_path: Path) -> None:
    values = np.full((2, 4, 4), 40, dtype=np.int16)
    values[0, 0, :3] = (-2000, -1990, -1980)
    images = data.ct_series(slices=2, rows=4, values=values)
    for image in images:
        image.add_new(0x00280120, "SS", -2000 - data.INTERCEPT)
        image.add_new(0x00280121, "SS", -1985 - data.INTERCEPT)
    volume = volume_of(images, tmp_path)
    assert volume.array[0, 0].tolist() == pytest.approx([-1980, -1980, -1980, 40], abs=0.01)
    assert volume.is_measured(volume.array[0, 0]).tolist() == [False, False, True, True]


def test_a_volume_without_padding_was_measured_all_over(tmp_path: Path) -> None:
    volume = volume_of(data.ct_series(slices=2, rows=8), tmp_path)
    assert volume.padding is None
    assert volume.is_measured(volume.array).all()


def test_a_volume_of_padding_only_is_zero(tmp_path: Path) -> None:
    images = data.ct_series(slices=2, rows=4, values=np.zeros((2, 4, 4), np.int16))
    for image in images:
        image.add_new(0x00280120, "SS", -data.INTERCEPT)
    assert not volume_of(images, tmp_path).array.any()


def test_a_modality_lut_is_looked_up_with_its_ends_held(tmp_path: Path) -> None:
    images = data.ct_series(slices=2, rows=4)
    stored = np.array([-5, 0, 1, 2] * 4, dtype=np.int16)
    for image in images:
        del image.RescaleSlope, image.RescaleIntercept, image.RescaleType
        item = Dataset()
        item.add_new(0x00283002, "SS", [2, 0, 16])
        item.ModalityLUTType = "HU"
        item.add_new(0x00283006, "US", [100, 300])
        image.ModalityLUTSequence = Sequence([item])
        image.PixelData = stored.tobytes()
    assert volume_of(images, tmp_path).array[0, 0].tolist() == [100, 100, 300, 300]


def test_overlay_bits_above_bits_stored_are_no_values(tmp_path: Path) -> None:
    images = data.ct_series(slices=2, rows=4)
    for image in images:
        image.PixelRepresentation, image.BitsStored, image.HighBit = 0, 12, 11
        image.PixelData = np.full((4, 4), 0xF400, dtype=np.uint16).tobytes()
    assert np.all(volume_of(images, tmp_path).array == 0x400 + data.INTERCEPT)


def test_a_missing_slice_is_declined_where_it_is(tmp_path: Path) -> None:
    reason = declined(data.ct_series(slices=12, missing={5, 6}), tmp_path)
    assert reason.code == "declined.gap"
    assert (reason.parameters["n"], reason.parameters["z"]) == (2, -86.2)
    assert reason.parameters["slices"] == (
        "between image 5 (z = -90 mm) and image 8 (z = -82.5 mm)"
    )


def test_a_doubled_slice_is_declined_by_name(tmp_path: Path) -> None:
    reason = declined(data.ct_series(slices=6, duplicate={3}), tmp_path)
    assert reason.parameters["cause"] == "doubled positions"
    assert reason.parameters["slices"] == "image 4 (z = -92.5 mm), image 1004 (z = -92.5 mm)"


def test_a_tilted_gantry_is_declined(tmp_path: Path) -> None:
    reason = declined(data.ct_series(slices=10, tilt=12.0), tmp_path)
    assert reason.parameters["cause"] == "tilted gantry, 12.0 degrees"


def test_a_localizer_is_left_out_of_the_volume(tmp_path: Path) -> None:
    images = data.ct_series(slices=6)
    images[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    found = loaded(images, tmp_path)
    assert isinstance(found.input, Volume)
    assert found.input.shape == (5, 64, 64)
    assert found.left_out == 1
    assert len(found.source.datasets) == 5


def test_a_series_of_localizers_is_declined_as_such(tmp_path: Path) -> None:
    images = data.ct_series(slices=2, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert declined(images, tmp_path).parameters["kind"] == "localizer"


def test_a_report_has_no_pixels(tmp_path: Path) -> None:
    assert declined([data.structured_report()], tmp_path).code == "declined.no_pixels"


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "PALETTE COLOR"])
def test_colour_is_declined(photometric: str, tmp_path: Path) -> None:
    image = data.cr_image()
    image.PhotometricInterpretation = photometric
    image.SamplesPerPixel = 1 if photometric == "PALETTE COLOR" else 3
    assert declined([image], tmp_path, "images").parameters["kind"] == "colour"


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("ConvolutionKernel", "LUNG", "declined.mixed"),
        ("RescaleType", "", "declined.mixed"),
        ("RescaleType", "US", "declined.calibration"),
        ("RescaleSlope", None, "declined.calibration"),
        ("RescaleSlope", "0", "declined.calibration"),
        ("ImagePositionPatient", None, "declined.geometry"),
        ("PixelSpacing", ["0", "0"], "declined.geometry"),
        ("SeriesInstanceUID", "1.2.3", "declined.geometry"),
        ("BitsAllocated", 12, "declined.geometry"),
    ],
)
def test_one_image_that_does_not_fit_declines_the_series(
    keyword: str, value: object, code: str, tmp_path: Path
) -> None:
    images = data.ct_series(slices=5)
    setattr(images[2], keyword, value)
    if keyword == "BitsAllocated":  # is left out, so that a slice is missing
        code = "declined.gap"
    assert declined(images, tmp_path).code == code


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", None),
        ("StudyInstanceUID", "1.2.03.4"),
        ("SeriesInstanceUID", "1.2.03.4"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.999"),
        ("FrameOfReferenceUID", None),
        ("FrameOfReferenceUID", "1.2.03.4"),
        ("PatientName", "M\ufffdller^J"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_no_result_could_repeat_is_declined_before_it_is_analysed(
    keyword: str, value: object, tmp_path: Path
) -> None:
    images = data.ct_series(slices=3)
    for image in images:
        image.SpecificCharacterSet = "ISO_IR 192"
        setattr(image, keyword, value)
    reason = declined(images, tmp_path)
    assert (reason.code, reason.parameters["keyword"]) == ("declined.header", keyword)
    assert reason.parameters["n"] == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_invalid_instance_uid_declines_the_series(tmp_path: Path) -> None:
    images = data.ct_series(slices=3)
    images[1].SOPInstanceUID = "1.2.03.4"
    assert sentence(declined(images, tmp_path)) == (
        "Not analysed: SOPInstanceUID of 1 image of series 2 is missing or invalid, and no result "
        "could repeat it."
    )


def test_images_of_two_studies_are_declined(tmp_path: Path) -> None:
    images = data.ct_series(slices=3)
    images[1].StudyInstanceUID = data.uid("another")
    reason = declined(images, tmp_path)
    assert (reason.code, reason.parameters["keyword"]) == ("declined.mixed", "StudyInstanceUID")


def test_a_radiograph_needs_no_frame_of_reference_but_a_study(tmp_path: Path) -> None:
    image = data.cr_image()
    assert "FrameOfReferenceUID" not in image
    loaded([image], tmp_path / "a", "images")
    del image.StudyInstanceUID
    assert declined([image], tmp_path / "b", "images").code == "declined.header"


def test_a_single_slice_is_too_few(tmp_path: Path) -> None:
    assert declined(data.ct_series(slices=1), tmp_path).code == "declined.too_few"


def test_memory_is_counted_before_anything_is_decoded(tmp_path: Path) -> None:
    images = data.ct_series(slices=3)
    images[1].PixelData = b"\x00" * 10
    reason = load(data.save_all(images, tmp_path), "volume", largest_bytes=3 * 64 * 64 * 4 - 1)
    assert isinstance(reason, Reason)
    assert reason.code == "declined.too_large"
    assert reason.parameters["need_bytes"] == 3 * 64 * 64 * 4


def test_pixels_that_are_too_short_are_declined_by_name(tmp_path: Path) -> None:
    images = data.ct_series(slices=3)
    images[1].PixelData = b"\x00" * 10
    reason = declined(images, tmp_path)
    assert reason.code == "declined.not_decodable"
    assert reason.parameters["slices"] == "image 2 (z = -97.5 mm)"


def test_a_transfer_syntax_without_decoder_is_declined(tmp_path: Path) -> None:
    images = data.ct_series(slices=3, transfer_syntax="1.2.840.10008.1.2.1.99")
    assert declined(images, tmp_path).code == "declined.transfer_syntax"


def test_a_file_that_is_cut_is_an_error_and_no_reason(tmp_path: Path) -> None:
    paths = data.save_all(data.ct_series(slices=3), tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(UnreadableError):
        load(paths, "volume")


def test_enhanced_frames_become_slices_with_their_own_slopes(tmp_path: Path) -> None:
    slopes = [1.0, 2.0, 1.0, 1.0, 0.5, 1.0]
    found = loaded([data.enhanced_ct(frames=6, slopes=slopes)], tmp_path)
    assert isinstance(found.input, Volume)
    stored = data.body_slices(6, 32, 32).astype(float) - data.INTERCEPT
    numbers = found.source.frame_numbers
    assert numbers is not None
    for index, number in enumerate(numbers):
        wanted = stored[number - 1] * slopes[number - 1] + data.INTERCEPT
        assert np.allclose(found.input.array[index], wanted)
    assert len(found.source.datasets) == 1
    assert found.source.image_of(0)[1] == numbers[0]
    assert found.input.spacing == (2.0, 1.0, 1.0)


def test_enhanced_frames_out_of_order_are_sorted(tmp_path: Path) -> None:
    image = data.enhanced_ct(frames=4)
    groups = list(image.PerFrameFunctionalGroupsSequence)
    image.PerFrameFunctionalGroupsSequence = Sequence([groups[i] for i in (2, 0, 3, 1)])
    found = loaded([image], tmp_path)
    assert found.source.frame_numbers == (2, 4, 1, 3)


def test_an_enhanced_image_without_positions_is_declined(tmp_path: Path) -> None:
    image = data.enhanced_ct(frames=4)
    del image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    assert declined([image], tmp_path).parameters["cause"] == "no position for each frame"


def test_magnetic_resonance_is_not_calibrated(tmp_path: Path) -> None:
    assert volume_of(data.mr_series(), tmp_path).unit == UNCALIBRATED


def pet_series(**changed: object) -> list[FileDataset]:
    images = data.mr_series(slices=3, rows=4)
    for number, image in enumerate(images):
        image.Modality = "PT"
        image.Units, image.DecayCorrection, image.PatientWeight = "BQML", "START", "80"
        image.RescaleSlope, image.RescaleIntercept = str(number + 1), "0"
        image.SeriesDate = image.AcquisitionDate = "20240102"
        image.SeriesTime = image.AcquisitionTime = "110000"
        item = Dataset()
        item.RadionuclideTotalDose = "400000000"
        item.RadionuclideHalfLife = "3600"
        item.RadiopharmaceuticalStartTime = "100000.00"
        image.RadiopharmaceuticalInformationSequence = Sequence([item])
        image.PixelData = np.full((4, 4), 1000, np.uint16).tobytes()
        for keyword, value in changed.items():
            setattr(image, keyword, value)
    return images


def test_pet_is_scaled_to_suv_by_weight_dose_and_decay(tmp_path: Path) -> None:
    volume = volume_of(pet_series(), tmp_path)
    # One half-life passed: 200 MBq are left in 80,000 g.
    wanted = [1000 * (number + 1) * 80_000 / 200e6 for number in range(3)]
    assert np.allclose(volume.array[:, 0, 0], wanted)
    assert volume.unit == SUV_BODY_WEIGHT


def test_pet_corrected_to_administration_knows_no_decay(tmp_path: Path) -> None:
    volume = volume_of(pet_series(DecayCorrection="ADMIN"), tmp_path)
    assert np.isclose(volume.array[0, 0, 0], 1000 * 80_000 / 400e6)


@pytest.mark.parametrize(
    "changed",
    [
        {"PatientWeight": None},
        {"Units": "CNTS"},
        {"DecayCorrection": "NONE"},
        {"RadiopharmaceuticalInformationSequence": Sequence([])},
        {"SeriesTime": "090000"},
    ],
)
def test_pet_without_what_suv_needs_is_declined(changed: dict[str, object], tmp_path: Path) -> None:
    reason = declined(pet_series(**changed), tmp_path)
    assert (reason.code, reason.parameters["unit"]) == ("declined.calibration", "SUV")


def test_headers_of_images_that_were_not_loaded_can_be_had(tmp_path: Path) -> None:
    paths = data.save_all(data.ct_series(slices=4, missing={1})[::-1], tmp_path)
    source = headers_of(paths)
    assert [dataset.InstanceNumber for dataset in source.datasets] == [1, 3, 4]
    assert not source.is_volume


def test_either_gives_a_volume_of_ct_and_images_of_radiographs(tmp_path: Path) -> None:
    assert loaded(data.ct_series(slices=3), tmp_path / "a", "either").source.is_volume
    assert not loaded([data.cr_image()], tmp_path / "b", "either").source.is_volume

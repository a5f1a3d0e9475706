from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicomnode.dicom.compare import same_content
from tests import data

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)


def image(transfer_syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    return data.ct_series(slices=1, rows=32, transfer_syntax=transfer_syntax)[0]


def rich(transfer_syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """An image with nested, private, numeric and empty elements."""
    dataset = image()
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "one"
    outer = Dataset()
    outer.ReferencedSOPInstanceUID = "1.2.3"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([outer])
    dataset.RedPaletteColorLookupTableDescriptor = [256, 0, 16]
    dataset.LossyImageCompression = ""
    block = dataset.private_block(0x0029, "DICOMNODE TEST", create=True)
    block.add_new(0x01, "LO", "odd")
    block.add_new(0x02, "OB", b"\x01\x02\x03\x04")
    return data.encoded(dataset, transfer_syntax)


def compared(one: Dataset, other: Dataset, folder: Path) -> bool:
    a, b = data.save(one, folder / "a"), data.save(other, folder / "b")
    assert same_content(a, b) == same_content(b, a)
    return same_content(a, b)


@pytest.mark.parametrize(("one", "other"), list(combinations(SYNTAXES, 2)))
def test_another_lossless_transfer_syntax_is_the_same_image(
    one: str, other: str, tmp_path: Path
) -> None:
    assert compared(image(one), image(other), tmp_path)


@pytest.mark.parametrize("other", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_nested_and_private_elements_survive_another_encoding(other: str, tmp_path: Path) -> None:
    assert compared(rich(), rich(other), tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "PHANTOM-2"),
        ("WindowCenter", "40"),
        ("RescaleIntercept", "-1023"),
        ("ImageType", ["ORIGINAL", "PRIMARY"]),
        ("SpecificCharacterSet", "ISO_IR 192"),
    ],
)
@pytest.mark.parametrize("other", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_one_changed_value_is_another_content(
    keyword: str, value: object, other: str, tmp_path: Path
) -> None:
    changed = image(other)
    setattr(changed, keyword, value)
    assert not compared(image(), changed, tmp_path)


def test_a_changed_value_deep_inside_is_found(tmp_path: Path) -> None:
    changed = rich()
    code = changed.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence[0]
    code.CodeMeaning = "two"
    assert not compared(rich(), changed, tmp_path)


def test_an_added_or_missing_element_is_found(tmp_path: Path) -> None:
    changed = rich()
    changed.PatientComments = ""
    assert not compared(rich(), changed, tmp_path)


@pytest.mark.parametrize("other", SYNTAXES)
def test_one_changed_pixel_is_found(other: str, tmp_path: Path) -> None:
    values = data.body_slices(1, 32, 32)
    values[0, 5, 5] += 1
    changed = data.ct_series(slices=1, rows=32, values=values, transfer_syntax=other)[0]
    assert not compared(image(), changed, tmp_path)


def test_lossy_pixels_are_compared_as_bytes(tmp_path: Path) -> None:
    lossy = image(JPEGLSNearLossless)
    assert compared(lossy, image(JPEGLSNearLossless), tmp_path)
    assert not compared(lossy, image(), tmp_path)
    frame = next(generate_frames(lossy.PixelData, number_of_frames=1))
    split = image(JPEGLSNearLossless)
    split.PixelData = encapsulate([frame], fragments_per_frame=2)
    assert compared(lossy, split, tmp_path)


def test_padding_of_text_does_not_count(tmp_path: Path) -> None:
    padded = image()
    padded.SeriesDescription = "Chest CT  "
    assert compared(image(), padded, tmp_path)


def test_pixels_against_none_are_different(tmp_path: Path) -> None:
    bare = image()
    del bare.PixelData
    assert not compared(image(), bare, tmp_path)
    assert compared(bare, bare, tmp_path)


def test_what_cannot_be_decoded_is_not_the_same(tmp_path: Path) -> None:
    broken = image(JPEG2000Lossless)
    broken.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    broken["PixelData"].VR = "OB"
    assert not compared(image(), broken, tmp_path)


def test_what_cannot_be_read_is_not_the_same(tmp_path: Path) -> None:
    good = data.save(image(), tmp_path / "a")
    cut = tmp_path / "b"
    cut.write_bytes(data.truncated(image()))
    assert not same_content(good, cut)
    assert not same_content(good, tmp_path / "not there")


def test_enhanced_objects_are_compared_frame_by_frame(tmp_path: Path) -> None:
    assert compared(data.enhanced_ct(), data.enhanced_ct(), tmp_path)
    changed = data.enhanced_ct()
    group = changed.PerFrameFunctionalGroupsSequence[3]
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    assert not compared(data.enhanced_ct(), changed, tmp_path)


def test_a_compressor_that_names_itself_changes_no_content(tmp_path: Path) -> None:
    compressed = image(JPEGLSLossless)
    compressed.DerivationDescription = "Lossless JPEG compression"
    assert compared(image(), compressed, tmp_path)

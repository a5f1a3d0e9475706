"""The organ pipeline on a drawn chest, and on what is no chest."""

from dataclasses import replace

import numpy as np
import pytest

from dicomnode.imaging.phantoms import ChestPhantom, chest_ct
from dicomnode.sdk import Context, Declined, Findings, Laterality, Segment, SeriesInfo, Volume
from dicomnode.sdk.codes import BODY, LUNG, SKELETON, TRACHEA_AND_BRONCHI
from pipelines.organ_segmentation.pipeline import OrganSegmentation

UPRIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def phantom() -> ChestPhantom:
    return chest_ct(seed=2)


@pytest.fixture(scope="module")
def found(phantom: ChestPhantom) -> Findings:
    result = OrganSegmentation().run(phantom.volume(), Context.for_test())
    assert isinstance(result, Findings)
    return result


def named(found: Findings, label: str) -> Segment:
    return next(segment for segment in found.segments if segment.label == label)


def test_every_organ_is_reported_with_its_code_and_side(found: Findings) -> None:
    assert [(s.label, s.type, s.laterality) for s in found.segments] == [
        ("Right lung", LUNG, Laterality.RIGHT),
        ("Left lung", LUNG, Laterality.LEFT),
        ("Trachea and main bronchi", TRACHEA_AND_BRONCHI, None),
        ("Body", BODY, None),
        ("Skeleton", SKELETON, None),
    ]


@pytest.mark.parametrize(
    ("label", "name"), [("Right lung", "right_lung"), ("Left lung", "left_lung"), ("Body", "body")]
)
def test_masks_agree_with_what_was_drawn(
    phantom: ChestPhantom, found: Findings, label: str, name: str
) -> None:
    mask, drawn = named(found, label).mask, getattr(phantom, name)
    assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.95


def test_lungs_do_not_overlap_and_lie_on_their_sides(
    phantom: ChestPhantom, found: Findings
) -> None:
    right, left = named(found, "Right lung").mask, named(found, "Left lung").mask
    assert not (right & left).any()
    volume = phantom.volume()
    centres = [volume.to_patient(np.argwhere(mask).mean(axis=0)) for mask in (right, left)]
    assert centres[0][0] < 0 < centres[1][0]


def test_bone_is_dense(phantom: ChestPhantom, found: Findings) -> None:
    values = phantom.array[named(found, "Skeleton").mask]
    assert np.median(values) > 150


def test_a_skeleton_among_contrast_agent_is_told_with_its_doubt(
    phantom: ChestPhantom, found: Findings
) -> None:
    assert "contrast" not in found.summary
    plain = phantom.volume()
    array = plain.array.copy()
    soft = (array > 0) & (array < 80)
    middle = array.shape[2] // 2
    soft[:, :, : middle - 30] = soft[:, :, middle + 30 :] = False
    array[soft] += 250.0
    enhanced = OrganSegmentation().run(replace(plain, array=array), Context.for_test())
    assert isinstance(enhanced, Findings)
    assert enhanced.summary.endswith("the skeleton may hold parts of vessels and kidneys")


def test_organs_outside_the_field_of_view_are_named_as_missing() -> None:
    array = np.full((40, 120, 120), -1000.0, dtype=np.float32)
    array[:, 20:100, 20:100] = 30.0
    volume = Volume(array, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("CT"), "[hnsf'U]")
    result = OrganSegmentation().run(volume, Context.for_test())
    assert isinstance(result, Findings)
    assert [segment.label for segment in result.segments] == ["Body"]
    assert "Not found in the field of view: right lung, left lung" in result.summary


def test_without_a_body_the_series_is_declined() -> None:
    array = np.full((10, 40, 40), -1000.0, dtype=np.float32)
    volume = Volume(array, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("CT"), "[hnsf'U]")
    assert isinstance(OrganSegmentation().run(volume, Context.for_test()), Declined)
    other = Volume(array, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("MR"))
    assert isinstance(OrganSegmentation().run(other, Context.for_test()), Declined)

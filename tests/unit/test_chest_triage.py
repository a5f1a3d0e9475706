"""The triage raises an urgency where the phantoms are sick, and never says that all is well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from dicomnode.dicom.volumes import Loaded, load
from dicomnode.imaging.phantoms import (
    ChestSigns,
    NodulePlace,
    NoduleSpec,
    Opacity,
    chest_ct,
    chest_radiograph,
)
from dicomnode.rules.matching import evaluate
from dicomnode.sdk import (
    Context,
    Declined,
    Findings,
    Image,
    Images,
    Laterality,
    Pipeline,
    PixelSpacingOrigin,
    SeriesInfo,
    Urgency,
    Volume,
)
from dicomnode.sdk.codes import (
    ABNORMAL_OPACITY,
    CONSOLIDATION,
    MASS,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
)
from pipelines.chest_triage.evaluate import wilson
from pipelines.chest_triage.pipeline import ChestTriage
from pipelines.chest_triage.radiograph import analyse
from pipelines.chest_triage.words import BARE_AIR, RIB_FLUID, UNEVEN_AERATION
from pipelines.lung_nodule.pipeline import LungNodule
from pipelines.organ_segmentation.pipeline import OrganSegmentation

GRID = {"shape": (100, 160, 160), "spacing": (3.0, 2.0, 2.0)}
RIGHT, LEFT = Laterality.RIGHT, Laterality.LEFT


def triage(series: Volume | Images) -> Findings:
    found = ChestTriage().run(series, Context.for_test())
    assert isinstance(found, Findings)
    assert found.assessment is not None
    assert found.assessment.urgency is not Urgency.NOT_SIGNIFICANT
    assert found.absent == ()
    return found


@cache
def spotted() -> Images:
    places = [(c, r) for c in (58.0, 105.0, 218.0, 265.0) for r in (80.0, 135.0, 190.0)]
    return chest_radiograph(opacities=tuple(Opacity(c, r, 36.0) for c, r in places)).images()


def radiograph(array: np.ndarray, view: str = "PA") -> Images:
    image = Image(array.astype(np.float32), None, PixelSpacingOrigin.NONE, view)
    return Images((image,), SeriesInfo("CR"))


def test_a_healthy_chest_ct_stays_undetermined() -> None:
    found = triage(chest_ct(**GRID, nodules=()).volume())
    assert found.assessment.urgency is None
    assert found.assessment.reasons == ()
    assert "nothing about the absence" in found.summary
    assert found.sought


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_a_large_effusion_is_significant_on_its_side(side: Laterality) -> None:
    phantom = chest_ct(**GRID, nodules=(), signs=ChestSigns(effusion=side))
    found = triage(phantom.volume())
    assert found.assessment.urgency is Urgency.SIGNIFICANT
    (sign,) = [reason for reason in found.assessment.reasons if reason.code == RIB_FLUID]
    assert f"{side} side" in sign.text
    assert sign.measurements[0].value == pytest.approx(phantom.volume_ml(phantom.fluid), rel=0.3)


def test_pleural_air_is_highly_significant() -> None:
    phantom = chest_ct(**GRID, nodules=(), signs=ChestSigns(pneumothorax=RIGHT))
    found = triage(phantom.volume())
    assert found.assessment.urgency is Urgency.HIGHLY_SIGNIFICANT
    (sign,) = [reason for reason in found.assessment.reasons if reason.code == BARE_AIR]
    assert "right side" in sign.text
    assert "at least" in sign.text
    truth_ml = phantom.volume_ml(phantom.pleural_air)
    assert 0.6 * truth_ml < sign.measurements[0].value < 1.02 * truth_ml


def test_a_side_with_little_air_is_significant_and_measured() -> None:
    phantom = chest_ct(**GRID, nodules=(), signs=ChestSigns(consolidation=RIGHT))
    reasons = triage(phantom.volume()).assessment.reasons
    (sign,) = [reason for reason in reasons if reason.code == UNEVEN_AERATION]
    assert "right side" in sign.text
    assert sign.measurements[1].value < 0.6
    aerated = phantom.right_lung & ~phantom.consolidated
    assert sign.measurements[0].value == pytest.approx(phantom.volume_ml(aerated), rel=0.15)


def test_no_disease_is_stated_that_a_rule_cannot_tell_from_others() -> None:
    sick = ChestSigns(effusion=LEFT, pneumothorax=RIGHT, consolidation=LEFT)
    found = triage(chest_ct(**GRID, nodules=(), signs=sick).volume())
    coded = {reason.code for reason in found.assessment.reasons}
    assert {RIB_FLUID, BARE_AIR, UNEVEN_AERATION} <= coded
    # What was sought becomes the finding of a group, also in a report that found nothing.
    assert not {PLEURAL_EFFUSION, PNEUMOTHORAX, CONSOLIDATION} & (coded | set(found.sought))


def test_a_mass_is_told_with_its_side_and_volume() -> None:
    phantom = chest_ct(**GRID, nodules=(NoduleSpec(40.0, NodulePlace.FREE, LEFT),))
    found = triage(phantom.volume())
    (sign,) = [reason for reason in found.assessment.reasons if reason.code == MASS]
    assert "left lung" in sign.text
    truth_ml = phantom.nodules[0].volume_mm3 / 1000.0
    assert sign.measurements[0].value == pytest.approx(truth_ml, rel=0.35)
    assert found.findings == ()


def test_sides_are_the_patients_however_the_array_lies() -> None:
    phantom = chest_ct(**GRID, nodules=(), signs=ChestSigns(effusion=LEFT))
    upright = phantom.volume()
    last = upright.to_patient(np.array(upright.shape, dtype=np.float64) - 1)
    turned = Volume(
        array=np.ascontiguousarray(upright.array[::-1, ::-1, ::-1]),
        spacing=upright.spacing,
        origin=(float(last[0]), float(last[1]), float(last[2])),
        direction=-upright.direction,
        series=upright.series,
        unit=upright.unit,
    )
    (sign,) = triage(turned).assessment.reasons
    assert sign.code == RIB_FLUID
    assert "left side" in sign.text


@pytest.mark.parametrize(
    ("shape", "spacing", "word"),
    [
        ((12, 96, 96), (3.0, 3.0, 3.0), "12 slices"),
        ((30, 96, 96), (10.0, 3.0, 3.0), "apart"),
    ],
)
def test_too_few_or_too_thick_slices_are_declined(shape, spacing, word: str) -> None:
    volume = chest_ct(shape=shape, spacing=spacing, nodules=()).volume()
    answer = ChestTriage().run(volume, Context.for_test())
    assert isinstance(answer, Declined)
    assert word in answer.text


def test_a_volume_without_lung_is_declined() -> None:
    block = np.full((40, 60, 60), 40.0, dtype=np.float32)
    volume = Volume(
        block, (3.0, 4.0, 4.0), (0.0, 0.0, 0.0), np.eye(3)[::-1].copy(), SeriesInfo("CT")
    )
    answer = ChestTriage().run(volume, Context.for_test())
    assert isinstance(answer, Declined)
    assert "No lung" in answer.text


def test_a_healthy_radiograph_stays_undetermined() -> None:
    found = triage(chest_radiograph().images())
    assert found.assessment.urgency is None
    assert found.findings == ()


@pytest.mark.parametrize("side", [RIGHT, LEFT])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_one_white_side_is_outlined_on_the_patients_side(
    side: Laterality, is_mirrored: bool
) -> None:
    phantom = chest_radiograph(signs=ChestSigns(consolidation=side, effusion=side))
    series = phantom.images()
    if is_mirrored:
        array = np.ascontiguousarray(phantom.array[:, ::-1])
        image = Image(array, None, PixelSpacingOrigin.NONE, "PA", patient_orientation=("R", "F"))
        series = Images((image,), series.series)
    found = triage(series)
    assert found.assessment.urgency is Urgency.SIGNIFICANT
    (sign,) = found.findings
    assert (sign.type, sign.laterality) == (ABNORMAL_OPACITY, side)
    at_left_edge = sign.outline.points[:, 0].mean() < 160
    assert at_left_edge == ((side is RIGHT) != is_mirrored)


@pytest.mark.parametrize("edge", [RIGHT, LEFT])
def test_without_an_orientation_no_side_of_the_patient_is_said(edge: Laterality) -> None:
    phantom = chest_radiograph(signs=ChestSigns(consolidation=edge, effusion=edge))
    found = triage(radiograph(phantom.array))
    (finding,) = found.findings
    assert finding.laterality is None
    # The drawn patient's right lies at the left edge.
    at_left_edge = finding.outline.points[:, 0].mean() < 160
    assert at_left_edge == (edge is RIGHT)
    name = "left" if at_left_edge else "right"
    assert f"the lung field at the {name} edge of the image" in found.summary
    assert "right lung" not in found.summary
    assert "left lung" not in found.summary


def test_round_spots_have_a_side_only_where_the_image_tells_it() -> None:
    told, untold = spotted(), radiograph(spotted().images[0].array)
    assert {finding.laterality for finding in triage(told).findings} == {RIGHT, LEFT}
    assert {finding.laterality for finding in triage(untold).findings} == {None}


@pytest.mark.parametrize(
    "orientation", [("A", "F"), ("P", "F"), ("AL", "F"), ("L", "H"), ("F", "L"), ("L", "P")]
)
def test_what_does_not_lie_upright_and_frontal_is_declined(orientation: tuple[str, str]) -> None:
    answer = ChestTriage().run(facing(orientation), Context.for_test())
    assert isinstance(answer, Declined)
    assert "\\".join(orientation) in answer.text
    assert "only frontal" in answer.text


@pytest.mark.parametrize("orientation", [("L", "F"), ("l", "f"), ("LA", "FP"), ("LFA", "FR")])
def test_an_upright_frontal_image_is_judged_however_its_orientation_is_written(
    orientation: tuple[str, str],
) -> None:
    assert len(triage(facing(orientation)).findings) >= 8


def facing(orientation: tuple[str, str]) -> Images:
    (image,) = spotted().images
    return Images((replace(image, patient_orientation=orientation),), SeriesInfo("CR"))


def test_many_round_spots_are_each_circled_on_a_drawn_opacity() -> None:
    found = triage(spotted())
    assert len(found.findings) >= 8
    near = 0
    for spot in found.findings:
        points = spot.outline.points
        np.testing.assert_array_equal(points[0], points[-1])
        assert points.min() >= 0
        assert (points.max(axis=0) <= (320, 300)).all()
        column, row = points[:-1].mean(axis=0)
        near += any(
            np.hypot(column - c, row - r) < 18 for c in (58, 105, 218, 265) for r in (80, 135, 190)
        )
    assert near >= 0.75 * len(found.findings)


def test_cut_borders_do_not_move_the_outlines() -> None:
    plain = spotted().images[0].array
    framed = np.pad(plain, ((30, 10), (20, 40)))
    outlines = [
        np.array([f.outline.points.mean(axis=0) for f in triage(radiograph(array)).findings])
        for array in (plain, framed)
    ]
    moved = outlines[1] - (20, 30)
    assert len(moved) >= 8
    nearest = np.linalg.norm(moved[:, None] - outlines[0][None], axis=-1).min(axis=1)
    assert np.median(nearest) < 4.0


@pytest.mark.parametrize(
    ("series", "word"),
    [
        (radiograph(np.ones((200, 180)), "LL"), "lateral"),
        (radiograph(np.ones((100, 400))), "shape"),
        (radiograph(np.ones((40, 40))), "too small"),
        (radiograph(np.zeros((200, 180))), "lung fields"),
        (radiograph(np.random.default_rng(0).random((200, 200))), "lung fields"),
        (Images((), SeriesInfo("CR")), "no image"),
    ],
)
def test_what_is_no_frontal_chest_is_declined_in_words(series: Images, word: str) -> None:
    answer = ChestTriage().run(series, Context.for_test())
    assert isinstance(answer, Declined)
    assert word in answer.text


def test_a_lateral_image_beside_a_frontal_one_is_left_out() -> None:
    frontal = spotted().images[0]
    lateral = Image(frontal.array, None, PixelSpacingOrigin.NONE, "LL")
    found = triage(Images((lateral, frontal), SeriesInfo("DX")))
    assert {finding.outline.image for finding in found.findings} == {1}


def test_lung_fields_lie_where_the_lungs_were_projected() -> None:
    phantom = chest_radiograph()
    _, measures = analyse(phantom.images().images[0], torch.device("cpu"))
    rows, columns = np.nonzero(phantom.right_field | phantom.left_field)
    assert measures.fields.centre_x * 320 == pytest.approx(columns.mean(), abs=16)
    assert measures.fields.centre_y * 300 == pytest.approx(rows.mean(), abs=30)


def test_the_same_input_gives_the_same_result() -> None:
    first, again = (triage(spotted()) for _ in range(2))
    assert first.summary == again.summary
    for one, other in zip(first.findings, again.findings, strict=True):
        np.testing.assert_array_equal(one.outline.points, other.outline.points)


def test_no_probability_is_given() -> None:
    found = triage(spotted())
    assert all(finding.probability is None for finding in found.findings)
    assert tuple(ChestTriage.bundles) == ()


def test_the_rule_asks_for_chests_of_adults_in_a_frontal_view() -> None:
    rule = json.loads(json.dumps(dict(ChestTriage.match.data)))
    assert rule["modality"] == ["CT", "CR", "DX"]
    assert None in rule["body_part"]
    assert "LL" in rule["ViewPosition"]["not"]


@pytest.mark.parametrize("pipeline", [ChestTriage, LungNodule, OrganSegmentation])
@pytest.mark.parametrize(
    ("image_type", "is_wanted"),
    [
        (("ORIGINAL", "PRIMARY", "AXIAL"), True),
        (("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"), True),
        (("DERIVED", "SECONDARY", "MPR"), True),
        ((), True),
        (("ORIGINAL", "PRIMARY", "LOCALIZER"), False),
        (("DERIVED", "SECONDARY", "MIP"), False),
        (("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MIP"), False),
        (("DERIVED", "SECONDARY", "MINIP"), False),
        (("DERIVED", "SECONDARY", "MIN IP"), False),
        (("DERIVED", "SECONDARY", "REFORMATTED", "MIN_IP"), False),
        (("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"), False),
        (("DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"), False),
        (("DERIVED", "PRIMARY", "VOLUME", "MINIMUM"), False),
        (("DERIVED", "PRIMARY", "VOLUME", "MEAN"), False),
    ],
)
def test_no_pipeline_takes_a_localizer_or_the_extremes_or_means_of_several_slices(
    pipeline: type[Pipeline[Volume]], image_type: Sequence[str], is_wanted: bool
) -> None:
    attributes = {"Modality": ["CT"], "BodyPartExamined": ["CHEST"], "ImageType": image_type}
    assert all(tried.ok for tried in evaluate(pipeline.match, attributes)) == is_wanted


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 100, 0.0, 0.037), (5, 100, 0.0215, 0.1118)]
)
def test_intervals_are_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(
    ("name", "urgency"),
    [
        ("single-images/RG1_J2KI.dcm", Urgency.SIGNIFICANT),
        ("dicom-zoo/odd/CR-MONO1-10-chest", None),
    ],
)
def test_real_radiographs_of_both_kinds(
    data_folder: Path, name: str, urgency: Urgency | None
) -> None:
    path = data_folder / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    loaded = load([path], "images")
    assert isinstance(loaded, Loaded), loaded
    found = triage(loaded.input)
    assert found.assessment.urgency is urgency

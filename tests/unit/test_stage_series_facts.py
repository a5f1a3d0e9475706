"""What routing knows of a series, from the headers of its images."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.dicom.headers import Header
from dicomnode.rules.states import Role
from dicomnode.stages.series_facts import (
    SeriesSource,
    SourceImage,
    series_facts,
    slice_spacing_mm,
)
from tests.stages_data import Series

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def headers(series: Series) -> list[Header]:
    return [series.header(number) for number in range(series.slices)]


def source(found: list[Header], **changes: object) -> SeriesSource:
    plain = {
        "id": 1,
        "series_instance_uid": "1.2",
        "modality": "CT",
        "images": [SourceImage(n, f"d{n}", header) for n, header in enumerate(found)],
        "attributes": found[0].attributes,
    }
    return SeriesSource(**{**plain, **changes})  # type: ignore[arg-type]


def test_spacing_is_the_distance_along_the_normal_not_the_thickness() -> None:
    found = [
        dataclasses.replace(header, slice_thickness_mm=5.0)
        for header in headers(Series(slices=6, spacing_mm=1.25))
    ]
    assert slice_spacing_mm(found, {}) == 1.25


def test_neither_a_gap_nor_a_doubled_slice_nor_a_localizer_changes_the_spacing() -> None:
    found = headers(Series(slices=12, spacing_mm=2.0))
    localizer = dataclasses.replace(
        found[0], image_orientation=(1, 0, 0, 0, 0, -1), image_position=(0, 37.0, 0)
    )
    assert slice_spacing_mm([*found[:4], *found[6:], found[0], localizer], {}) == 2.0


@given(
    angle=st.floats(-1.2, 1.2),
    spacing_mm=st.floats(0.3, 10.0),
    offset_mm=st.floats(-500, 500),
)
def test_spacing_holds_for_any_oblique_stack(
    angle: float, spacing_mm: float, offset_mm: float
) -> None:
    normal = (0.0, -math.sin(angle), math.cos(angle))
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle))
    stack = [
        dataclasses.replace(
            header,
            image_orientation=orientation,
            image_position=tuple(c * (offset_mm + place * spacing_mm) for c in normal),
        )
        for place, header in enumerate(headers(Series(slices=5)))
    ]
    found = slice_spacing_mm(stack, {})
    assert found == pytest.approx(spacing_mm, abs=1e-3)


def test_a_multi_frame_object_counts_its_frames_and_says_its_own_spacing() -> None:
    one = dataclasses.replace(Series().header(0), frames=120)
    facts = series_facts(source([one], attributes={"SpacingBetweenSlices": ["0.8"]}))
    assert (facts.slice_count, facts.spacing_mm) == (120, 0.8)


def test_a_radiograph_has_no_spacing() -> None:
    plain = dataclasses.replace(Series().header(0), image_position=None, image_orientation=None)
    assert series_facts(source([plain])).spacing_mm is None


@pytest.mark.parametrize(
    "change",
    [
        {"has_pixels": False},
        {"header": dataclasses.replace(Series().header(0), sop_class_uid=SEGMENTATION)},
    ],
    ids=["no pixel data", "a segmentation"],
)
def test_what_is_no_image_is_no_input(change: dict[str, object]) -> None:
    image = dataclasses.replace(SourceImage(1, "d", Series().header(0)), **change)
    facts = series_facts(source([Series().header(0)], images=[image]))
    assert not facts.has_images
    assert not facts.is_candidate


def test_callers_and_facts_can_be_matched_on() -> None:
    facts = series_facts(
        source(
            headers(Series()),
            callers=["CT2", "ct2", "CT2", ""],
            facts={"ct-body-part": "chest"},
            role=Role.SOURCE,
        )
    )
    assert facts.matched_on["CallingAETitle"] == ("CT2", "ct2")
    assert facts.matched_on["ct-body-part"] == ("chest",)
    assert facts.kernel == "STANDARD"

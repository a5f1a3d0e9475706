from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomnode.dicom.geometry import Plane, Stack, named, stack
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import SeriesInfo, Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def planes_at(
    heights: list[float],
    orientation: tuple[float, ...] = AXIAL,
    pixel_spacing: tuple[float, float] = (0.7, 0.8),
) -> list[Plane]:
    return [
        Plane(number, (-100.0, -120.0, height), orientation, pixel_spacing, 8, 6, "1.2.3")
        for number, height in enumerate(heights, start=1)
    ]


def refused(planes: list[Plane]) -> Reason:
    found = stack(planes, 3)
    assert isinstance(found, Reason)
    return found


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        turned = turned @ one
    return turned


@settings(max_examples=150)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    count=st.integers(2, 12),
    seed=st.integers(0, 1000),
)
def test_voxels_lie_where_the_standard_says(
    angles: tuple[float, float, float],
    origin: tuple[float, float, float],
    spacing: tuple[float, float, float],
    count: int,
    seed: int,
) -> None:
    # PS3.3 C.7.6.2.1.1: P = S + X·Δi·i + Y·Δj·j, S of the slice's own Image Position.
    x, y, z = rotation(angles).T
    if np.cross(x, y) @ z < 0:
        z = -z
    planes = [
        Plane(k, tuple(np.array(origin) + z * spacing[0] * k), (*x, *y), spacing[1:], 4, 5)  # type: ignore[arg-type]
        for k in range(count)
    ]
    shuffled = np.random.default_rng(seed).permutation(count)
    found = stack([planes[index] for index in shuffled], None)
    assert isinstance(found, Stack)
    volume = Volume(
        np.zeros((count, 4, 5), np.float32),
        found.spacing,
        found.origin,
        found.direction,
        SeriesInfo("CT"),
    )
    indices = np.array(
        [[k, row, column] for k in range(count) for row in (0, 3) for column in (0, 4)]
    )
    wanted = [
        np.array(planes[k].position) + x * spacing[2] * column + y * spacing[1] * row
        for k, row, column in indices
    ]
    assert np.allclose(volume.to_patient(indices.astype(float)), wanted, atol=1e-6)
    assert np.allclose(volume.to_index(np.array(wanted)), indices, atol=1e-6)
    assert [shuffled[index] for index in found.order] == list(range(count))


def test_pixel_spacing_is_rows_first() -> None:
    found = stack(planes_at([0, 2.5, 5]), None)
    assert isinstance(found, Stack)
    assert found.spacing == (2.5, 0.7, 0.8)
    assert found.direction.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_gap_names_the_slices_beside_it_and_counts_what_is_missing() -> None:
    reason = refused(planes_at([0, 2, 4, 6, 12, 14, 16, 18]))
    assert reason.code == "declined.gap"
    assert reason.parameters == {
        "n": 2,
        "z": 9.0,
        "series": 3,
        "slices": "between image 4 (z = 6 mm) and image 5 (z = 12 mm)",
        "places": 1,
    }


def test_several_gaps_are_counted_together() -> None:
    heights = [float(k) for k in range(20) if k not in (5, 11, 12)]
    assert refused(planes_at(heights)).parameters["n"] == 3


def test_slices_almost_in_one_place_are_doubled() -> None:
    # Three runs in one series: at the joint two slices lie 0.005 mm apart.
    reason = refused(planes_at([-222.325, -217.325, -212.325, -212.32, -207.32]))
    assert reason.code == "declined.geometry"
    assert reason.parameters["cause"] == "doubled positions"
    assert reason.parameters["slices"] == ("image 3 (z = -212.325 mm), image 4 (z = -212.32 mm)")


def test_the_same_stack_twice_is_doubled() -> None:
    heights = [0.0, 5.0, 10.0, 15.0]
    reason = refused(planes_at(heights + heights))
    assert reason.parameters["cause"] == "doubled positions"
    assert reason.parameters["n"] == 8
    assert str(reason.parameters["slices"]).endswith(" and 4 more")


def test_all_slices_in_one_place_are_doubled() -> None:
    assert refused(planes_at([4.0, 4.0, 4.0])).parameters["cause"] == "doubled positions"


def test_uneven_steps_are_refused() -> None:
    assert refused(planes_at([0, 2, 4, 5.3, 7.3, 9.3])).parameters["cause"] == "uneven spacing"
    halves = [*np.arange(0, 20, 1.25), *np.arange(20, 80, 5.0)]
    assert refused(planes_at([float(h) for h in halves])).parameters["cause"] == "uneven spacing"


def test_positions_rounded_by_the_scanner_are_even() -> None:
    heights = [round(k * 1.25, 1) for k in range(40)]
    found = stack(planes_at(heights), None)
    assert isinstance(found, Stack)
    assert found.spacing[0] == pytest.approx(1.25, rel=1e-2)


@given(st.floats(2.0, 30.0), st.booleans())
def test_a_tilted_gantry_is_told_with_its_angle(angle: float, backwards: bool) -> None:
    turn = np.radians(-angle if backwards else angle)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(turn)), float(-np.sin(turn)))
    reason = refused(planes_at([2.5 * k for k in range(20)], orientation))
    assert reason.code == "declined.geometry"
    assert reason.parameters["cause"] == f"tilted gantry, {angle:.1f} degrees"


@pytest.mark.parametrize(
    ("cause", "other"),
    [
        (
            "mixed orientation",
            Plane(9, (-100.0, -120.0, 6.0), (0, 1, 0, 0, 0, -1), (0.7, 0.8), 8, 6, "1.2.3"),
        ),
        ("mixed matrix", Plane(9, (-100.0, -120.0, 6.0), AXIAL, (0.7, 0.8), 16, 6, "1.2.3")),
        ("mixed pixel spacing", Plane(9, (-100.0, -120.0, 6.0), AXIAL, (0.7, 0.9), 8, 6, "1.2.3")),
        ("mixed frame of reference", Plane(9, (-100.0, -120.0, 6.0), AXIAL, (0.7, 0.8), 8, 6, "1")),
        ("no position or orientation", Plane(9, None, AXIAL, (0.7, 0.8), 8, 6, "1.2.3")),
        ("no position or orientation", Plane(9, (0.0, 0.0, 6.0), None, (0.7, 0.8), 8, 6, "1.2.3")),
        ("no pixel spacing", Plane(9, (0.0, 0.0, 6.0), AXIAL, (0.0, 0.0), 8, 6, "1.2.3")),
    ],
)
def test_one_image_unlike_the_others_is_named(cause: str, other: Plane) -> None:
    reason = refused([*planes_at([0, 2, 4]), other])
    assert reason.parameters["cause"] == cause
    assert reason.parameters["n"] == 1
    assert str(reason.parameters["slices"]).startswith("image 9")


def test_cosines_that_are_no_frame_are_refused() -> None:
    for cosines in ((1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 2, 0)):
        assert refused(planes_at([0, 1], cosines)).parameters["cause"] == "unusable orientation"


def test_many_slices_are_named_by_a_few_and_a_count() -> None:
    assert named(planes_at([1, 2, 3, 4, 5, 6])) == (
        "image 1 (z = 1 mm), image 2 (z = 2 mm), image 3 (z = 3 mm), image 4 (z = 4 mm) and 2 more"
    )
    assert named([Plane(None, None, None, None, 1, 1)]) == "image without number"

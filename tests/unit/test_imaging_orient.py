"""Sides come from the direction of the axes, whatever the order of the array."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging import orient
from dicomnode.sdk import SeriesInfo, Volume

UPRIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def turned(order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """A volume whose axes point along the patient's in another order and sense."""
    array = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    direction = UPRIGHT[list(order)] * np.array(signs)[:, None]
    return Volume(array, (2.5, 0.7, 0.9), (10.0, -20.0, 30.0), direction, SeriesInfo("CT"))


ORIENTATIONS = [(o, s) for o in permutations(range(3)) for s in product((1, -1), repeat=3)]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_axes_run_to_head_back_and_left_afterwards(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    assert np.allclose(orient.to_lps(turned(order, signs)).direction, UPRIGHT)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_a_voxel_keeps_its_value_at_its_place_in_the_patient(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    volume = turned(order, signs)
    upright = orient.to_lps(volume)
    for index in ((0, 0, 0), (2, 1, 3), (1, 3, 4)):
        point = volume.to_patient(np.array(index, dtype=np.float64))
        there = np.rint(upright.to_index(point)).astype(int)
        assert upright.array[tuple(there)] == volume.array[index]


def test_padding_stays_padding() -> None:
    volume = replace(turned((2, 0, 1), (1, -1, 1)), padding=7.0)
    assert orient.to_lps(volume).padding == 7.0


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_there_and_back_changes_nothing(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume = turned(order, signs)
    assert np.array_equal(orient.from_lps(orient.to_lps(volume).array, volume), volume.array)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(ORIENTATIONS), st.data())
def test_a_box_comes_back_to_its_own_voxels(
    orientation: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    volume = turned(*orientation)
    upright = orient.to_lps(volume)
    offset = tuple(data.draw(st.integers(0, n - 1)) for n in upright.shape)
    ends = tuple(
        data.draw(st.integers(o + 1, n)) for o, n in zip(offset, upright.shape, strict=True)
    )
    box = tuple(slice(o, e) for o, e in zip(offset, ends, strict=True))
    back, place = orient.box_from_lps(upright.array[box], (offset[0], offset[1], offset[2]), volume)
    there = tuple(slice(o, o + n) for o, n in zip(place, back.shape, strict=True))
    assert np.array_equal(volume.array[there], back)


def test_an_oblique_volume_takes_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]]
    )
    assert orient.axes_along_patient(UPRIGHT @ tilt) == ((0, 1, 2), (False, False, False))

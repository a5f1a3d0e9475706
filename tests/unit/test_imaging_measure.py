"""Measures against formulas and against a search over all pairs of pixel corners."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging import measure
from dicomnode.imaging.phantoms import box, ellipsoid, sphere
from dicomnode.sdk import SeriesInfo, Volume

UPRIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def all_corners(mask: np.ndarray) -> np.ndarray:
    """Every corner of every pixel of a 2D mask, (n, 2) in (column, row)."""
    rows, columns = np.nonzero(mask)
    return np.concatenate(
        [np.stack([columns + c, rows + r], axis=1) for c in (0, 1) for r in (0, 1)]
    ).astype(float)


@pytest.mark.parametrize(
    ("height", "width", "spacing", "long_mm", "short_mm"),
    [
        (1, 1, (1.0, 1.0), 2**0.5, 2**0.5),
        (3, 4, (1.0, 1.0), 5.0, 4.8),
        (3, 4, (2.0, 2.0), 10.0, 9.6),
        (4, 3, (0.75, 1.0), 18**0.5, 18**0.5),
    ],
)
def test_axes_of_a_rectangle(
    height: int, width: int, spacing: tuple[float, float], long_mm: float, short_mm: float
) -> None:
    mask = np.zeros((3, 10, 10), dtype=bool)
    mask[1, 2 : 2 + height, 3 : 3 + width] = True
    axes = measure.axes_of(mask, spacing)
    assert axes.slice_index == 1
    assert axes.long_mm == pytest.approx(long_mm)
    assert axes.short_mm == pytest.approx(short_mm)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.05, 0.9),
    st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)),
)
def test_the_long_axis_is_the_largest_distance_of_all_corners(
    seed: int, share: float, spacing: tuple[float, float]
) -> None:
    mask = np.random.default_rng(seed).random((1, 7, 9)) < share
    mask[0, 3, 4] = True
    axes = measure.axes_of(mask, spacing)
    points = all_corners(mask[0]) * [spacing[1], spacing[0]]
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert axes.long_mm == pytest.approx(gaps.max())
    ends = axes.long_ends * [spacing[1], spacing[0]]
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = points @ [-along[1], along[0]]
    assert axes.short_mm == pytest.approx(np.ptp(across))
    short = (axes.short_ends[1] - axes.short_ends[0]) * [spacing[1], spacing[0]]
    assert np.linalg.norm(short) == pytest.approx(axes.short_mm)
    assert short @ along == pytest.approx(0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_the_outline_is_closed_convex_and_holds_every_pixel(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((1, 7, 9)) < share
    mask[0, 3, 4] = True
    outline = measure.axes_of(mask, (1.0, 1.0)).outline
    assert np.array_equal(outline[0], outline[-1])
    for start, stop in pairwise(outline):
        edge = stop - start
        offset = all_corners(mask[0]) - start
        assert (edge[0] * offset[:, 1] - edge[1] * offset[:, 0] >= -1e-9).all()


def test_an_offset_moves_the_outline_and_the_slice() -> None:
    mask = np.ones((1, 2, 2), dtype=bool)
    axes = measure.axes_of(mask, (1.0, 1.0), (5, 10, 20))
    assert axes.slice_index == 5
    assert axes.outline.min(axis=0).tolist() == [20.0, 10.0]
    assert axes.outline.max(axis=0).tolist() == [22.0, 12.0]


def test_of_equal_slices_the_first_is_the_key_slice() -> None:
    assert measure.axes_of(np.ones((4, 3, 3), dtype=bool), (1.0, 1.0)).slice_index == 0


@pytest.mark.parametrize("diameter_mm", [8.0, 15.0, 24.0])
def test_a_ball_measures_what_its_formula_says(diameter_mm: float) -> None:
    ball = sphere(diameter_mm)
    measures = measure.measured(ball.volume(), ball.mask)
    assert measures.axes is not None
    assert measures.volume_mm3 == pytest.approx(ball.volume_mm3, rel=0.05)
    # Corner to corner of whole pixels: up to one diagonal more.
    assert diameter_mm - 0.5 <= measures.axes.long_mm <= diameter_mm + 1.6


def test_an_ellipsoid_has_its_own_two_axes() -> None:
    solid = ellipsoid((12.0, 14.0, 28.0))
    axes = measure.measured(solid.volume(), solid.mask).axes
    assert axes is not None
    assert axes.long_mm == pytest.approx(28.0, abs=1.6)
    assert axes.short_mm == pytest.approx(14.0, abs=1.6)


def test_a_box_is_counted_exactly() -> None:
    solid = box((12.0, 10.0, 20.0))
    measures = measure.measured(solid.volume(), solid.mask, axes=False)
    assert measures.volume_mm3 == pytest.approx(solid.volume_mm3, rel=1e-6)
    assert measures.mean == pytest.approx(float(solid.array[solid.mask].mean()), abs=1e-3)
    assert measures.axes is None


def test_a_mean_leaves_out_what_the_scanner_did_not_measure() -> None:
    array = np.full((2, 2, 2), 40, dtype=np.float32)
    array[0] = -1024
    volume = Volume(
        array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("CT"), padding=-1024.0
    )
    measures = measure.measured(volume, np.ones((2, 2, 2), dtype=bool))
    assert (measures.volume_mm3, measures.mean) == (8.0, 40.0)
    assert measure.measured(volume, np.ones((1, 2, 2), dtype=bool)).mean is None


def test_empty_and_outlying_masks_are_refused() -> None:
    array = np.zeros((2, 2, 2), dtype=np.float32)
    volume = Volume(array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("CT"))
    with pytest.raises(ValueError, match="empty"):
        measure.measured(volume, np.zeros((2, 2, 2), dtype=bool))
    with pytest.raises(ValueError, match="leaves"):
        measure.measured(volume, np.ones((2, 2, 2), dtype=bool), (1, 0, 0))
    with pytest.raises(ValueError, match="no axes"):
        measure.axes_of(np.zeros((2, 2, 2), dtype=bool), (1.0, 1.0))

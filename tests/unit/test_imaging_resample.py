"""Grids over one field of view: nothing shifts, nothing is lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging import resample
from dicomnode.sdk import SeriesInfo, Volume

UPRIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def ramp(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> torch.Tensor:
    """Values that grow with the place in mm: z + 2y + 3x, from the outer corner."""
    z, y, x = (
        (torch.arange(n, dtype=torch.float64) + 0.5) * s
        for n, s in zip(shape, spacing, strict=True)
    )
    return (z[:, None, None] + 2 * y[None, :, None] + 3 * x[None, None, :]).float()


@pytest.mark.parametrize(
    ("shape", "spacing", "wanted", "counts"),
    [
        ((133, 512, 512), (2.5, 0.703125, 0.703125), (1.0, 1.0, 1.0), (332, 360, 360)),
        ((10, 10, 10), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (5, 5, 5)),
        ((1, 3, 3), (1.0, 1.0, 1.0), (9.0, 9.0, 9.0), (1, 1, 1)),
    ],
)
def test_the_grid_covers_the_same_box(
    shape: resample.Shape, spacing: resample.Triple, wanted: resample.Triple, counts: resample.Shape
) -> None:
    new, true = resample.shape_at(shape, spacing, wanted)
    assert new == counts
    assert np.allclose(np.multiply(new, true), np.multiply(shape, spacing))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(6, 20)] * 3),
    st.tuples(*[st.floats(0.5, 3.0)] * 3),
    st.floats(0.5, 3.0),
)
def test_a_linear_ramp_keeps_its_values_at_their_place(
    shape: resample.Shape, spacing: resample.Triple, step: float
) -> None:
    fine, true = resample.to_spacing(ramp(shape, spacing), spacing, (step, step, step))
    expected = ramp((fine.shape[0], fine.shape[1], fine.shape[2]), true)
    # Beyond the outermost source centres the edge repeats: only the inside is linear.
    inner = tuple(
        slice(*np.searchsorted((np.arange(n) + 0.5) * new, (0.5 * old, m * old - 0.5 * old)))
        for n, new, m, old in zip(fine.shape, true, shape, spacing, strict=True)
    )
    assert torch.allclose(fine[inner], expected[inner], atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 4)] * 3))
def test_a_mask_survives_a_finer_grid_and_the_way_back(
    seed: int, factors: tuple[int, int, int]
) -> None:
    mask = np.random.default_rng(seed).random((5, 6, 7)) > 0.5
    volume = Volume(
        mask.astype(np.float32), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), UPRIGHT, SeriesInfo("CT")
    )
    fine = resample.nearest(
        torch.from_numpy(mask), (5 * factors[0], 6 * factors[1], 7 * factors[2])
    )
    assert np.array_equal(resample.to_grid_of(volume, fine), mask)
    assert np.array_equal(resample.to_grid_of(volume, fine.numpy()), mask)


def test_averaging_keeps_the_mean() -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 16, 20))).float()
    coarse, _ = resample.to_spacing(values, (1.0, 1.0, 1.0), (2.0, 2.0, 2.0), average=True)
    assert coarse.shape == (6, 8, 10)
    assert float(coarse.mean()) == pytest.approx(float(values.mean()), abs=1e-6)


def test_a_window_samples_what_lies_there() -> None:
    spacing = (2.5, 0.7, 0.9)
    values = ramp((20, 40, 40), spacing)
    window = resample.Window.around((25.0, 14.0, 18.0), 5.0, 0.5)
    middle = window.shape[0] // 2
    sampled = window.sampled(values, spacing)
    assert float(sampled[middle, middle, middle]) == pytest.approx(25 + 28 + 54, abs=1e-3)
    assert float(sampled[middle + 2, middle, middle]) == pytest.approx(26 + 28 + 54, abs=1e-3)


def test_a_window_over_the_edge_repeats_the_edge_and_comes_back_cut() -> None:
    spacing = (1.0, 1.0, 1.0)
    values = ramp((8, 8, 8), spacing)
    window = resample.Window.around((0.5, 4.5, 4.5), 3.0, 1.0)
    sampled = window.sampled(values, spacing)
    assert torch.equal(sampled[0], sampled[3])
    back, offset = window.back(np.ones(window.shape, dtype=bool), (8, 8, 8), spacing)
    assert offset == (0, 1, 1)
    assert back.shape == (4, 7, 7)

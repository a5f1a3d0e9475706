"""Distances in mm against a search over all pairs, and what follows from them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging import morphology

SPACING = (2.5, 0.7, 0.9)


def by_hand(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance of each voxel to the nearest of the mask, by trying them all."""
    places = np.argwhere(np.ones(mask.shape, dtype=bool)) * spacing
    targets = np.argwhere(mask) * spacing
    gaps = np.linalg.norm(places[:, None] - targets[None], axis=2)
    return gaps.min(axis=1).reshape(mask.shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_distances_are_those_of_a_search_over_all_pairs(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((5, 7, 6)) < share
    mask[2, 3, 3] = True
    assert np.allclose(morphology.distance_to(mask, SPACING), by_hand(mask, SPACING), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_depth_is_the_distance_to_the_background(seed: int) -> None:
    mask = np.random.default_rng(seed).random((5, 7, 6)) < 0.8
    mask[0, 0, 0] = False
    assert np.allclose(morphology.depth(mask, SPACING), by_hand(~mask, SPACING), atol=1e-4)


def test_without_a_mask_everything_is_infinitely_far() -> None:
    assert np.isinf(morphology.distance_to(np.zeros((2, 2, 2), dtype=bool), SPACING)).all()
    assert not morphology.dilated(np.zeros((2, 2, 2), dtype=bool), SPACING, 9.0).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 4.0))
def test_opening_only_takes_and_closing_only_gives(seed: int, radius_mm: float) -> None:
    mask = np.random.default_rng(seed).random((6, 9, 9)) < 0.5
    assert not (morphology.opened(mask, SPACING, radius_mm) & ~mask).any()
    assert not (mask & ~morphology.closed(mask, SPACING, radius_mm)).any()


def test_closing_fills_a_gap_that_the_ball_does_not_enter() -> None:
    mask = np.ones((9, 9, 9), dtype=bool)
    mask[:, :, 4] = False
    assert morphology.closed(mask, (1.0, 1.0, 1.0), 3.0)[4, 4, 4]
    assert not morphology.closed(mask, (1.0, 1.0, 1.0), 0.5)[4, 4, 4]


def test_a_box_is_widened_only_as_far_as_the_array() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[0, 2, 4] = True
    assert morphology.box_of(mask) == (slice(0, 1), slice(2, 3), slice(4, 5))
    assert morphology.box_of(mask, (1, 1, 1)) == (slice(0, 2), slice(1, 4), slice(3, 5))

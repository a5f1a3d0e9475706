"""Components and filling, on masks small enough to count by hand."""

import numpy as np

from dicomnode.imaging import components


def two_boxes() -> np.ndarray:
    mask = np.zeros((4, 8, 8), dtype=bool)
    mask[0:2, 0:2, 0:2] = True
    mask[2:4, 4:8, 4:8] = True
    return mask


def test_components_are_numbered_in_order_of_their_first_voxel() -> None:
    labels, count = components.labelled(two_boxes())
    assert count == 2
    assert labels[0, 0, 0] == 1
    assert components.sizes(labels, count).tolist() == [256 - 40, 8, 32]


def test_corners_join_only_where_asked() -> None:
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert components.labelled(mask)[1] == 2
    assert components.labelled(mask, connectivity=3)[1] == 1


def test_the_largest_component_stays_alone() -> None:
    assert components.largest(two_boxes()).sum() == 32
    assert not components.largest(np.zeros((2, 2, 2), dtype=bool)).any()


def test_small_components_go() -> None:
    assert components.at_least(two_boxes(), 9).sum() == 32
    assert components.at_least(two_boxes(), 8).sum() == 40


def test_only_components_with_a_seed_stay() -> None:
    seeds = np.zeros((4, 8, 8), dtype=bool)
    seeds[1, 1, 1] = True
    seeds[0, 7, 7] = True
    assert components.touching(two_boxes(), seeds).sum() == 8


def test_a_slice_is_filled_by_itself() -> None:
    mask = np.zeros((2, 5, 5), dtype=bool)
    mask[0, 1:4, 1:4] = True
    mask[0, 2, 2] = False
    mask[1] = mask[0]
    mask[1, 1, 2] = False
    filled = components.filled_in_slices(mask)
    assert filled[0, 2, 2]
    assert not filled[1, 2, 2]

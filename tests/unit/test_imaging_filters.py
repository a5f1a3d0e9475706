"""Scale space against scipy and against formulas."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dicomnode.imaging import filters
from dicomnode.imaging.phantoms import sphere
from dicomnode.imaging.phantoms.solids import Setting

CUBES = Setting(shape=(48, 48, 48), spacing=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("sigma_mm", [0.8, 2.2, 6.0])
def test_smoothing_equals_scipy(sigma_mm: float) -> None:
    values = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)
    spacing = (2.0, 1.0, 0.5)
    ours = filters.gaussian(torch.from_numpy(values), sigma_mm, spacing).numpy()
    theirs = ndimage.gaussian_filter(
        values.astype(np.float64),
        [sigma_mm / s for s in spacing],
        mode="nearest",
        radius=[int(np.ceil(filters.REACH * sigma_mm / s)) for s in spacing],
    )
    assert np.allclose(ours, theirs, atol=1e-5)


def test_each_weight_sums_to_one_up_to_the_edges() -> None:
    matrix = filters.gaussian_matrix(7, 5.0)
    assert torch.allclose(matrix.sum(dim=1), torch.ones(7))
    assert torch.equal(filters.gaussian_matrix(4, 0.0), torch.eye(4))


def test_the_same_input_gives_the_same_bits() -> None:
    values = torch.from_numpy(np.random.default_rng(3).normal(size=(30, 40, 50))).float()
    first, again = (filters.gaussian(values.clone(), 2.0, (1.0, 1.0, 1.0)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("diameter_mm", [8.0, 12.0, 20.0])
def test_a_ball_answers_most_at_its_own_scale(diameter_mm: float) -> None:
    values = torch.from_numpy(sphere(diameter_mm, CUBES).array.copy())
    middle = tuple(n // 2 for n in values.shape)
    sigmas = np.arange(1.5, 9.0, 0.25)
    answers = [
        float(filters.blob_response(filters.gaussian(values, s, (1, 1, 1)), s, (1, 1, 1))[middle])
        for s in sigmas
    ]
    assert sigmas[int(np.argmax(answers))] == pytest.approx(diameter_mm / 2 / np.sqrt(3), rel=0.15)


def test_a_ball_curves_alike_in_all_directions_and_a_tube_does_not() -> None:
    ball = torch.from_numpy(sphere(10.0, CUBES).array.copy())
    tube = torch.full((48, 48, 48), -850.0)
    tube[:, 21:27, 21:27] = 40.0
    middle = np.array([[24, 24, 24]])
    for values, low, high in ((ball, 0.8, 1.0), (tube, 0.0, 0.2)):
        smooth = filters.gaussian(values, 2.5, (1.0, 1.0, 1.0))
        first, _, last = filters.hessian_eigenvalues(smooth, middle, (1.0, 1.0, 1.0))[0]
        assert low <= abs(first) / abs(last) <= high
        assert last < 0


def test_without_points_there_are_no_eigenvalues() -> None:
    none = np.zeros((0, 3), dtype=np.int64)
    assert filters.hessian_eigenvalues(torch.zeros(3, 3, 3), none, (1, 1, 1)).shape == (0, 3)


def test_local_maxima_are_those_of_a_search() -> None:
    values = np.random.default_rng(5).normal(size=(12, 14, 16)).astype(np.float32)
    mask = np.random.default_rng(6).random(values.shape) < 0.7
    found = filters.local_maxima(torch.from_numpy(values), torch.from_numpy(mask), 0.5)
    highest = ndimage.maximum_filter(values, size=5, mode="nearest")
    assert np.array_equal(found.numpy(), np.argwhere((values == highest) & (values > 0.5) & mask))

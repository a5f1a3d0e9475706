"""The phantoms are what their truth says, counted here by other means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dicomnode.imaging.phantoms import (
    ChestPhantom,
    ChestSigns,
    NodulePlace,
    NoduleSpec,
    Opacity,
    box,
    chest_ct,
    chest_radiograph,
    ellipsoid,
    sphere,
)
from dicomnode.imaging.phantoms.solids import Setting
from dicomnode.sdk import Laterality

SMALL = {"shape": (75, 128, 128), "spacing": (4.0, 2.5, 2.5)}


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_ct()


@pytest.fixture(scope="module")
def sick() -> ChestPhantom:
    signs = ChestSigns(
        effusion=Laterality.LEFT,
        pneumothorax=Laterality.RIGHT,
        consolidation=Laterality.RIGHT,
    )
    return chest_ct(**SMALL, nodules=(), signs=signs)


@pytest.mark.parametrize(
    ("phantom", "volume_mm3"),
    [
        (sphere(20.0), 4188.79),
        (ellipsoid((12.0, 18.0, 30.0)), 3392.92),
        (box((15.0, 12.0, 20.0)), 3600.0),
        (sphere(9.0, Setting(centre_lps=(3.3, -2.2, 1.1))), 381.70),
    ],
)
def test_a_solid_fills_its_voxels_by_the_volume_of_the_formula(phantom, volume_mm3) -> None:
    share = (phantom.array + 850.0) / 890.0
    counted = float(share.sum()) * float(np.prod(phantom.spacing))
    assert phantom.volume_mm3 == pytest.approx(volume_mm3, rel=1e-4)
    assert counted == pytest.approx(volume_mm3, rel=0.01)
    assert phantom.mask.sum() * np.prod(phantom.spacing) == pytest.approx(volume_mm3, rel=0.05)


def test_a_solid_lies_where_it_was_put() -> None:
    phantom = sphere(11.0, Setting(centre_lps=(4.2, -6.1, 3.3)))
    weight = phantom.array + 850.0
    index = np.array(ndimage.center_of_mass(weight))
    centre = phantom.volume().to_patient(index)
    np.testing.assert_allclose(centre, (4.2, -6.1, 3.3), atol=0.05)


def test_the_same_seed_gives_the_same_chest_and_another_seed_another() -> None:
    first, again, other = (chest_ct(**SMALL, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.array, again.array)
    assert first.nodules == again.nodules
    assert (first.array != other.array).any()


def test_the_right_lung_lies_on_the_patients_right_and_holds_what_an_adult_has(
    chest: ChestPhantom,
) -> None:
    for lung, sign in ((chest.right_lung, -1), (chest.left_lung, 1)):
        centre = chest.volume().to_patient(np.array(ndimage.center_of_mass(lung)))
        assert centre[0] * sign > 40.0
        assert 1500.0 < chest.volume_ml(lung) < 3500.0
    assert not (chest.right_lung & chest.left_lung).any()
    assert not (chest.lungs & chest.airways).any()
    assert (chest.body | ~chest.lungs).all()


def test_lung_is_as_thin_and_as_uneven_as_on_patients(chest: ChestPhantom) -> None:
    values = chest.array[chest.lungs]
    assert -880 < np.median(values) < -820
    assert 15 < np.subtract(*np.percentile(values, (75, 25))) < 80
    assert 0.02 < (values > -500).mean() < 0.12


def test_the_trachea_is_open_and_round_above_the_carina(chest: ChestPhantom) -> None:
    place = chest.array.shape[0] - 20
    labels, count = ndimage.label(chest.airways[place])
    assert count == 1
    assert labels.sum() * 1.25**2 == pytest.approx(np.pi * 9.0**2, rel=0.1)
    assert np.median(chest.array[place][chest.airways[place]]) < -950


@pytest.mark.parametrize("seed", range(3))
def test_each_nodule_has_the_stated_volume_centre_and_side(seed: int) -> None:
    specs = (
        NoduleSpec(8.0, NodulePlace.FREE, Laterality.LEFT),
        NoduleSpec(14.0, NodulePlace.FREE, Laterality.RIGHT),
    )
    with_nodules = chest_ct(nodules=specs, seed=seed)
    assert [n.diameter_mm for n in with_nodules.nodules] == [14.0, 8.0]
    for nodule in with_nodules.nodules:
        assert nodule.volume_mm3 == pytest.approx(np.pi / 6 * nodule.diameter_mm**3, rel=0.03)
        index = np.rint(with_nodules.volume().to_index(np.array(nodule.centre_lps))).astype(int)
        assert with_nodules.array[tuple(index)] > -50
        lung = (
            with_nodules.right_lung
            if nodule.laterality is Laterality.RIGHT
            else with_nodules.left_lung
        )
        assert lung[tuple(index)]


def test_the_default_nodules_are_free_at_a_vessel_and_at_the_pleura(chest: ChestPhantom) -> None:
    assert [(n.diameter_mm, str(n.place)) for n in chest.nodules] == [
        (16.0, "pleura"),
        (10.0, "vessel"),
        (6.0, "free"),
    ]
    outside = ~(chest.lungs | chest.airways)
    away_mm = ndimage.distance_transform_edt(~outside, sampling=chest.spacing)
    for nodule in chest.nodules:
        index = np.rint(chest.volume().to_index(np.array(nodule.centre_lps))).astype(int)
        gap_mm = away_mm[tuple(index)] - nodule.diameter_mm / 2
        assert gap_mm < 3.0 if nodule.place is NodulePlace.PLEURA else gap_mm > 2.5


def test_a_nodule_without_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="no room"):
        chest_ct(**SMALL, nodules=(NoduleSpec(150.0),))


def test_signs_have_their_density_and_their_side(sick: ChestPhantom) -> None:
    for mask, value, sign in (
        (sick.fluid, 8, 1),
        (sick.pleural_air, -1000, -1),
        (sick.consolidated, 38, -1),
    ):
        assert sick.volume_ml(mask) > 300.0
        assert np.median(sick.array[mask]) == pytest.approx(value, abs=12)
        columns = np.nonzero(mask)[2] * sick.spacing[2] + sick.origin[0]
        assert (columns * sign > 0).mean() > 0.99
    assert not (sick.lungs & (sick.fluid | sick.pleural_air)).any()
    assert (sick.lungs | ~sick.consolidated).all()


def test_a_radiograph_shows_lungs_dark_and_the_right_side_at_the_left_edge() -> None:
    phantom = chest_radiograph()
    middle = phantom.array.shape[1] // 2
    assert phantom.right_field[:, :middle].sum() > 0.95 * phantom.right_field.sum()
    heart = phantom.array[150:200, middle : middle + 40].mean()
    for field in (phantom.right_field, phantom.left_field):
        assert phantom.array[field].mean() < heart - 0.2


def test_an_opacity_brightens_its_own_place_only() -> None:
    plain = chest_radiograph()
    marked = chest_radiograph(opacities=(Opacity(column=90.0, row=120.0, diameter_mm=40.0),))
    row, column = np.nonzero(marked.array - plain.array > 0.02)
    assert np.hypot(row + 0.5 - 120.0, column + 0.5 - 90.0).max() < 21.0
    assert marked.array[120, 90] > plain.array[120, 90] + 0.1


def test_a_coned_radiograph_is_cut_below() -> None:
    phantom = chest_radiograph(rows_cut=40)
    assert phantom.array.shape == (260, 320)
    assert phantom.right_field.shape == phantom.array.shape
    assert phantom.images().images[0].view_position == "PA"

"""Body, airways and lungs of a drawn chest whose parts are known."""

import numpy as np
import pytest

from dicomnode.imaging import chest, orient, resample
from dicomnode.imaging.phantoms import ChestPhantom, chest_ct
from dicomnode.sdk import SeriesInfo, Volume


@pytest.fixture(scope="module")
def phantom() -> ChestPhantom:
    return chest_ct(seed=1)


def parts_of(volume: Volume) -> chest.Chest:
    upright = orient.to_lps(volume)
    hu, spacing = resample.to_spacing(
        upright.tensor(), upright.spacing, chest.GRID_MM, average=True
    )
    return chest.segment_chest(hu.numpy(), spacing)


@pytest.fixture(scope="module")
def parts(phantom: ChestPhantom) -> chest.Chest:
    return parts_of(phantom.volume())


@pytest.mark.parametrize("name", ["body", "right_lung", "left_lung"])
def test_volumes_are_those_that_were_drawn(
    phantom: ChestPhantom, parts: chest.Chest, name: str
) -> None:
    drawn_ml = phantom.volume_ml(getattr(phantom, name))
    found_ml = parts.volume_mm3(getattr(parts, name)) / 1000
    assert found_ml == pytest.approx(drawn_ml, rel=0.05)


def test_masks_lie_where_they_were_drawn(phantom: ChestPhantom, parts: chest.Chest) -> None:
    for name in ("body", "right_lung", "left_lung"):
        found = resample.to_grid_of(phantom.volume(), getattr(parts, name))
        drawn = getattr(phantom, name)
        assert 2 * (found & drawn).sum() / (found.sum() + drawn.sum()) > 0.95


def test_the_trachea_is_found_and_does_not_leak(phantom: ChestPhantom, parts: chest.Chest) -> None:
    drawn_ml = phantom.volume_ml(phantom.airways)
    assert 0.5 * drawn_ml < parts.volume_mm3(parts.airways) / 1000 < 1.6 * drawn_ml
    assert not (parts.airways & parts.lungs).any()


@pytest.mark.parametrize(
    ("order", "signs"),
    [((0, 1, 2), (1, 1, -1)), ((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, 1))],
)
def test_right_stays_the_patients_right_in_any_order_of_the_array(
    phantom: ChestPhantom, parts: chest.Chest, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    volume = phantom.volume()
    steps = tuple(slice(None, None, sign) for sign in signs)
    array = np.ascontiguousarray(volume.array.transpose(order)[steps])
    first = np.zeros(3)
    for axis, sign in zip(order, signs, strict=True):
        first[axis] = volume.shape[axis] - 1 if sign < 0 else 0
    turned = Volume(
        array,
        tuple(volume.spacing[axis] for axis in order),
        tuple(volume.to_patient(first)),
        volume.direction[list(order)] * np.array(signs)[:, None],
        volume.series,
        volume.unit,
    )
    assert np.array_equal(parts_of(turned).right_lung, parts.right_lung)


def test_lungs_of_a_slab_are_cut_and_those_of_a_chest_are_not(
    phantom: ChestPhantom, parts: chest.Chest
) -> None:
    volume = phantom.volume()
    slab = Volume(
        volume.array[40:80].copy(), volume.spacing, volume.origin, volume.direction, volume.series
    )
    assert not chest.are_lungs_cut(parts)
    assert chest.are_lungs_cut(parts_of(slab))


def test_closing_takes_the_nodule_at_the_pleura_in(
    phantom: ChestPhantom, parts: chest.Chest
) -> None:
    closed = resample.to_grid_of(phantom.volume(), chest.closed_lungs(parts, 10.0))
    for nodule in phantom.nodules:
        index = np.rint(phantom.volume().to_index(np.array(nodule.centre_lps))).astype(int)
        assert closed[tuple(index)]


def test_a_block_of_water_holds_no_lung_and_air_no_body() -> None:
    water = np.full((30, 60, 60), -1000.0, dtype=np.float32)
    water[:, 10:50, 10:50] = 0.0
    found = chest.segment_chest(water, (2.0, 2.0, 2.0))
    assert found.body.sum() == pytest.approx(30 * 40 * 40, rel=0.02)
    assert not found.lungs.any()
    assert not found.airways.any()
    empty = chest.segment_chest(np.full((9, 9, 9), -1000.0, dtype=np.float32), (2.0, 2.0, 2.0))
    assert not empty.body.any()


def test_progress_is_told_between_the_steps() -> None:
    heard: list[float] = []
    array = np.full((9, 9, 9), -1000.0, dtype=np.float32)
    chest.segment_chest(array, (2.0, 2.0, 2.0), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_unknown_padding_does_no_harm(phantom: ChestPhantom) -> None:
    array = phantom.array.astype(np.float32)
    array[:, :3] = -2000.0
    volume = Volume(array, phantom.spacing, phantom.origin, phantom.direction, SeriesInfo("CT"))
    found = parts_of(volume)
    assert found.right_lung.any()
    assert found.left_lung.any()

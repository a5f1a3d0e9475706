"""The nodule pipeline on drawn chests with known nodules, and on one real chest."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from dicomnode.imaging import measure
from dicomnode.imaging.chest import Chest
from dicomnode.imaging.phantoms import (
    ChestPhantom,
    NodulePlace,
    NoduleSpec,
    PhantomNodule,
    chest_ct,
)
from dicomnode.sdk import (
    Cancelled,
    Code,
    Context,
    Declined,
    Finding,
    Findings,
    Laterality,
    SeriesInfo,
    Volume,
)
from dicomnode.sdk.codes import CHEST, LUNG, MASS, NODULE
from pipelines.lung_nodule.candidates import Candidate, merged
from pipelines.lung_nodule.pipeline import LungNodule, LungNoduleSettings
from pipelines.lung_nodule.sides import Sides

FINE = {"shape": (160, 300, 300), "spacing": (2.0, 1.0, 1.0)}
NODULES = (
    NoduleSpec(5.0, NodulePlace.FREE, Laterality.RIGHT),
    NoduleSpec(7.0, NodulePlace.FREE, Laterality.LEFT),
    NoduleSpec(10.0, NodulePlace.VESSEL, Laterality.LEFT),
    NoduleSpec(14.0, NodulePlace.PLEURA, Laterality.RIGHT),
    NoduleSpec(20.0, NodulePlace.FREE, Laterality.LEFT),
    NoduleSpec(34.0, NodulePlace.FREE, Laterality.RIGHT),
)


SIDES = (Laterality.RIGHT, Laterality.LEFT)
SAGITTAL = (2, 0, 1)


def turned(volume: Volume, order: tuple[int, int, int], backwards: tuple[int, ...]) -> Volume:
    """Give the same patient with the array's axes in another order, some of them backwards."""
    steps = tuple(slice(None, None, -1 if axis in backwards else 1) for axis in range(3))
    first = [volume.shape[axis] - 1.0 if axis in backwards else 0.0 for axis in range(3)]
    signs = np.array([-1.0 if axis in backwards else 1.0 for axis in range(3)])[:, None]
    z, y, x = (volume.spacing[axis] for axis in order)
    return replace(
        volume,
        array=np.ascontiguousarray(volume.array[steps].transpose(order)),
        spacing=(z, y, x),
        origin=tuple(volume.to_patient(np.array(first))),
        direction=(volume.direction * signs)[list(order)],
    )


def run(volume: Volume, **settings: float) -> Findings | Declined:
    return LungNodule().run(volume, Context.for_test(settings=LungNoduleSettings(**settings)))


@pytest.fixture(scope="module")
def phantom() -> ChestPhantom:
    return chest_ct(**FINE, nodules=NODULES, seed=3)


@dataclass(frozen=True)
class Slab:
    """The upper half of the chest, for what needs no whole one: a run of it takes half the time."""

    volume: Volume
    nodules: tuple[PhantomNodule, ...]


@pytest.fixture(scope="module")
def slab(phantom: ChestPhantom) -> Slab:
    whole = phantom.volume()
    lowest = 60
    corner = whole.to_patient(np.array([float(lowest), 0.0, 0.0]))
    volume = replace(whole, array=whole.array[lowest:142].copy(), origin=tuple(corner))
    inside = [one for one in phantom.nodules if one.centre_lps[2] - one.diameter_mm / 2 > corner[2]]
    assert len(inside) == len(NODULES) - 1
    return Slab(volume, tuple(inside))


@pytest.fixture(scope="module")
def found(phantom: ChestPhantom) -> Findings:
    result = run(phantom.volume())
    assert isinstance(result, Findings)
    return result


def finding_at(found: Findings, volume: Volume, point_lps: tuple[float, float, float]) -> Finding:
    """Give the finding whose mask holds the voxel at a point."""
    index = tuple(np.rint(volume.to_index(np.array(point_lps))).astype(int))
    for finding in found.findings:
        assert finding.segment is not None
        if finding.segment.on_grid(volume.shape)[index]:
            return finding
    raise AssertionError(f"nothing found at {point_lps}")


def test_each_nodule_of_5_mm_or_more_is_found_with_its_size(
    phantom: ChestPhantom, found: Findings
) -> None:
    volume = phantom.volume()
    for nodule in phantom.nodules:
        segment = finding_at(found, volume, nodule.centre_lps).segment
        assert segment is not None
        measures = measure.measured(volume, segment.mask, segment.offset)
        diameter_mm = (6 * measures.volume_mm3 / np.pi) ** (1 / 3)
        assert diameter_mm == pytest.approx(nodule.diameter_mm, abs=1.0)


def test_masks_never_overlap_and_lie_in_the_source(phantom: ChestPhantom, found: Findings) -> None:
    total = np.zeros(phantom.array.shape, dtype=np.int64)
    for finding in found.findings:
        assert finding.segment is not None
        total += finding.segment.on_grid(phantom.volume().shape)
    assert total.max() == 1


def test_findings_are_ordered_coded_and_without_probability(
    phantom: ChestPhantom, found: Findings
) -> None:
    scores = [finding.score for finding in found.findings]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) <= 20
    for finding in found.findings:
        assert finding.site == LUNG
        assert finding.probability is None
        assert finding.laterality in SIDES
    largest = max(phantom.nodules, key=lambda nodule: nodule.diameter_mm)
    assert finding_at(found, phantom.volume(), largest.centre_lps).type == MASS
    smallest = min(phantom.nodules, key=lambda nodule: nodule.diameter_mm)
    assert finding_at(found, phantom.volume(), smallest.centre_lps).type == NODULE


def test_the_same_input_gives_the_same_bits(slab: Slab) -> None:
    first, again = (run(slab.volume, maximum_candidates=60) for _ in range(2))
    assert isinstance(first, Findings)
    assert isinstance(again, Findings)
    assert [f.score for f in again.findings] == [f.score for f in first.findings]
    assert len(first.findings) >= len(slab.nodules)
    for one, other in zip(again.findings, first.findings, strict=True):
        assert one.segment is not None
        assert other.segment is not None
        assert one.segment.offset == other.segment.offset
        assert np.array_equal(one.segment.mask, other.segment.mask)


def test_smaller_slabs_find_the_same_nodules(slab: Slab) -> None:
    settings = LungNoduleSettings(maximum_candidates=60)
    context = Context.for_test(settings=settings, reduction=4)
    again = LungNodule().run(slab.volume, context)
    assert isinstance(again, Findings)
    for nodule in slab.nodules:
        assert finding_at(again, slab.volume, nodule.centre_lps)


def test_each_nodule_lies_on_the_patients_side(phantom: ChestPhantom, found: Findings) -> None:
    for nodule in phantom.nodules:
        finding = finding_at(found, phantom.volume(), nodule.centre_lps)
        assert (finding.site, finding.laterality) == (LUNG, nodule.laterality)


@pytest.mark.parametrize(
    ("order", "backwards"), [((0, 1, 2), (2,)), (SAGITTAL, ()), (SAGITTAL, (0, 2))]
)
def test_an_array_that_lies_another_way_finds_the_same_places_and_sides(
    slab: Slab, order: tuple[int, int, int], backwards: tuple[int, ...]
) -> None:
    volume = turned(slab.volume, order, backwards)
    again = run(volume, maximum_candidates=60)
    assert isinstance(again, Findings)
    for nodule in slab.nodules:
        assert finding_at(again, volume, nodule.centre_lps).laterality is nodule.laterality


@pytest.mark.slow
def test_few_things_are_found_in_a_chest_without_nodules() -> None:
    result = run(chest_ct(**FINE, nodules=(), seed=5).volume())
    assert isinstance(result, Findings)
    assert len(result.findings) <= 10
    assert result.sought == (NODULE,)
    assert result.absent == ()


def test_settings_limit_what_is_reported(slab: Slab) -> None:
    result = run(slab.volume, minimum_diameter_mm=12.0, maximum_findings=2, maximum_candidates=40)
    assert isinstance(result, Findings)
    assert len(result.findings) == 2
    assert "12 mm" in result.summary
    assert "left out" in result.summary


def test_nothing_found_is_a_result_in_words(slab: Slab) -> None:
    result = run(slab.volume, lowest_score=1e9, maximum_candidates=5)
    assert isinstance(result, Findings)
    assert result.findings == ()
    assert result.summary == (
        "No nodule of 4 mm or more found; the lungs are not whole in the field of view"
    )


def test_a_body_without_lungs_is_declined(phantom: ChestPhantom) -> None:
    array = np.full((50, 120, 120), -1000.0, dtype=np.float32)
    array[:, 20:100, 20:100] = 30.0
    volume = Volume(array, (2.0, 2.0, 2.0), (0, 0, 0), phantom.direction, *series_of(phantom))
    result = run(volume)
    assert isinstance(result, Declined)
    assert "No lung" in result.text


def test_values_that_are_not_hounsfield_units_are_declined(phantom: ChestPhantom) -> None:
    volume = replace(phantom.volume(), unit="1")
    result = run(volume)
    assert isinstance(result, Declined)
    assert "Hounsfield" in result.text


def series_of(phantom: ChestPhantom) -> tuple[object, str]:
    volume = phantom.volume()
    return volume.series, volume.unit


def test_a_cancelled_run_stops(phantom: ChestPhantom) -> None:
    calls: list[float] = []
    context = Context.for_test(
        settings=LungNoduleSettings(),
        report=lambda fraction, _text: calls.append(fraction),
        is_cancelled=lambda: len(calls) >= 2,
    )
    with pytest.raises(Cancelled):
        LungNodule().run(phantom.volume(), context)
    assert len(calls) == 2


def test_candidates_of_one_place_are_merged_into_the_strongest() -> None:
    weak = Candidate((10.0, 10.0, 10.0), 1.5, 100.0, 0.9)
    strong = Candidate((11.0, 10.0, 10.0), 3.2, 300.0, 0.9)
    apart = Candidate((30.0, 10.0, 10.0), 1.5, 50.0, 0.9)
    assert merged([weak, apart, strong]) == [strong, apart]


HEAD_BACK_LEFT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def sides_of(right: slice, left: slice) -> Sides:
    """A body of 400 mm around 0 in steps of 10 mm, with lungs between these columns."""
    array = np.full((10, 20, 60), -1000.0, dtype=np.float32)
    array[:, 2:18, 10:50] = 30.0
    lungs = [np.zeros((5, 10, 60), dtype=np.bool_) for _ in range(2)]
    for lung, columns in zip(lungs, (right, left), strict=True):
        lung[:, 2:8, columns] = True
    volume = Volume(
        array, (10.0, 10.0, 10.0), (-295.0, 0.0, 0.0), HEAD_BACK_LEFT, SeriesInfo("CT"), "[hnsf'U]"
    )
    body = np.ones((5, 10, 60), dtype=np.bool_)
    parts = Chest((20.0, 20.0, 10.0), body, np.zeros_like(body), lungs[0], lungs[1])
    return Sides.of(volume, parts)


@pytest.mark.parametrize(
    ("column", "where"),
    [
        (15, (LUNG, Laterality.RIGHT)),
        (28, (LUNG, Laterality.RIGHT)),
        (29, (LUNG, None)),
        (30, (LUNG, Laterality.LEFT)),
        (45, (LUNG, Laterality.LEFT)),
    ],
)
def test_the_nearer_lung_gives_the_side_and_neither_one_none(
    column: int, where: tuple[Code, Laterality | None]
) -> None:
    sides = sides_of(slice(12, 27), slice(32, 48))
    assert sides.at(np.array([5.0, 10.0, column])) == where


def test_without_one_of_the_lungs_no_side_is_said() -> None:
    sides = sides_of(slice(12, 28), slice(0, 0))
    assert sides.at(np.array([5.0, 10.0, 15.0])) == (LUNG, None)


@pytest.mark.parametrize(("column", "where"), [(29, (LUNG, Laterality.RIGHT)), (31, (CHEST, None))])
def test_a_lung_that_reaches_across_the_middle_leaves_its_nodules_there_without_a_side(
    column: int, where: tuple[Code, Laterality | None]
) -> None:
    sides = sides_of(slice(12, 35), slice(40, 48))
    assert sides.at(np.array([5.0, 10.0, column])) == where

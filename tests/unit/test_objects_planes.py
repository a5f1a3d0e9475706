"""Sets on axial, coronal and sagittal series: sides, outlines of the body, volumes and means.

The body is a child's: 170 mm wide with its middle at x = 0, two lungs, and a trachea that leaves
the images at the top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset

from dicomnode.dicom.checks import check
from dicomnode.dicom.objects import EncodeRequest, encode
from dicomnode.dicom.objects.items import Item, items
from dicomnode.dicom.volumes import Loaded, load
from dicomnode.sdk import Code, Finding, Findings, Laterality, Segment, Volume
from dicomnode.sdk.codes import BODY, CHEST, LUNG, NODULE, TRACHEA_AND_BRONCHI
from tests import data
from tests import results_data as made

PLANES = tuple(data.PLANES)
SLICE_MM, PIXEL_MM, SLICES, PIXELS = 5.0, 2.5, 41, 80
RIGHT, LEFT = (-40.0, 0.0, 0.0), (40.0, 5.0, 10.0)
KIDNEY = Code("64033007", "SCT", "Kidney")
Mask = np.ndarray
Shape = Callable[[Mask], Mask]


def within(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Shape:
    return lambda points: (((points - centre) / radii) ** 2).sum(axis=-1) < 1


def nodule(centre: tuple[float, float, float]) -> Shape:
    return within(centre, (8.0, 8.0, 8.0))


TRUNK = within((0, 0, 0), (85.0, 60.0, 1e9))
RIGHT_LUNG, LEFT_LUNG = (within((x, 0, 0), (28.0, 40.0, 80.0)) for x in (-40, 40))
TRACHEA = within((0, 0, 100), (7.0, 7.0, 120.0))
ARM = within((90.0, 0.0, 0.0), (6.0, 12.0, 1e9))


def grid(plane: str, shift_mm: float = 0.0) -> Mask:
    """Patient points ``(slices, rows, columns, 3)`` of a series of 200 mm each way."""
    across, down = data.PLANES[plane]
    steps = np.meshgrid(
        -100 + SLICE_MM * np.arange(SLICES),
        *(-100 + PIXEL_MM * np.arange(PIXELS) for _ in range(2)),
        indexing="ij",
    )
    points = sum(s[..., None] * way for s, way in zip(steps, (np.cross(across, down), down, across),
                                                      strict=True))  # fmt: skip
    return np.asarray(points) + np.array([shift_mm, 0.0, 0.0])


def series(plane: str = "axial", *more: Shape, shift_mm: float = 0.0) -> list[FileDataset]:
    """The child and ``more`` tissue; ``shift_mm`` moves the field of view to the patient's left."""
    points = grid(plane, shift_mm)
    values = np.where(TRUNK(points), 40, -1000)
    for air in (RIGHT_LUNG, LEFT_LUNG, TRACHEA):
        values[air(points)] = -850
    for tissue in (nodule(RIGHT), nodule(LEFT), *more):
        values[tissue(points)] = 40
    images = data.ct_series(
        slices=SLICES,
        rows=PIXELS,
        spacing=(SLICE_MM, PIXEL_MM, PIXEL_MM),
        values=values.astype(np.int16),
        plane=plane,
        patient=data.Patient(issuer="HOSPITAL"),
    )
    for image in images:
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x + shift_mm, y, z]
    return images


@dataclass(frozen=True)
class Case:
    """A series in files, loaded by the node's own loader."""

    folder: Path
    loaded: Loaded

    @property
    def volume(self) -> Volume:
        assert isinstance(self.loaded.input, Volume)
        return self.loaded.input

    def mask(self, shape: Shape) -> Segment:
        index = np.moveaxis(np.indices(self.volume.shape), 0, -1).astype(np.float64)
        return Segment(shape(self.volume.to_patient(index)))

    def asked(self, findings: Findings) -> EncodeRequest:
        return made.request(findings, source=self.loaded.source, volume=self.volume)

    def nodule(self, shape: Shape, **given: object) -> Findings:
        return Findings("One", (Finding(NODULE, LUNG, self.mask(shape), **given),))  # type: ignore[arg-type]

    def organs(self, *organs: tuple[Code, Shape]) -> Findings:
        masks = ((kind, self.mask(shape).mask) for kind, shape in organs)
        return Findings("Organs", segments=tuple(Segment(m, type=kind) for kind, m in masks))

    def written(self, findings: Findings) -> made.Written:
        return made.written(encode(self.asked(findings)), [], self.folder)

    def rules_broken(self, findings: Findings) -> set[str]:
        files = self.written(findings)
        return {v.rule for v in check(files.result_files, self.loaded.source.paths)}


def case(images: list[FileDataset], folder: Path) -> Case:
    loaded = load(data.save_all(images, folder / "source"), "volume")
    assert isinstance(loaded, Loaded), loaded
    return Case(folder, loaded)


def places(request: EncodeRequest) -> list[tuple[Code, Laterality | None]]:
    return [(item.site, item.laterality) for item in items(request)]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("centre", "side"), [(RIGHT, Laterality.RIGHT), (LEFT, Laterality.LEFT)], ids=["right", "left"]
)
def test_a_side_is_the_patients_in_every_plane(
    plane: str, centre: tuple[float, float, float], side: Laterality, tmp_path: Path
) -> None:
    chest = case(series(plane), tmp_path)
    findings = chest.nodule(nodule(centre))
    assert places(chest.asked(findings)) == [(LUNG, side)]
    assert chest.rules_broken(findings) == set()


@pytest.mark.parametrize("plane", PLANES)
def test_a_side_that_is_the_other_one_is_caught_in_every_plane(plane: str, tmp_path: Path) -> None:
    chest = case(series(plane), tmp_path)
    findings = chest.nodule(nodule(LEFT), laterality=Laterality.RIGHT)
    assert chest.rules_broken(findings) == {"sr.laterality"}


@pytest.mark.parametrize("plane", PLANES)
def test_organs_of_every_plane_pass_with_a_trachea_that_leaves_at_the_top(
    plane: str, tmp_path: Path
) -> None:
    chest = case(series(plane), tmp_path)

    def lungs(points: Mask) -> Mask:
        return RIGHT_LUNG(points) | LEFT_LUNG(points)

    findings = chest.organs(
        (LUNG, RIGHT_LUNG),
        (LUNG, LEFT_LUNG),
        (LUNG, lungs),
        (TRACHEA_AND_BRONCHI, TRACHEA),
        (BODY, TRUNK),
    )
    sides = [side for _, side in places(chest.asked(findings))]
    assert sides[:3] == [Laterality.RIGHT, Laterality.LEFT, Laterality.BILATERAL]
    assert chest.rules_broken(findings) == set()


@pytest.mark.parametrize("plane", PLANES)
def test_a_segment_in_the_air_beside_the_body_is_caught_in_every_plane(
    plane: str, tmp_path: Path
) -> None:
    chest = case(series(plane), tmp_path)
    beside = chest.organs((BODY, within((0, -85.0, 0), (9.0, 9.0, 9.0))))
    wide = chest.organs((BODY, within((93.0, 0, 0), (5.0, 9.0, 9.0))))
    findings = wide if plane == "coronal" else beside
    assert chest.rules_broken(findings) == {"seg.body"}


def test_an_arm_at_one_side_does_not_move_the_middle(tmp_path: Path) -> None:
    near = nodule((3.0, -45.0, 0.0))
    chest = case(series("axial", ARM, near), tmp_path)
    assert places(chest.asked(chest.nodule(near))) == [(LUNG, Laterality.LEFT)]


@pytest.mark.parametrize("shift_mm", [105.0, 65.0, -65.0])
@pytest.mark.parametrize("plane", PLANES)
def test_a_field_of_view_that_ends_in_the_body_makes_up_no_side(
    plane: str, shift_mm: float, tmp_path: Path
) -> None:
    centre = LEFT if shift_mm > 0 else RIGHT
    chest = case(series(plane, shift_mm=shift_mm), tmp_path)
    findings = chest.nodule(nodule(centre))
    assert places(chest.asked(findings)) == [(CHEST, None)]
    assert chest.rules_broken(findings) == set()


def test_a_side_that_a_pipeline_says_is_kept_where_the_images_do_not_show_the_middle(
    tmp_path: Path,
) -> None:
    chest = case(series(shift_mm=65.0), tmp_path)
    findings = chest.nodule(nodule(LEFT), laterality=Laterality.LEFT)
    assert places(chest.asked(findings)) == [(LUNG, Laterality.LEFT)]
    assert chest.rules_broken(findings) == set()


def test_an_organ_of_unknown_side_lies_in_the_part_of_the_body_that_has_the_pair(
    tmp_path: Path,
) -> None:
    chest = case(series(shift_mm=65.0), tmp_path)
    findings = chest.organs((LUNG, LEFT_LUNG), (KIDNEY, nodule(LEFT)))
    assert [(item.type, item.site.meaning, item.laterality) for item in named(chest, findings)] == [
        (LUNG, "Chest", None),
        (KIDNEY, "Abdomen", None),
    ]
    assert chest.rules_broken(findings) == set()


def named(chest: Case, findings: Findings) -> tuple[Item, ...]:
    return items(chest.asked(findings))


def test_images_without_a_body_show_no_middle(tmp_path: Path) -> None:
    images = data.ct_series(values=np.full((20, 64, 64), -1000, dtype=np.int16))
    air = case(images, tmp_path)
    assert places(air.asked(air.nodule(nodule((0.0, 0.0, -75.0))))) == [(CHEST, None)]


@pytest.mark.peer
@pytest.mark.parametrize("shift_mm", [0.0, 65.0])
def test_the_independent_checker_takes_a_set_with_a_side_and_one_without(
    shift_mm: float, checker: ModuleType, tmp_path: Path
) -> None:
    chest = case(series(shift_mm=shift_mm), tmp_path)
    files = chest.written(chest.nodule(nodule(LEFT)))
    assert checker.check(str(files.source), str(files.results), strict=True) == []


def test_positions_that_were_rounded_keep_the_distance_of_the_slices(tmp_path: Path) -> None:
    images = data.ct_series(slices=17, spacing=(0.625, 1.25, 1.25))
    for image in images:
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, round(float(z), 1)]
    heights = [float(image.ImagePositionPatient[2]) for image in images]
    assert np.median(np.diff(heights)) == pytest.approx(0.6)
    chest = case(images, tmp_path)
    findings = chest.nodule(within((16.0, 0.0, -95.0), (6.0, 6.0, 4.0)))
    assert chest.rules_broken(findings) == set()


def padded(images: list[FileDataset], **attributes: int) -> list[FileDataset]:
    """``images`` with padding of −2000 beyond a circle that cuts into the body at both sides."""
    row, column = np.ogrid[:PIXELS, :PIXELS]
    beyond = (row - PIXELS / 2) ** 2 + (column - PIXELS / 2) ** 2 > (75.0 / PIXEL_MM) ** 2
    for image in images:
        stored = np.frombuffer(image.PixelData, dtype="<i2").reshape(PIXELS, PIXELS).copy()
        stored[beyond] = data.CT_PADDING
        image.PixelData = stored.tobytes()
        for keyword, value in attributes.items():
            image.add_new(keyword, "SS" if value < 0 else "US", value)
    return images


PADDING = {
    "signed": {"PixelPaddingValue": data.CT_PADDING},
    "as GE writes it, without a sign": {"PixelPaddingValue": data.CT_PADDING + 0x10000},
    "a range": {"PixelPaddingValue": -2005, "PixelPaddingRangeLimit": -1990},
}


@pytest.mark.parametrize("attributes", PADDING.values(), ids=PADDING.keys())
def test_padding_under_a_mask_has_no_part_in_its_mean(
    attributes: dict[str, int], tmp_path: Path
) -> None:
    chest = case(padded(series(), **attributes), tmp_path)
    # All tissue, and a slab that reaches a little beyond what was measured at the side.
    findings = chest.organs((BODY, within((-66.0, 0.0, 0.0), (14.0, 14.0, 60.0))))
    (organ,) = named(chest, findings)
    assert organ.measured is not None
    assert organ.measured.mean is not None
    assert abs(organ.measured.mean - measured_mean(chest, findings)) < 0.5
    assert "sr.mean" not in chest.rules_broken(findings)


def measured_mean(chest: Case, findings: Findings) -> float:
    mask = findings.segments[0].mask
    values = np.stack([image_values(d) for d in map(read, chest.loaded.source.paths)])[mask]
    assert (values < -2000).any()
    return float(values[values > -2000].mean())


def read(path: Path) -> FileDataset:
    return pydicom.dcmread(path)


def image_values(image: Dataset) -> np.ndarray:
    return np.asarray(image.pixel_array, dtype=np.float64) + data.INTERCEPT


def test_a_body_that_is_cut_by_the_circle_of_padding_shows_no_middle(tmp_path: Path) -> None:
    shifted = padded(series(shift_mm=65.0), PixelPaddingValue=data.CT_PADDING)
    chest = case(shifted, tmp_path)
    findings = chest.nodule(nodule(LEFT), laterality=Laterality.RIGHT)
    assert places(chest.asked(chest.nodule(nodule(LEFT)))) == [(CHEST, None)]
    assert chest.rules_broken(findings) == set()

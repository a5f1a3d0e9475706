"""The CT pipelines on public chest CT: the readers' nodule, both lungs, what to refuse."""

from pathlib import Path

import numpy as np
import pytest

from dicomnode.dicom.volumes import Loaded, Takes, load
from dicomnode.imaging import measure
from dicomnode.sdk import Context, Declined, Findings, Volume
from pipelines.lung_nodule.pipeline import LungNodule, LungNoduleSettings
from pipelines.organ_segmentation.pipeline import OrganSegmentation

pytestmark = pytest.mark.slow

# LIDC-IDRI-0001: centre, diameter and volumes of the nodule that all four readers marked.
CENTRE_LPS = np.array([56.2, 86.3, -115.9])
DIAMETER_MM = 23.4
READERS_MM3 = (5_700.0, 7_300.0)


def volume_of(folder: Path) -> Volume:
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    loaded = load(sorted(folder.iterdir()), Takes.VOLUME)
    assert isinstance(loaded, Loaded)
    assert isinstance(loaded.input, Volume)
    return loaded.input


@pytest.fixture(scope="module")
def chest(data_folder: Path) -> Volume:
    return volume_of(data_folder / "ct-chest-lidc" / "LIDC-IDRI-0001" / "dicom")


@pytest.fixture(scope="module")
def abdomen(data_folder: Path) -> Volume:
    return volume_of(data_folder / "ct-organs-totalsegmentator" / "dicom-abdomen" / "dicom")


def test_the_readers_nodule_is_among_the_first_three_with_their_volume(chest: Volume) -> None:
    result = LungNodule().run(chest, Context.for_test(settings=LungNoduleSettings()))
    assert isinstance(result, Findings)
    volumes = []
    for finding in result.findings[:3]:
        assert finding.segment is not None
        mask, offset = finding.segment.mask, finding.segment.offset
        centre = chest.to_patient(np.argwhere(mask).mean(axis=0) + offset)
        if np.linalg.norm(centre - CENTRE_LPS) < DIAMETER_MM / 2:
            volumes.append(measure.measured(chest, mask, offset).volume_mm3)
    assert len(volumes) == 1
    assert 0.7 * READERS_MM3[0] <= volumes[0] <= 1.3 * READERS_MM3[1]


def test_both_lungs_have_the_volume_of_an_adults(chest: Volume) -> None:
    result = OrganSegmentation().run(chest, Context.for_test())
    assert isinstance(result, Findings)
    lungs = [segment for segment in result.segments if segment.label.endswith("lung")]
    assert [segment.label for segment in lungs] == ["Right lung", "Left lung"]
    litres = sum(float(s.mask.sum()) * chest.voxel_volume_mm3 for s in lungs) / 1e6
    assert 1.5 < litres < 9.0
    centres = [chest.to_patient(np.argwhere(s.mask).mean(axis=0))[0] for s in lungs]
    assert centres[0] < 0 < centres[1]


def test_an_abdomen_has_organs_but_no_lung_to_search(abdomen: Volume) -> None:
    assert isinstance(
        LungNodule().run(abdomen, Context.for_test(settings=LungNoduleSettings())), Declined
    )
    result = OrganSegmentation().run(abdomen, Context.for_test())
    assert isinstance(result, Findings)
    assert [segment.label for segment in result.segments] == ["Body", "Skeleton"]
    assert "right lung" in result.summary

"""Result sets on real images, loaded by the node's own loader."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dicomnode.dicom.checks import check
from dicomnode.dicom.objects import EncodeRequest, encode
from dicomnode.dicom.volumes import Loaded, load
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import (
    Assessment,
    Finding,
    Findings,
    Images,
    Outline,
    Segment,
    Sign,
    Urgency,
    Volume,
)
from dicomnode.sdk.codes import ABNORMAL_OPACITY, BODY, CONSOLIDATION, LUNG, NODULE
from tests import results_data as made

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SOURCES = {
    "chest CT": "ct-chest-lidc/LIDC-IDRI-0001/dicom",
    "brain MR": "mr-brain-datalad/dicom",
    "radiograph, JPEG 2000": "single-images/RG1_J2KI.dcm",
    "radiograph, MONOCHROME1, no identity": "dicom-zoo/odd/CR-MONO1-10-chest",
}


def found_in_volume(volume: Volume) -> Findings:
    """A box in the middle of the left of the volume, and a body above the median."""
    z, y, x = (n // 2 for n in volume.shape)
    body = volume.array > (-500 if volume.unit != "1" else float(np.percentile(volume.array, 70)))
    box = np.ones((min(3, volume.shape[0]), 9, 12), dtype=bool)
    lesion = Segment(box, offset=(max(0, z - 1), y - 4, x - 30 if x > 60 else x // 2))
    return Findings("One box", (Finding(NODULE, LUNG, lesion),), (Segment(body, type=BODY),))


def found_on_images() -> Findings:
    points = np.array([[40.0, 50.0], [140.0, 50.0], [140.0, 190.0]])
    return Findings(
        "Opacity",
        (Finding(CONSOLIDATION, LUNG, outline=Outline(points)),),
        sought=(CONSOLIDATION, ABNORMAL_OPACITY),
        assessment=Assessment(Urgency.SIGNIFICANT, (Sign(CONSOLIDATION, "Opacity"),)),
    )


def asked(loaded: Loaded) -> EncodeRequest:
    if isinstance(loaded.input, Images):
        findings = found_on_images()
    else:
        findings = found_in_volume(loaded.input)
    return made.request(findings, source=loaded.source, volume=loaded.input)


@pytest.mark.parametrize("name", SOURCES.values(), ids=SOURCES.keys())
def test_a_set_on_real_images_passes_the_gate_and_the_independent_checker(
    name: str, data_folder: Path, checker: ModuleType, tmp_path: Path
) -> None:
    place = data_folder / name
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    loaded = load(files, "either")
    assert not isinstance(loaded, Reason)
    results, source = tmp_path / "results", tmp_path / "source"
    results.mkdir()
    source.mkdir()
    for path in loaded.source.paths:
        (source / path.name).symlink_to(path)
    for each in encode(asked(loaded)):
        each.write(results / f"{each.kind}.dcm")
    assert check(sorted(results.iterdir()), loaded.source.paths) == []
    if all(path.read_bytes()[128:132] == b"DICM" for path in loaded.source.paths):
        assert checker.check(str(source), str(results), strict=True) == []

"""What the demonstration sends: phantoms whose truth is known, or the files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicomnode.demo.screen import DemoError
from dicomnode.dicom.phantom_study import PhantomStudy, write_chest_ct, write_radiograph
from dicomnode.imaging.phantoms import (
    ChestSigns,
    Opacity,
    PhantomNodule,
    chest_ct,
    chest_radiograph,
)
from dicomnode.rules.sentences import counted
from dicomnode.sdk import Laterality

_SICK_SIDE = Laterality.RIGHT
# A white right side: fluid and a dense lower lobe, with a ball of water density before them.
_OPACITY = Opacity(column=88.0, row=150.0, diameter_mm=72.0)
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class Truth:
    """What was drawn: nodules, organs by the label they should get (mL), and the sick side."""

    nodules: tuple[PhantomNodule, ...]
    organs_ml: Mapping[str, float]
    sick_side: Laterality


@dataclass(frozen=True, slots=True)
class Sent:
    """One file to send, with what identifies it."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is sent: a CT (or any images of a folder) and a radiograph.

    ``truth`` of the CT is None for a folder's images; the radiograph is always drawn.
    """

    images: tuple[Sent, ...]
    radiograph: tuple[Sent, ...]
    truth: Truth
    is_drawn: bool
    sentence: str

    @property
    def all(self) -> tuple[Sent, ...]:
        """All files, the radiograph amid the others."""
        middle = len(self.images) // 2
        return (*self.images[:middle], *self.radiograph, *self.images[middle:])

    @property
    def study_instance_uids(self) -> frozenset[str]:
        """The studies that must arrive."""
        return frozenset(sent.study_instance_uid for sent in self.all)

    def paths_of_series(self, series_instance_uid: str) -> list[Path]:
        """Files of one series."""
        return [s.path for s in self.all if s.series_instance_uid == series_instance_uid]


def drawn(folder: Path) -> Material:
    """Draw both phantoms and write them below ``folder``."""
    phantom = chest_ct()
    paths = write_chest_ct(phantom, folder / "ct")
    organs_ml = {
        "Right lung": phantom.volume_ml(phantom.right_lung),
        "Left lung": phantom.volume_ml(phantom.left_lung),
    }
    return Material(
        images=_identified(paths),
        radiograph=_radiograph(folder),
        truth=Truth(phantom.nodules, organs_ml, _SICK_SIDE),
        is_drawn=True,
        sentence=(
            f"phantom chest CT, {len(paths)} images, {len(phantom.nodules)} nodules of known size; "
            "phantom radiograph"
        ),
    )


def found_below(data: Path, folder: Path) -> Material:
    """Take every DICOM file below ``data`` as it is; the radiograph is drawn below ``folder``.

    Raises
    ------
    DemoError
        There is no DICOM file.
    """
    images = _identified(sorted(path for path in data.rglob("*") if path.is_file()))
    if not images:
        raise DemoError(f"{data} holds no DICOM file")
    studies = len({sent.study_instance_uid for sent in images})
    return Material(
        images=images,
        radiograph=_radiograph(folder),
        truth=Truth((), {}, _SICK_SIDE),
        is_drawn=False,
        sentence=(
            f"{counted(len(images), 'image')} of {counted(studies, 'study')} below "
            f"{data}; phantom radiograph"
        ),
    )


def _radiograph(folder: Path) -> tuple[Sent, ...]:
    phantom = chest_radiograph(
        opacities=(_OPACITY,),
        signs=ChestSigns(effusion=_SICK_SIDE, consolidation=_SICK_SIDE),
    )
    study = PhantomStudy(
        patient_id="PHANTOM-2", patient_name="PHANTOM^Radiograph", accession_number="PHANTOM2"
    )
    return _identified(write_radiograph(phantom, folder / "radiograph", study))


def _identified(paths: list[Path]) -> tuple[Sent, ...]:
    """Those files that are DICOM objects; others and media directories are left out."""
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    found = []
    for path in paths:
        try:
            head = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        except (InvalidDicomError, OSError):
            continue
        study, series, instance, kind = (str(head.get(keyword, "")) for keyword in keywords)
        if study and series and instance and kind != _MEDIA_DIRECTORY:
            found.append(Sent(path, study, series, instance))
    return tuple(found)

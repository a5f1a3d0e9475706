"""The result objects under test, read back from their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicomnode.dicom.checks.content import Content
from dicomnode.dicom.checks.masks import Masks
from dicomnode.dicom.checks.reading import REPORTS, SEGMENTATION, text
from dicomnode.dicom.checks.source import Source


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The four UIDs of a report that a set replaces."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class ResultObject:
    """One object of the set, with what its neighbours and its source know of it."""

    def __init__(self, path: Path, whole: ResultSet) -> None:
        self.path = path
        self.data = pydicom.dcmread(path)
        self.set = whole
        self.source = whole.source

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID as text, empty where it is missing."""
        return text(self.data, "SOPClassUID")

    @property
    def is_segmentation(self) -> bool:
        """True for a (binary or fractional) Segmentation."""
        return self.sop_class_uid == SEGMENTATION

    @property
    def is_report(self) -> bool:
        """True for a structured report."""
        return self.sop_class_uid in REPORTS

    @property
    def where(self) -> str:
        """What to call the object in a violation."""
        return f"{text(self.data, 'Modality') or '?'} {self.path.name}"

    @cached_property
    def masks(self) -> Masks:
        """The segments recounted; of a segmentation only."""
        return Masks(self.data, self.source.grid)

    @cached_property
    def content(self) -> Content:
        """The content tree as plain values; of a report only."""
        return Content(self.data)


class ResultSet:
    """All objects of one set, their source, and what they replace."""

    def __init__(
        self, objects: Sequence[Path], source: Source, predecessors: Sequence[Predecessor]
    ) -> None:
        self.source = source
        self.predecessors = {p.sop_instance_uid: p for p in predecessors}
        self.objects = tuple(ResultObject(path, self) for path in objects)

    @property
    def segmentations(self) -> tuple[ResultObject, ...]:
        """The segmentations of the set."""
        return tuple(o for o in self.objects if o.is_segmentation)

    @property
    def reports(self) -> tuple[ResultObject, ...]:
        """The reports of the set."""
        return tuple(o for o in self.objects if o.is_report)

    @cached_property
    def known(self) -> dict[str, Dataset]:
        """Headers of everything that a reference may name, by SOP Instance UID."""
        own: dict[str, Dataset] = {text(o.data, "SOPInstanceUID"): o.data for o in self.objects}
        return own | self.source.by_uid

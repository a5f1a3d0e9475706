"""Reference rules: what an object names exists, in this study, and is listed as evidence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.dicom.checks.reading import text
from dicomnode.dicom.checks.results import ResultObject, ResultSet
from dicomnode.dicom.checks.rules import Rule
from dicomnode.dicom.uids import is_valid_uid

Texts = Iterator[str]

_HOLDERS: Final = frozenset(
    {
        "ReferencedSOPSequence",
        "ReferencedImageSequence",
        "ReferencedInstanceSequence",
        "SourceImageSequence",
    }
)
_EVIDENCE: Final = "CurrentRequestedProcedureEvidenceSequence"
_PREDECESSORS: Final = "PredecessorDocumentsSequence"


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference somewhere in an object: the UIDs around it, and the sequences above it."""

    path: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str

    @property
    def is_predecessor(self) -> bool:
        """True where it names an older set, which is not among the files."""
        return _PREDECESSORS in self.path


def _references(o: ResultObject) -> list[Reference]:
    return list(_within(o.data, (), "", ""))


def _within(
    data: Dataset, path: tuple[str, ...], series_uid: str, study_uid: str
) -> Iterator[Reference]:
    if path and path[-1] in _HOLDERS:
        yield Reference(
            path,
            text(data, "ReferencedSOPClassUID"),
            text(data, "ReferencedSOPInstanceUID"),
            series_uid,
            study_uid,
        )
    for element in data:
        if element.VR != "SQ":
            continue
        for item in element.value:
            series = text(item, "SeriesInstanceUID") or series_uid
            study = text(item, "StudyInstanceUID") or study_uid
            yield from _within(item, (*path, element.keyword), series, study)


def _checked(o: ResultObject) -> Iterator[tuple[Reference, Dataset | None]]:
    """Give each reference into source or set with what it names there."""
    for reference in _references(o):
        if not reference.is_predecessor:
            yield reference, o.set.known.get(reference.sop_instance_uid)


def _complete(o: ResultObject) -> Texts:
    for reference in _references(o):
        if not is_valid_uid(reference.sop_instance_uid) or not reference.sop_class_uid:
            yield f"{reference.path[-1]} lacks an instance or class UID"


def _resolves(o: ResultObject) -> Texts:
    lost = {
        r.sop_instance_uid for r, target in _checked(o) if target is None and r.sop_instance_uid
    }
    for uid in sorted(lost):
        yield f"names {uid}, which is neither in the source nor in the set"


def _right_class(o: ResultObject) -> Texts:
    for reference, target in _checked(o):
        if target is not None and text(target, "SOPClassUID") != reference.sop_class_uid:
            yield f"names {reference.sop_instance_uid} with the wrong class"


def _right_series(o: ResultObject) -> Texts:
    for reference, target in _checked(o):
        named = reference.series_instance_uid
        if target is not None and named and text(target, "SeriesInstanceUID") != named:
            yield f"names {reference.sop_instance_uid} in the wrong series"


def _same_study(o: ResultObject) -> Texts:
    study = text(o.source.header, "StudyInstanceUID")
    for item in o.data.get(_EVIDENCE) or []:
        if text(item, "StudyInstanceUID") != study:
            yield "its evidence is of another study"
    if o.data.get("PertinentOtherEvidenceSequence"):
        yield "names evidence of another study"


def _not_itself(o: ResultObject) -> Texts:
    if text(o.data, "SOPInstanceUID") in {r.sop_instance_uid for r in _references(o)}:
        yield "names itself"


def _listed(o: ResultObject) -> Texts:
    references = _references(o)
    evidence = {r.sop_instance_uid for r in references if _EVIDENCE in r.path}
    named = {r.sop_instance_uid for r in references if "ContentSequence" in r.path}
    if missing := named - evidence:
        yield f"{len(missing)} instances of the content are not in the evidence"


def _whole_series(o: ResultObject) -> Texts:
    evidence = {r.sop_instance_uid for r in _references(o) if _EVIDENCE in r.path}
    if missing := set(o.source.by_uid) - evidence:
        yield f"the evidence lacks {len(missing)} of the analysed images"
    others = {text(s.data, "SOPInstanceUID") for s in o.set.segmentations}
    if others - evidence:
        yield "the evidence lacks the segmentation"


def _predecessors(o: ResultObject) -> Texts:
    named = {r.sop_instance_uid: r for r in _references(o) if r.is_predecessor}
    for uid, wanted in o.set.predecessors.items():
        got = named.get(uid)
        four = (wanted.study_instance_uid, wanted.series_instance_uid, wanted.sop_class_uid)
        if got is None:
            yield f"does not name the report that it replaces ({uid})"
        elif (got.study_instance_uid, got.series_instance_uid, got.sop_class_uid) != four:
            yield f"names the report that it replaces ({uid}) with wrong UIDs"
    for uid in sorted(set(named) & set(o.set.known)):
        yield f"names {uid} as what it replaces, which is part of this set or its source"


def _has_report(s: ResultSet) -> Texts:
    if len(s.reports) != 1:
        yield f"the set has {len(s.reports)} reports, not one"


def _one_segmentation(s: ResultSet) -> Texts:
    if len(s.segmentations) > 1:
        yield f"the set has {len(s.segmentations)} segmentations"


def _unique(s: ResultSet) -> Texts:
    uids = [text(o.data, "SOPInstanceUID") for o in s.objects]
    if len(set(uids)) < len(uids):
        yield "two objects have the same SOP Instance UID"
    if reused := set(uids) & set(s.predecessors):
        yield f"{len(reused)} objects have the UID of what they replace"


def _one_kind(s: ResultSet) -> Texts:
    kinds: dict[str, set[tuple[str, str]]] = {}
    for o in s.objects:
        kind = (o.sop_class_uid, text(o.data, "SeriesNumber"))
        kinds.setdefault(text(o.data, "SeriesInstanceUID"), set()).add(kind)
    for found in kinds.values():
        if len(found) > 1:
            yield "one series holds several kinds or numbers"
    numbers = [number for found in kinds.values() for _, number in found]
    if len(set(numbers)) < len(numbers):
        yield "two series have the same Series Number"


def _same_equipment(s: ResultSet) -> Texts:
    for keyword in (
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
    ):
        if len({text(o.data, keyword) for o in s.objects}) > 1:
            yield f"{keyword} differs inside the set"


RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("reference.complete", "Every reference has instance and class UID", _complete),
    Rule("reference.resolves", "Everything named exists in source or set", _resolves),
    Rule("reference.class", "References name the right class", _right_class),
    Rule("reference.series", "References name the right series", _right_series),
    Rule("reference.study", "Evidence is of this study", _same_study),
    Rule("reference.itself", "No object names itself", _not_itself),
)
REPORT_RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("sr.evidence", "Everything named in the content is in the evidence", _listed),
    Rule("sr.evidence_series", "The evidence holds every analysed image and the segmentation",
         _whole_series),
    Rule("sr.predecessors", "The report names every report that it replaces", _predecessors),
)  # fmt: skip
SET_RULES: Final[tuple[Rule[ResultSet], ...]] = (
    Rule("set.report", "The set has one report", _has_report),
    Rule("set.segmentation", "The set has at most one segmentation", _one_segmentation),
    Rule("set.unique", "Instance UIDs are unique and new", _unique),
    Rule("set.series", "One kind and number per series", _one_kind),
    Rule("set.equipment", "All objects name the same device", _same_equipment),
)

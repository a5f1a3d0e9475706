"""The structured report: TID 1500 in a Comprehensive 3D SR (PS3.3 A.35.13) or Comprehensive SR."""

from collections.abc import Sequence
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset

from dicomnode.dicom import codes
from dicomnode.dicom.codes import PRIVATE_SCHEME
from dicomnode.dicom.equipment import MANUFACTURER, MODEL_NAME
from dicomnode.dicom.objects.concepts import concept
from dicomnode.dicom.objects.dress import Series
from dicomnode.dicom.objects.groups import Group
from dicomnode.dicom.objects.request import (
    Equipment,
    PredecessorRef,
    SetRequest,
)
from dicomnode.dicom.objects.statements import Report
from dicomnode.dicom.uids import device_uid

_CLASSES: Final = {"3d": sr.Comprehensive3DSR, "2d": sr.ComprehensiveSR}


def structured_report(
    request: SetRequest,
    evidence: Sequence[Dataset],
    said: Report,
    groups: Sequence[Group],
    place: Series,
) -> Dataset:
    """Build the report; ``evidence`` is every analysed image and, where there is one, the SEG."""
    source = request.source.datasets[0]
    procedure = codes.procedure(
        str(source.get("Modality", "")), str(source.get("BodyPartExamined", "") or "")
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=_observer(request.equipment)
        ),
        procedure_reported=concept(procedure),
        imaging_measurements=groups,
        title=concept(codes.REPORT_TITLE),
    )
    content[0].ContentSequence.append(_statements(said))
    report: Dataset = _CLASSES[request.form.sr](
        evidence=evidence,
        content=content,
        series_instance_uid=place.series_instance_uid,
        series_number=place.series_number,
        sop_instance_uid=place.sop_instance_uid,
        instance_number=place.number,
        manufacturer=MANUFACTURER,
        is_complete=said.is_complete,
        previous_versions=[_named(ref) for ref in request.predecessors] or None,
    )
    if _uses_private_codes(report):
        report.CodingSchemeIdentificationSequence = [_private_scheme()]
    return report


def _uses_private_codes(report: Dataset) -> bool:
    """Tell whether a code of our own scheme stands anywhere in the content."""
    return any(
        element.keyword == "CodingSchemeDesignator" and element.value == PRIVATE_SCHEME
        for element in report.iterall()
    )


def _private_scheme() -> Dataset:
    """Say whose the private scheme is (PS3.3 C.12.1, Coding Scheme Identification Sequence)."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = PRIVATE_SCHEME
    scheme.CodingSchemeName = "Private concepts of dicomnode"
    scheme.CodingSchemeVersion = "1"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    return scheme


def _observer(equipment: Equipment) -> sr.ObserverContext:
    return sr.ObserverContext(
        concept(codes.DEVICE),
        sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(equipment.serial_number),
            name="dicomnode AI",
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=equipment.serial_number,
        ),
    )


def _statements(said: Report) -> sr.ContainerContentItem:
    """Build the root container of statements on the whole: run summary, coded signs, words.

    A row of TID 1500 for which the library has no argument.
    """
    box = sr.ContainerContentItem(
        concept(codes.QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS"
    )
    coded = ((codes.RUN_SUMMARY, said.summary), *said.coded)
    box.ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(concept(name), concept(value), relationship_type="CONTAINS")
            for name, value in coded
        ]
        + [
            sr.TextContentItem(concept(name), words, relationship_type="CONTAINS")
            for name, words in said.texts
        ]
    )
    return box


def _named(predecessor: PredecessorRef) -> Dataset:
    named = Dataset()
    named.StudyInstanceUID = predecessor.study_instance_uid
    named.SeriesInstanceUID = predecessor.series_instance_uid
    named.SOPClassUID = predecessor.sop_class_uid
    named.SOPInstanceUID = predecessor.sop_instance_uid
    return named

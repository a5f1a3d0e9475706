"""The gate catches each fault that was put into a valid set, by the rule that is about it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.dicom.checks import RULE_COUNT, STATEMENTS, check
from dicomnode.dicom.objects import encode, encode_status
from dicomnode.sdk import Findings
from dicomnode.sdk.codes import MASS, NODULE
from tests import data
from tests import results_data as made

Objects = dict[str, Dataset]
Change = Callable[[Objects], object]

VOLUME, LONG, SHORT = "118565006", "103339001", "103340004"
ATTENUATION, PROBABILITY = "112031", "122157"
FINDING, SITE, SIDE = "121071", "363698007", "272741003"
TRACKING_ID, TRACKING_UID, ALGORITHM = "112039", "112040", "111001"
SEGMENT, SUMMARY, COMMENT = "121191", "111017", "121106"


def walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or []:
        yield child
        yield from walk(child)


def concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def named(item: Dataset, code: str) -> Dataset:
    return next(child for child in walk(item) if concept(child) == code)


def groups(objects: Objects) -> list[Dataset]:
    return [item for item in walk(objects["sr"]) if concept(item) == "125007"]


def group(objects: Objects, place: int) -> Dataset:
    return groups(objects)[place]


def number(place: int, code: str, value: float) -> Change:
    def change(o: Objects) -> None:
        named(group(o, place), code).MeasuredValueSequence[0].NumericValue = str(value)

    return change


def unit(place: int, code: str, value: str) -> Change:
    def change(o: Objects) -> None:
        units = named(group(o, place), code).MeasuredValueSequence[0].MeasurementUnitsCodeSequence
        units[0].CodeValue = value

    return change


def drop(place: int, code: str) -> Change:
    def change(o: Objects) -> None:
        holder = group(o, place)
        holder.ContentSequence = [c for c in holder.ContentSequence if concept(c) != code]

    return change


def drop_top(code: str) -> Change:
    def change(o: Objects) -> None:
        o["sr"].ContentSequence = [c for c in o["sr"].ContentSequence if concept(c) != code]

    return change


def recode(item: Dataset, value: str, meaning: str, scheme: str | None = None) -> None:
    item.CodeValue, item.CodeMeaning = value, meaning
    if scheme:
        item.CodingSchemeDesignator = scheme


def value_of(place: int, code: str, value: str, meaning: str) -> Change:
    return lambda o: recode(named(group(o, place), code).ConceptCodeSequence[0], value, meaning)


def having(kind: str, **values: object) -> Change:
    return lambda o: [setattr(o[kind], k, v) for k, v in values.items()]


def everywhere(**values: object) -> Change:
    return lambda o: [setattr(each, k, v) for each in o.values() for k, v in values.items()]


def without(kind: str, *keywords: str) -> Change:
    return lambda o: [delattr(o[kind], k) for k in keywords]


def flipped(o: Objects) -> None:
    for each in groups(o)[:2]:
        side = named(each, SIDE).ConceptCodeSequence[0]
        recode(side, "7771000", "Left")


def no_side(o: Objects) -> None:
    for each in groups(o)[:2]:
        named(each, SITE).ContentSequence = []


def outline(o: Objects) -> Dataset:
    return next(c for c in group(o, 1).ContentSequence if c.ValueType == "SCOORD")


def moved_outline(o: Objects) -> None:
    outline(o).GraphicData = [v + 20 for v in outline(o).GraphicData]


def open_outline(o: Objects) -> None:
    outline(o).GraphicData = list(outline(o).GraphicData)[:-2]


def outline_elsewhere(o: Objects) -> None:
    image = outline(o).ContentSequence[0].ReferencedSOPSequence[0]
    series = evidence(o)[0].ReferencedSeriesSequence
    first = next(s for s in series if len(s.ReferencedSOPSequence) > 1).ReferencedSOPSequence[0]
    image.ReferencedSOPInstanceUID = first.ReferencedSOPInstanceUID


def measurements(o: Objects) -> Dataset:
    return named(o["sr"], "126010")


def no_outlines(o: Objects) -> None:
    holder = measurements(o)
    holder.ContentSequence = [
        g
        for g in holder.ContentSequence
        if g.ContentTemplateSequence[0].TemplateIdentifier != "1410"
    ]


def one_lesion_less(o: Objects) -> None:
    measurements(o).ContentSequence = measurements(o).ContentSequence[:2]


def lone_group(o: Objects) -> None:
    extra = copy.deepcopy(group(o, 0))
    extra.ContentTemplateSequence[0].TemplateIdentifier = "1501"
    extra.ContentSequence = [
        c for c in extra.ContentSequence if c.ValueType not in ("IMAGE", "NUM")
    ]
    named(extra, TRACKING_UID).UID = data.uid("lone")
    measurements(o).ContentSequence.append(extra)


def segment_number(number: int) -> Change:
    def change(o: Objects) -> None:
        reference = named(group(o, 0), SEGMENT).ReferencedSOPSequence[0]
        reference.ReferencedSegmentNumber = number

    return change


def evidence(o: Objects) -> list[Dataset]:
    return list(o["sr"].CurrentRequestedProcedureEvidenceSequence)


def one_image_less(o: Objects) -> None:
    for series in evidence(o)[0].ReferencedSeriesSequence:
        if len(series.ReferencedSOPSequence) > 1:
            del series.ReferencedSOPSequence[0]


def no_segmentation_in_evidence(o: Objects) -> None:
    item = evidence(o)[0]
    item.ReferencedSeriesSequence = [
        s for s in item.ReferencedSeriesSequence if len(s.ReferencedSOPSequence) > 1
    ]


def reference(keyword: str, value: str | None) -> Change:
    def change(o: Objects) -> None:
        series = evidence(o)[0].ReferencedSeriesSequence[0]
        if keyword == "SeriesInstanceUID":
            series.SeriesInstanceUID = value
        elif value is None:
            delattr(series.ReferencedSOPSequence[0], keyword)
        else:
            setattr(series.ReferencedSOPSequence[0], keyword, value)

    return change


def frames(o: Objects) -> list[Dataset]:
    return list(o["seg"].PerFrameFunctionalGroupsSequence)


def shared(o: Objects) -> Dataset:
    return o["seg"].SharedFunctionalGroupsSequence[0]


def half_a_slice_off(o: Objects) -> None:
    for frame in frames(o):
        place = frame.PlanePositionSequence[0]
        x, y, z = place.ImagePositionPatient
        place.ImagePositionPatient = [x, y, float(z) + 1.2]


def shifted(rows: int) -> Change:
    def change(o: Objects) -> None:
        d = o["seg"]
        size = d.NumberOfFrames * d.Rows * d.Columns
        bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")[:size]
        moved = np.roll(bits.reshape(-1, d.Rows, d.Columns), rows, axis=1)
        d.PixelData = np.packbits(moved.reshape(-1), bitorder="little").tobytes()

    return change


def empty_frame(o: Objects) -> None:
    size = o["seg"].Rows * o["seg"].Columns // 8
    o["seg"].PixelData = bytes(size) + o["seg"].PixelData[size:]


def swapped(o: Objects) -> None:
    for frame in frames(o):
        identification = frame.SegmentIdentificationSequence[0]
        identification.ReferencedSegmentNumber = 3 - identification.ReferencedSegmentNumber


def other_source_slice(o: Objects) -> None:
    one, other = (f.DerivationImageSequence[0].SourceImageSequence[0] for f in frames(o)[:2])
    one.ReferencedSOPInstanceUID = other.ReferencedSOPInstanceUID


def twice_the_same_frame(o: Objects) -> None:
    for keyword in ("PlanePositionSequence", "DerivationImageSequence"):
        frames(o)[1][keyword] = copy.deepcopy(frames(o)[0][keyword])


def segment(o: Objects, place: int) -> Dataset:
    return o["seg"].SegmentSequence[place]


def third_segment(o: Objects) -> None:
    extra = copy.deepcopy(segment(o, 1))
    extra.SegmentNumber, extra.TrackingUID, extra.TrackingID = 3, data.uid("third"), "Third"
    o["seg"].SegmentSequence.append(extra)


def family(o: Objects) -> None:
    named_algorithm = segment(o, 0).SegmentationAlgorithmIdentificationSequence[0]
    named_algorithm.AlgorithmFamilyCodeSequence[0].CodeValue = "123109"


def private(o: Objects) -> None:
    o["sr"].private_block(0x0011, "SCANNER", create=True).add_new(1, "LO", "secret")


def summary(value: str) -> Change:
    def change(o: Objects) -> None:
        recode(named(o["sr"], SUMMARY).ConceptCodeSequence[0], value, "changed")

    return change


def words(said: str, instead: str) -> Change:
    def change(o: Objects) -> None:
        for item in walk(o["sr"]):
            if "TextValue" in item:
                item.TextValue = item.TextValue.replace(said, instead)

    return change


def same_instance(o: Objects) -> None:
    o["sr"].SOPInstanceUID = o["seg"].SOPInstanceUID


def overlapping(o: Objects) -> None:
    d = o["seg"]
    size = d.Rows * d.Columns
    bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")
    planes = bits[: d.NumberOfFrames * size].reshape(-1, size)
    places = [
        (int(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
         float(f.PlanePositionSequence[0].ImagePositionPatient[2]))
        for f in frames(o)
    ]  # fmt: skip
    for n, (number, height) in enumerate(places):
        if (number, height) != (1, height) and (1, height) in places:
            planes[n] |= planes[places.index((1, height))]
    d.PixelData = np.packbits(planes.reshape(-1), bitorder="little").tobytes()


def probability_added(o: Objects) -> None:
    extra = copy.deepcopy(named(group(o, 0), VOLUME))
    recode(extra.ConceptNameCodeSequence[0], PROBABILITY, "Probability", "DCM")
    extra.MeasuredValueSequence[0].NumericValue = "0.9"
    unit_code = extra.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    recode(unit_code, "1", "no units")
    group(o, 0).ContentSequence.append(extra)


def statement(code: str, value: str, meaning: str) -> Change:
    def change(o: Objects) -> None:
        box = named(o["sr"], "C0034375")
        item = next(i for i in box.ContentSequence if concept(i) == code)
        recode(item.ConceptCodeSequence[0], value, meaning)

    return change


def absent_and_present(o: Objects) -> None:
    box = named(o["sr"], "C0034375")
    stated = next(i for i in box.ContentSequence if concept(i) == "36118008")
    box.ContentSequence.append(copy.deepcopy(stated))
    recode(stated.ConceptCodeSequence[0], "52101004", "Present")


def tracking_twice(o: Objects) -> None:
    segment(o, 1).TrackingUID = segment(o, 0).TrackingUID


MUTATIONS: dict[str, tuple[str, Change]] = {
    "volume a fifth too large": ("sr.volume", number(0, VOLUME, 400)),
    "volume in cm3 with the mm3 number": ("sr.volume", unit(0, VOLUME, "cm3")),
    "volume in cubic inch": ("sr.number_unit", unit(0, VOLUME, "[cin_i]")),
    "negative volume": ("sr.number_range", number(0, VOLUME, -5)),
    "long axis doubled": ("sr.long_axis", number(1, LONG, 60)),
    "short axis halved": ("sr.short_axis", number(1, SHORT, 1)),
    "short axis above long": ("sr.axis_order", number(1, SHORT, 99)),
    "mean off by 50": ("sr.mean", number(0, ATTENUATION, -700)),
    "attenuation of a metal that is none": ("sr.number_range", number(0, ATTENUATION, 9000)),
    "attenuation without derivation": (
        "sr.number_unit",
        lambda o: setattr(named(group(o, 0), ATTENUATION), "ContentSequence", []),
    ),
    "volume without value": (
        "sr.number_finite",
        lambda o: setattr(named(group(o, 0), VOLUME), "MeasuredValueSequence", [Dataset()]),
    ),
    "volume missing": ("sr.required_numbers", drop(0, VOLUME)),
    "sides exchanged": ("sr.laterality", flipped),
    "side missing": ("sr.group_site", no_side),
    "site missing": ("sr.group_site", drop(0, SITE)),
    "twins of two sides": (
        "sr.twins",
        lambda o: recode(named(group(o, 1), SIDE).ConceptCodeSequence[0], "7771000", "Left"),
    ),
    "algorithm missing": ("sr.group_algorithm", drop(0, ALGORITHM)),
    "finding missing": ("sr.group_finding", drop(0, FINDING)),
    "finding not the segment's": ("sr.segment_reference", value_of(0, FINDING, "4147007", "Mass")),
    "tracking UID missing": ("sr.group_tracking", drop(0, TRACKING_UID)),
    "tracking UID of nobody": (
        "sr.segment_reference",
        lambda o: setattr(named(group(o, 0), TRACKING_UID), "UID", data.uid("nobody")),
    ),
    "report points to the other segment": ("sr.segment_reference", segment_number(2)),
    "report points to segment 7": ("sr.segment_reference", segment_number(7)),
    "a lesion is not in the report": ("sr.every_segment", one_lesion_less),
    "no outlines": ("sr.outlined", no_outlines),
    "outline beside the lesion": ("sr.outline_fits", moved_outline),
    "outline on another slice": ("sr.outline_fits", outline_elsewhere),
    "outline open": ("sr.region", open_outline),
    "outline off the image": (
        "sr.region",
        lambda o: setattr(outline(o), "GraphicData", [0, 0, 900, 0, 900, 900, 0, 0]),
    ),
    "a group that blanks the viewer": ("sr.drawable", lone_group),
    "group template unknown": (
        "sr.group_template",
        lambda o: setattr(group(o, 0).ContentTemplateSequence[0], "TemplateIdentifier", "1419"),
    ),
    "dangling reference": (
        "reference.resolves",
        reference("ReferencedSOPInstanceUID", data.uid("nowhere")),
    ),
    "reference without UID": ("reference.complete", reference("ReferencedSOPInstanceUID", None)),
    "reference with another class": (
        "reference.class",
        reference("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.4"),
    ),
    "reference in another series": (
        "reference.series",
        reference("SeriesInstanceUID", data.uid("elsewhere")),
    ),
    "evidence of another study": (
        "reference.study",
        lambda o: setattr(evidence(o)[0], "StudyInstanceUID", data.uid("other")),
    ),
    "segmentation not in the evidence": ("sr.evidence", no_segmentation_in_evidence),
    "an image not in the evidence": ("sr.evidence_series", one_image_less),
    "content item without value type": (
        "sr.tree",
        lambda o: delattr(named(group(o, 0), TRACKING_ID), "ValueType"),
    ),
    "empty text": (
        "sr.tree",
        lambda o: setattr(named(o["sr"], COMMENT), "TextValue", " "),
    ),
    "code with a wrong meaning": (
        "sr.codes",
        lambda o: recode(
            named(group(o, 0), ATTENUATION).ConceptNameCodeSequence[0],
            "112032",
            "Attenuation Coefficient",
        ),
    ),
    "code of a retired scheme": (
        "sr.codes",
        lambda o: recode(
            named(group(o, 0), FINDING).ConceptCodeSequence[0], "M-03010", "Nodule", "SRT"
        ),
    ),
    "another title": (
        "sr.template",
        lambda o: setattr(o["sr"].ConceptNameCodeSequence[0], "CodeValue", "126001"),
    ),
    "language missing": ("sr.context", drop_top("121049")),
    "procedure missing": ("sr.context", drop_top("121058")),
    "a person as observer": (
        "sr.observer",
        lambda o: setattr(named(o["sr"], "121005").ConceptCodeSequence[0], "CodeValue", "121006"),
    ),
    "serial number of the observer missing": ("sr.observer", drop_top("121016")),
    "marked PARTIAL": ("sr.completion", having("sr", CompletionFlag="PARTIAL")),
    "marked VERIFIED": ("sr.unverified", having("sr", VerificationFlag="VERIFIED")),
    "marked FINAL": ("sr.unverified", having("sr", PreliminaryFlag="FINAL")),
    "summary says nothing found": ("sr.summary_agrees", summary("111243")),
    "summary says no algorithm succeeded": ("sr.failed", summary("111245")),
    "no run summary": ("sr.run_summary", summary("111240")),
    "research use not said": ("sr.research_use", words("Research use only", "For use")),
    "rules with a probability": ("sr.rule_based", probability_added),
    "rules that rule out": ("sr.rule_based", statement("4147007", "272519000", "Absent")),
    "rules that pass for a network": (
        "sr.required_numbers",
        words("rule-based, no probability", "clever"),
    ),
    "wrong frame of reference": (
        "seg.frame_of_reference",
        having("seg", FrameOfReferenceUID=data.uid("x")),
    ),
    "masks shifted by 6 rows": ("sr.outline_fits", shifted(6)),
    "masks shifted out of the body": ("seg.body", shifted(30)),
    "frames half a slice off": ("seg.position", half_a_slice_off),
    "another pixel spacing": (
        "seg.spacing",
        lambda o: setattr(shared(o).PixelMeasuresSequence[0], "PixelSpacing", [1.4, 1.4]),
    ),
    "slices 40 mm apart": (
        "seg.slice_spacing",
        lambda o: setattr(shared(o).PixelMeasuresSequence[0], "SpacingBetweenSlices", 40.0),
    ),
    "turned": (
        "seg.orientation",
        lambda o: setattr(
            shared(o).PlaneOrientationSequence[0], "ImageOrientationPatient", [0, 1, 0, 1, 0, 0]
        ),
    ),
    "frame names another slice": ("seg.source_image", other_source_slice),
    "segment numbers exchanged": ("sr.volume", swapped),
    "an empty frame": ("seg.empty_frame", empty_frame),
    "a frame twice": ("seg.frame_twice", twice_the_same_frame),
    "a segment without voxels": ("seg.voxels", third_segment),
    "segment numbers with a gap": (
        "seg.numbers",
        lambda o: setattr(segment(o, 1), "SegmentNumber", 5),
    ),
    "a frame of no segment": (
        "seg.described",
        lambda o: setattr(
            frames(o)[0].SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9
        ),
    ),
    "pixel data cut short": (
        "seg.frames",
        lambda o: setattr(o["seg"], "PixelData", o["seg"].PixelData[:-200]),
    ),
    "fractions": ("seg.encoding", having("seg", SegmentationType="FRACTIONAL")),
    "other rows": ("seg.matrix", having("seg", Rows=32, Columns=128)),
    "a segment without label": ("seg.labels", lambda o: setattr(segment(o, 0), "SegmentLabel", "")),
    "segment marked MANUAL": (
        "seg.algorithm",
        lambda o: setattr(segment(o, 0), "SegmentAlgorithmType", "MANUAL"),
    ),
    "algorithm family 123109": ("seg.algorithm", family),
    "segment without algorithm": (
        "seg.algorithm",
        lambda o: delattr(segment(o, 0), "SegmentationAlgorithmIdentificationSequence"),
    ),
    "segment without category": (
        "seg.codes",
        lambda o: delattr(segment(o, 0), "SegmentedPropertyCategoryCodeSequence"),
    ),
    "segment without colour": (
        "seg.colour",
        lambda o: delattr(segment(o, 0), "RecommendedDisplayCIELabValue"),
    ),
    "tracking UID twice": ("seg.tracking", tracking_twice),
    "no source series": ("seg.referenced_series", without("seg", "ReferencedSeriesSequence")),
    "lesions that overlap": ("seg.overlap", overlapping),
    "two objects of one UID": ("set.unique", same_instance),
    "report in the segmentation's series": (
        "set.series",
        lambda o: setattr(o["sr"], "SeriesInstanceUID", o["seg"].SeriesInstanceUID),
    ),
    "two series of one number": ("set.series", everywhere(SeriesNumber=9001)),
    "no report": ("set.report", lambda o: o.pop("sr")),
    "two devices": ("set.equipment", having("sr", SoftwareVersions="9.9")),
    "another class": ("object.class", having("seg", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7")),
    "file meta of another": (
        "file.meta",
        lambda o: setattr(o["sr"].file_meta, "MediaStorageSOPInstanceUID", data.uid("m")),
    ),
    "another patient": ("object.patient", everywhere(PatientID="PHANTOM-9")),
    "issuer lost": ("object.patient", without("sr", "IssuerOfPatientID")),
    "name emptied": ("object.patient", having("sr", PatientName="")),
    "another study": ("object.study", everywhere(StudyInstanceUID=data.uid("s"))),
    "accession number lost": ("object.study_attributes", having("sr", AccessionNumber="")),
    "invalid series UID": ("object.uids", having("sr", SeriesInstanceUID="1.2.03")),
    "a source image's UID": (
        "object.own_instance_uid",
        having("sr", SOPInstanceUID=data.uid("study", "ct", 1)),
    ),
    "in the source's series": (
        "object.own_series_uid",
        having("sr", SeriesInstanceUID=data.uid("study", "ct")),
    ),
    "result of the future": ("object.dates", having("sr", ContentDate="21000101")),
    "result before the study": ("object.dates", having("seg", ContentDate="20200101")),
    "no time": ("object.times", having("sr", ContentTime="")),
    "an invented zone": ("object.timezone", having("sr", TimezoneOffsetFromUTC="+0100")),
    "series description without AI": (
        "object.series_description",
        having("sr", SeriesDescription="Nodules"),
    ),
    "series number of the source": ("object.series_number", having("seg", SeriesNumber=2)),
    "modality of another kind": ("object.modality", having("sr", Modality="OT")),
    "no instance number": ("object.instance_number", having("sr", InstanceNumber=None)),
    "no software version": ("object.equipment", having("sr", SoftwareVersions="")),
    "the scanner's serial number": ("object.not_scanner", everywhere(DeviceSerialNumber="1")),
    "a comment on the patient": ("object.not_copied", having("sr", PatientComments="calls")),
    "a private attribute": ("object.private", private),
    "text outside its character set": (
        "object.characters",
        lambda o: (having("sr", SpecificCharacterSet="")(o), words("Two", "Zwö")(o)),
    ),
    "a study ID that is too long": ("object.lengths", everywhere(StudyID="S" * 20)),
    "two accession numbers": ("object.multiplicity", everywhere(AccessionNumber=["A", "B"])),
    "an age that is none": ("object.age", everywhere(PatientAge="65")),
    "a required attribute missing": ("object.required", without("seg", "ContentLabel")),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> made.Written:
    folder = tmp_path_factory.mktemp("valid")
    return made.written(encode(made.request(made.nodules())), made.ct(), folder)


@pytest.mark.parametrize(("rule", "change"), MUTATIONS.values(), ids=MUTATIONS.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fault_is_caught_by_its_rule(
    rule: str, change: Change, valid: made.Written, tmp_path: Path
) -> None:
    broken = made.mutated(valid, change, tmp_path / "broken")
    found = check(broken.result_files, broken.source_files)
    assert rule in {violation.rule for violation in found}
    assert rule in {name for name, _ in STATEMENTS}


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [name for name, _ in STATEMENTS]
    assert len(set(names)) == len(names) == RULE_COUNT
    assert RULE_COUNT >= 60


def test_messages_hold_nothing_of_the_patient(valid: made.Written, tmp_path: Path) -> None:
    broken = made.mutated(valid, everywhere(PatientID="SECRET", PatientName="Se^Cret"), tmp_path)
    found = check(broken.result_files, broken.source_files)
    assert found
    assert not any("SECRET" in v.text or "PHANTOM" in v.text.upper() for v in found)


def nothing_found(tmp_path: Path) -> made.Written:
    findings = Findings("None", sought=(NODULE, MASS), absent=(NODULE, MASS))
    return made.written(encode(made.request(findings, made.TRAINED)), made.ct(), tmp_path / "none")


def test_a_segmentation_beside_nothing_found_is_caught(valid: made.Written, tmp_path: Path) -> None:
    none = nothing_found(tmp_path)
    files = [*none.result_files, valid.results / "seg.dcm"]
    assert "sr.nothing_found" in {v.rule for v in check(files, none.source_files)}


def test_nothing_found_must_be_said_to_be_absent(tmp_path: Path) -> None:
    def undetermined(o: Objects) -> None:
        for item in walk(o["sr"]):
            for code in item.get("ConceptCodeSequence") or []:
                if code.CodeValue == "272519000":
                    recode(code, "373068000", "Undetermined")

    broken = made.mutated(nothing_found(tmp_path), undetermined, tmp_path / "broken")
    assert "sr.nothing_found" in {v.rule for v in check(broken.result_files, broken.source_files)}


def test_a_failed_run_that_passes_for_complete_is_caught(tmp_path: Path) -> None:
    status = made.written(encode_status(made.status_request()), made.ct(), tmp_path / "status")
    broken = made.mutated(status, having("sr", CompletionFlag="COMPLETE"), tmp_path / "broken")
    assert "sr.completion" in {v.rule for v in check(broken.result_files, broken.source_files)}


RADIOGRAPH: dict[str, tuple[str, Change]] = {
    "outline leaves the image": (
        "sr.region",
        lambda o: setattr(
            next(c for c in walk(o["sr"]) if c.get("ValueType") == "SCOORD"),
            "GraphicData",
            [50, 30, 400, 30, 400, 50, 50, 30],
        ),
    ),
    "millimetres without spacing": (
        "sr.radiograph_numbers",
        lambda o: recode(
            named(group(o, 0), PROBABILITY).ConceptNameCodeSequence[0], LONG, "Long axis", "SCT"
        ),
    ),
    "probability missing": ("sr.radiograph_probability", drop(0, PROBABILITY)),
    "probability against Present": ("sr.radiograph_probability", number(0, PROBABILITY, 0.2)),
    "probability 93": ("sr.number_range", number(0, PROBABILITY, 93)),
    "a trained report that is both": (
        "sr.consistent",
        absent_and_present,
    ),
}


@pytest.mark.parametrize(("rule", "change"), RADIOGRAPH.values(), ids=RADIOGRAPH.keys())
def test_a_fault_in_a_radiograph_report_is_caught(
    rule: str, change: Change, tmp_path: Path
) -> None:
    request = made.radiograph_request()
    files = made.written(encode(request), request.source.datasets, tmp_path / "valid")
    broken = made.mutated(files, change, tmp_path / "broken")
    assert rule in {v.rule for v in check(broken.result_files, broken.source_files)}


def test_a_segmentation_of_a_radiograph_is_caught(valid: made.Written, tmp_path: Path) -> None:
    request = made.radiograph_request()
    files = made.written(encode(request), request.source.datasets, tmp_path)
    found = check([*files.result_files, valid.results / "seg.dcm"], files.source_files)
    assert "seg.not_radiograph" in {v.rule for v in found}


def test_a_file_that_cannot_be_read_is_a_violation(valid: made.Written, tmp_path: Path) -> None:
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(data.not_dicom())
    assert [v.rule for v in check([odd], valid.source_files)] == ["set.readable"]
    assert [v.rule for v in check([], valid.source_files)] == ["set.readable"]
    assert [v.rule for v in check(valid.result_files, [])] == ["set.readable"]


def test_too_many_frames_are_caught(valid: made.Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.dicom.checks.geometry._MOST_FRAMES", 3)
    found = check(valid.result_files, valid.source_files)
    assert {v.rule for v in found} == {"seg.size"}


@pytest.mark.parametrize(
    "transfer_syntax",
    ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"],
)
def test_compressed_sources_are_decoded_again(transfer_syntax: str, tmp_path: Path) -> None:
    source = made.ct(transfer_syntax=transfer_syntax)
    files = made.written(encode(made.request(made.nodules())), source, tmp_path)
    assert pydicom.dcmread(files.source_files[0]).file_meta.TransferSyntaxUID == transfer_syntax
    assert check(files.result_files, files.source_files) == []

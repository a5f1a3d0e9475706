"""Headers from the field lead to valid objects or to a sentence; so do findings that cannot be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.dicom.checks import check
from dicomnode.dicom.objects import EncodeRequest, Form, encode, encode_status
from dicomnode.dicom.sources import SourceSeries
from dicomnode.errors import EncodingError
from dicomnode.sdk import (
    Assessment,
    Findings,
    Measurement,
    Outline,
    Probability,
    Segment,
    Sign,
    Urgency,
)
from dicomnode.sdk.codes import LUNG, MASS, NODULE
from tests import results_data as made

HeaderFault = Callable[[Dataset], object]


def without(*keywords: str) -> HeaderFault:
    return lambda d: [delattr(d, k) for k in keywords if k in d]


def having(**values: object) -> HeaderFault:
    return lambda d: [setattr(d, k, v) for k, v in values.items()]


def private(d: Dataset) -> None:
    d.private_block(0x0011, "SCANNER", create=True).add_new(1, "LO", "secret")


SURVIVED: dict[str, HeaderFault] = {
    "no patient ID": without("PatientID"),
    "no name": without("PatientName"),
    "no birth date": without("PatientBirthDate"),
    "no sex": without("PatientSex"),
    "no study date": without("StudyDate"),
    "no study time": without("StudyTime"),
    "no study ID": without("StudyID"),
    "no accession number": without("AccessionNumber"),
    "no referring physician": without("ReferringPhysicianName"),
    "nothing of the patient": without(
        "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"
    ),
    "sex U": having(PatientSex="U"),
    "sex in lower case": having(PatientSex="m"),
    "birth date of zeros": having(PatientBirthDate="00000000"),
    "birth date with dots": having(PatientBirthDate="1960.01.01"),
    "time with seven decimals": having(StudyTime="101500.1234567"),
    "time with colons": having(StudyTime="10:15:00"),
    "two names": having(PatientName=["Phantom^A", "Phantom^B"]),
    "empty first character set": having(
        SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎"
    ),
    "unknown character set": having(SpecificCharacterSet="ISO_IR 999"),
    "UTF-8 name": having(SpecificCharacterSet="ISO_IR 192", PatientName="Łódź^Żaneta"),
    "no character set, umlaut": having(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^J"),
    "long patient ID": having(PatientID="P" * 80),
    "long accession number": having(AccessionNumber="ACC-2026-0000000000001"),
    "two patient IDs": having(PatientID=["P1", "P2"]),
    "long study ID": having(StudyID="S" * 30),
    "age without unit": having(PatientAge="65"),
    "age": having(PatientAge="065Y"),
    "comments and admission": having(PatientComments="calls at noon", AdmissionID="A1"),
    "timezone": having(TimezoneOffsetFromUTC="-0500"),
    "bad timezone": having(TimezoneOffsetFromUTC="EST"),
    "window center without width": having(WindowCenter=40),
    "private attribute": private,
    "no slice thickness": without("SliceThickness"),
    "empty slice thickness": having(SliceThickness=None),
    "no body part": without("BodyPartExamined"),
    "no series number": without("SeriesNumber"),
    "no position reference": without("PositionReferenceIndicator"),
    "number of frames 1": having(NumberOfFrames=1),
    "lossy": having(LossyImageCompression="01", LossyImageCompressionRatio=10),
    "no rescale type": without("RescaleType"),
    "no equipment": without("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber"),
}

REFUSED: dict[str, HeaderFault] = {
    "no study UID": without("StudyInstanceUID"),
    "study UID with a leading zero": having(StudyInstanceUID="1.2.03.4"),
    "study UID with a path": having(StudyInstanceUID="../../etc"),
    "no frame of reference": without("FrameOfReferenceUID"),
    "no pixel spacing": without("PixelSpacing"),
    "no orientation": without("ImageOrientationPatient"),
    "no position": without("ImagePositionPatient"),
    "study in the future": having(StudyDate="20990101"),
    "text that does not fit": having(
        PatientName="M\ufffdller^J", SpecificCharacterSet="ISO_IR 192"
    ),
}


def faulty(fault: HeaderFault) -> tuple[EncodeRequest, list[pydicom.FileDataset]]:
    source = made.ct()
    for image in source:
        fault(image)
    return (
        made.request(made.nodules(), source=SourceSeries(tuple(source), is_volume=True)),
        source,
    )


@pytest.mark.parametrize("fault", SURVIVED.values(), ids=SURVIVED.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_awkward_header_gives_a_valid_set(fault: HeaderFault, tmp_path: Path) -> None:
    request, source = faulty(fault)
    files = made.written(encode(request), source, tmp_path)
    assert check(files.result_files, files.source_files) == []
    if shutil.which("dciodvfy"):
        for path in files.result_files:
            told = subprocess.run(
                ["dciodvfy", "-new", str(path)], capture_output=True, timeout=60, check=False
            )
            lines = (told.stdout + told.stderr).decode(errors="replace").splitlines()
            errors = [line for line in lines if line.startswith(("Error", "Abort"))]
            identity = ("PatientID", "StudyID", "AccessionNumber")
            assert [e for e in errors if not any(k in e for k in identity)] == []


@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_header_that_allows_no_true_result_is_refused_in_words(fault: HeaderFault) -> None:
    with pytest.raises(EncodingError) as refused:
        encode(faulty(fault)[0])
    assert len(str(refused.value)) > 20


def test_images_of_two_studies_are_refused() -> None:
    source = [*made.ct()[:10], *made.ct(study="another")[10:]]
    request = made.request(made.nodules(), source=SourceSeries(tuple(source), is_volume=True))
    with pytest.raises(EncodingError, match="several studies or series"):
        encode(request)


def test_the_same_image_twice_is_refused() -> None:
    source = [*made.ct()[:19], made.ct()[0]]
    request = made.request(made.nodules(), source=SourceSeries(tuple(source), is_volume=True))
    with pytest.raises(EncodingError, match="same SOP Instance UID"):
        encode(request)


def test_identifiers_are_kept_whole_and_comments_left_behind() -> None:
    request, _ = faulty(having(PatientID="P" * 80, PatientComments="calls at noon"))
    report = made.reread(encode(request))["SR"]
    assert report.PatientID == "P" * 80
    assert "PatientComments" not in report


def test_times_stand_in_the_zone_of_the_source() -> None:
    request, _ = faulty(having(TimezoneOffsetFromUTC="-0530"))
    report = made.reread(encode(request))["SR"]
    assert (report.ContentDate, report.ContentTime) == ("20260303", "233607")
    assert report.TimezoneOffsetFromUTC == "-0530"


def test_a_study_dated_tomorrow_elsewhere_is_not_overtaken() -> None:
    request, _ = faulty(having(StudyDate="20260305", StudyTime="0030"))
    report = made.reread(encode(request))["SR"]
    assert (report.ContentDate, report.ContentTime) == ("20260305", "003000")


FIRST = made.nodules().findings[0]
EMPTY = Segment(np.zeros((2, 2, 2), dtype=bool))
OFF_GRID = Segment(np.ones((2, 2, 2), dtype=bool), offset=(19, 0, 0))
TRAINED = made.nodules(trained=True)
UNFIT: dict[str, tuple[Callable[[], EncodeRequest], str]] = {
    "an empty lesion": (
        lambda: made.request(Findings("x", (replace(FIRST, segment=EMPTY),))),
        "holds no voxel",
    ),
    "an empty organ": (
        lambda: made.request(Findings("x", segments=(replace(EMPTY, type=LUNG),))),
        "holds no voxel",
    ),
    "off the grid": (
        lambda: made.request(Findings("x", (replace(FIRST, segment=OFF_GRID),))),
        "leaves the grid",
    ),
    "an organ without a code": (
        lambda: made.request(Findings("x", segments=(Segment(FIRST.segment.mask),))),  # type: ignore[union-attr]
        "does not say by a code",
    ),
    "lesions that overlap": (
        lambda: made.request(Findings("x", (FIRST, FIRST))),
        "overlap",
    ),
    "a probability from rules": (
        lambda: made.request(TRAINED, replace(made.RULES)),
        "no trained bundle",
    ),
    "a trained lesion without probability": (
        lambda: made.request(made.nodules(), made.TRAINED),
        "no probability",
    ),
    "a probability of 93": (
        lambda: made.request(
            Findings("x", (replace(FIRST, probability=Probability(93.0, "b")),)), made.TRAINED
        ),
        "not 0 to 1",
    ),
    "rules that rule out": (
        lambda: made.request(Findings("x", sought=(NODULE,), absent=(NODULE,))),
        "must not rule out",
    ),
    "rules that reassure": (
        lambda: made.request(made.triage(Urgency.NOT_SIGNIFICANT)),
        "must not reassure",
    ),
    "an urgency without reason": (
        lambda: made.request(
            Findings("x", sought=(NODULE,), assessment=Assessment(Urgency.SIGNIFICANT))
        ),
        "no reason",
    ),
    "found and absent": (
        lambda: made.request(replace(TRAINED, absent=(NODULE,)), made.TRAINED),
        "both found and absent",
    ),
    "nothing said": (lambda: made.request(Findings("x")), "does not say what it sought"),
    "an outline in a volume": (
        lambda: made.request(Findings("x", (replace(FIRST, outline=Outline(np.zeros((3, 2)))),))),
        "outline in a volume",
    ),
    "a mask on a radiograph": (
        lambda: replace(made.radiograph_request(), findings=made.nodules(), algorithm=made.RULES),
        "mask on a radiograph",
    ),
    "a number that is none": (
        lambda: made.request(
            Findings(
                "x",
                assessment=Assessment(
                    Urgency.SIGNIFICANT, (Sign(MASS, "m", (Measurement(MASS, np.nan, "mm"),)),)
                ),
            )
        ),
        "no measurement",
    ),
    "no report": (
        lambda: made.request(made.nodules(), form=Form(frozenset({"seg"}))),
        "presents needs 'sr'",
    ),
}


@pytest.mark.parametrize(("build", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_findings_that_cannot_be_written_are_refused_in_words(
    build: Callable[[], EncodeRequest], words: str
) -> None:
    with pytest.raises(EncodingError, match=words):
        encode(build())


@pytest.mark.parametrize(
    ("points", "image", "words"),
    [
        ([[1.0, 1.0], [90.0, 1.0], [90.0, 9.0]], 0, "leaves its image"),
        ([[1.0, 1.0], [np.nan, 1.0], [9.0, 9.0]], 0, "leaves its image"),
        ([[1.0, 1.0], [2.0, 2.0]], 0, "no polygon"),
        ([[1.0, 1.0], [2.0, 1.0], [2.0, 2.0]], 3, "image 3"),
    ],
)
def test_an_outline_must_lie_on_its_image(
    points: list[list[float]], image: int, words: str
) -> None:
    request = made.radiograph_request()
    finding = replace(request.findings.findings[0], outline=Outline(np.array(points), image))
    with pytest.raises(EncodingError, match=words):
        encode(replace(request, findings=replace(request.findings, findings=(finding,))))


def test_too_many_frames_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.dicom.objects.seg.MOST_FRAMES", 5)
    with pytest.raises(EncodingError, match="archives take 5 frames"):
        encode(made.request(made.nodules()))


def test_a_time_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 3, 4)  # noqa: DTZ001  the lack of a zone is what is tested
    with pytest.raises(EncodingError, match="no zone"):
        encode_status(made.status_request(finished_at=naive))

"""Findings, requests and written sets for tests of result objects and of their gate."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from dicomnode.dicom.objects import (
    Algorithm,
    EncodedObject,
    EncodeRequest,
    Equipment,
    Form,
    PredecessorRef,
    StatusRequest,
)
from dicomnode.dicom.sources import SourceSeries
from dicomnode.sdk import (
    Assessment,
    Finding,
    Findings,
    Image,
    Images,
    Laterality,
    Outline,
    PixelSpacingOrigin,
    Probability,
    Segment,
    SeriesInfo,
    Sign,
    Urgency,
    Volume,
)
from dicomnode.sdk.codes import (
    BODY,
    CONSOLIDATION,
    LUNG,
    MASS,
    NODULE,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    TRACHEA_AND_BRONCHI,
)
from tests import data

FINISHED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
EQUIPMENT = Equipment(serial_number="node-17", software_version="0.1.0")
RULES = Algorithm("lung-nodule", "1.0.0", rule_based=True, series_number=9000)
TRAINED = Algorithm("lung-nodule", "2.0.0", rule_based=False, series_number=9000)
SHAPE = (20, 64, 64)
SPACING = (2.5, 1.25, 1.25)
AXES = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def ct(**given: object) -> list[pydicom.FileDataset]:
    """The CT series of 20 slices that most sets here report on."""
    return data.ct_series(slices=20, patient=data.Patient(issuer="HOSPITAL"), **given)  # type: ignore[arg-type]


def ct_volume() -> Volume:
    """The volume of `ct`."""
    return Volume(
        array=data.body_slices(*SHAPE).astype(np.float32),
        spacing=SPACING,
        origin=(-40.0, -40.0, -100.0),
        direction=AXES.copy(),
        series=SeriesInfo("CT", "CHEST"),
        unit="[hnsf'U]",
    )


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    """A ball in voxels of the grid of `ct`."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    found: np.ndarray = (
        (2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    ) <= radius**2
    return found


def lung_masks() -> tuple[np.ndarray, np.ndarray]:
    """The patient's right and left lung in `ct`."""
    lungs = data.body_slices(*SHAPE) < -700
    lungs &= data.body_slices(*SHAPE) > -900
    right = np.arange(SHAPE[2]) < SHAPE[2] / 2
    return lungs & right, lungs & ~right


def nodules(*, trained: bool = False) -> Findings:
    """Two nodules, the smaller one likelier (or of higher score): right first, then left."""
    sure = (Probability(0.93, "b"), Probability(0.71, "b")) if trained else (None, None)
    right, left = ball((9, 30, 18), 5.0), ball((12, 34, 45), 7.0)
    return Findings(
        "Two nodules found",
        findings=(
            Finding(NODULE, LUNG, Segment(left), score=1.0, probability=sure[1]),
            Finding(NODULE, LUNG, Segment(right), score=2.0, probability=sure[0]),
        ),
        sought=(NODULE, MASS),
        absent=(MASS,) if trained else (),
    )


def organs() -> Findings:
    """Both lungs, a trachea and the body around them: segments that overlap."""
    right, left = lung_masks()
    body = data.body_slices(*SHAPE) > -950
    trachea = np.zeros((6, 3, 3), dtype=bool)
    trachea[:] = True
    return Findings(
        "Four organs segmented",
        segments=(
            Segment(right, type=LUNG, laterality=Laterality.RIGHT),
            Segment(left, type=LUNG),
            Segment(trachea, offset=(10, 30, 31), type=TRACHEA_AND_BRONCHI, label="Trachea"),
            Segment(body, type=BODY),
        ),
    )


def triage(urgency: Urgency | None = Urgency.SIGNIFICANT) -> Findings:
    """A sign raised on a CT, without a place."""
    reasons = (Sign(PLEURAL_EFFUSION, "Left pleural effusion of 450 mL"),)
    return Findings(
        "Pleural effusion suspected",
        sought=(PLEURAL_EFFUSION, PNEUMOTHORAX),
        assessment=Assessment(urgency, reasons if urgency else ()),
    )


def request(findings: Findings, algorithm: Algorithm = RULES, **given: object) -> EncodeRequest:
    """An `EncodeRequest` on `ct`; ``given`` replaces fields."""
    made = EncodeRequest(
        source=SourceSeries(tuple(ct()), is_volume=True),
        algorithm=algorithm,
        equipment=EQUIPMENT,
        key="set one",
        finished_at=FINISHED_AT,
        findings=findings,
        volume=ct_volume(),
    )
    return replace(made, **given)  # type: ignore[arg-type]


def dx() -> pydicom.FileDataset:
    """A chest radiograph with laterality from its Patient Orientation, DX."""
    return data.cr_image(sop_class=DigitalXRayImageStorageForPresentation)


def radiograph_request(
    *, outlined: bool = True, trained: bool = True, found: bool = True
) -> EncodeRequest:
    """A triage of a radiograph: consolidation with an outline or without."""
    image = dx()
    box = np.array([[50.0, 30.0], [65.0, 30.0], [65.0, 50.0], [50.0, 50.0]])
    chance = Probability(0.88, "b") if trained else None
    finding = Finding(
        CONSOLIDATION, LUNG, outline=Outline(box) if outlined else None, probability=chance
    )
    findings = Findings(
        "Consolidation" if found else "Nothing found",
        findings=(finding,) if found else (),
        sought=(CONSOLIDATION, PNEUMOTHORAX),
        absent=((PNEUMOTHORAX,) if found else (CONSOLIDATION, PNEUMOTHORAX)) if trained else (),
        assessment=Assessment(
            Urgency.HIGHLY_SIGNIFICANT if found else (Urgency.NOT_SIGNIFICANT if trained else None),
            (Sign(CONSOLIDATION, "Opacity in the left lung"),) if found else (),
        ),
    )
    pixels = np.zeros((image.Rows, image.Columns), dtype=np.float32)
    volume = Images(
        (Image(pixels, None, PixelSpacingOrigin.NONE, "PA", "", ("L", "F")),), SeriesInfo("DX")
    )
    algorithm = Algorithm("chest-triage", "1.0.0", rule_based=not trained, series_number=9200)
    return request(
        findings, algorithm, source=SourceSeries((image,), is_volume=False), volume=volume
    )


def enhanced_request() -> EncodeRequest:
    """A nodule in an Enhanced CT whose frames are stored in reverse order of the volume."""
    source = data.enhanced_ct(frames=6)
    frames = source.PerFrameFunctionalGroupsSequence
    for place, item in enumerate(frames):
        item.PlanePositionSequence[0].ImagePositionPatient = [-16.0, -16.0, (5 - place) * 2.0]
    stored = data.body_slices(6, 32, 32).astype(np.float32)
    volume = Volume(
        array=np.ascontiguousarray(stored[::-1]),
        spacing=(2.0, 1.0, 1.0),
        origin=(-16.0, -16.0, 0.0),
        direction=AXES.copy(),
        series=SeriesInfo("CT", "CHEST"),
        unit="[hnsf'U]",
    )
    mask = np.zeros((2, 4, 5), dtype=bool)
    mask[:] = True
    mask[0, 0] = False
    finding = Finding(NODULE, LUNG, Segment(mask, offset=(1, 12, 6)))
    return request(
        Findings("One nodule", (finding,), sought=(NODULE,)),
        source=SourceSeries((source,), is_volume=True, frame_numbers=(6, 5, 4, 3, 2, 1)),
        volume=volume,
    )


def status_request(**given: object) -> StatusRequest:
    """A declined run whose peer wants to be told."""
    made = StatusRequest(
        source=SourceSeries(tuple(ct()), is_volume=True),
        algorithm=RULES,
        equipment=EQUIPMENT,
        key="set status",
        finished_at=FINISHED_AT,
        form=Form(frozenset({"seg", "sr", "status"})),
        text="The series misses a slice.",
        sought=(NODULE,),
    )
    return replace(made, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Written:
    """A set in files beside its source."""

    source: Path
    results: Path

    @property
    def source_files(self) -> list[Path]:
        return sorted(self.source.iterdir())

    @property
    def result_files(self) -> list[Path]:
        return sorted(self.results.iterdir())


def written(objects: Sequence[EncodedObject], source: Sequence[Dataset], folder: Path) -> Written:
    """Write a set and its source below ``folder``."""
    data.save_all(list(source), folder / "source")
    results = folder / "results"
    results.mkdir(parents=True)
    for each in objects:
        each.write(results / f"{each.kind.lower()}.dcm")
    return Written(folder / "source", results)


Mutation = Callable[[dict[str, Dataset]], object]


def mutated(made: Written, change: Mutation, folder: Path) -> Written:
    """The same set after ``change`` was done to its data sets, by kind; written as it then is."""
    objects = {path.stem: pydicom.dcmread(path) for path in made.result_files}
    change(objects)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, each in objects.items():
        pydicom.dcmwrite(folder / f"{kind}.dcm", each, enforce_file_format=False)
    return Written(made.source, folder)


def reread(objects: Sequence[EncodedObject]) -> Mapping[str, pydicom.FileDataset]:
    """Each object as a reader of its file gets it, by kind."""
    return {each.kind: pydicom.dcmread(io.BytesIO(each.to_bytes())) for each in objects}


def predecessor(report: EncodedObject) -> PredecessorRef:
    """What a later set says of ``report``."""
    return PredecessorRef(
        study_instance_uid=report.data_set.StudyInstanceUID,
        series_instance_uid=report.series_instance_uid,
        sop_class_uid=report.sop_class_uid,
        sop_instance_uid=report.sop_instance_uid,
    )

"""Rows to start a stage's test from: images that came in, installed pipelines, a fake clock."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicomnode.config import Settings
from dicomnode.dicom.headers import Header, PatientIdentity, identity, to_row
from dicomnode.rules.matching import match_to_data, select_to_data
from dicomnode.sdk.match import Match, Select
from dicomnode.worklist import Worklist, instances, pipelines, studies
from dicomnode.worklist.arrivals import Arrival, Taken
from dicomnode.worklist.pipelines import Description
from dicomnode.worklist.studies import Study
from tests.data import uid

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series to send: ``slices`` images ``spacing_mm`` apart along z."""

    name: str = "thin"
    study: str = "study"
    slices: int = 5
    spacing_mm: float = 1.0
    modality: str = "CT"
    kernel: str = "STANDARD"
    body_part: str = "CHEST"
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL")
    sop_class_uid: str = CT

    def header(self, number: int) -> Header:
        """The header of one image, counted from 0."""
        return Header(
            study_instance_uid=uid(self.study),
            series_instance_uid=uid(self.study, self.name),
            sop_instance_uid=uid(self.study, self.name, number),
            sop_class_uid=self.sop_class_uid,
            transfer_syntax_uid=EXPLICIT,
            patient=PatientIdentity(patient_id="P1", name="Phantom^Chest"),
            modality=self.modality,
            body_part_examined=self.body_part,
            instance_number=number + 1,
            has_pixels=True,
            image_position=(0.0, 0.0, number * self.spacing_mm),
            image_orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            kernel=self.kernel,
            attributes={
                "Modality": [self.modality],
                "BodyPartExamined": [self.body_part],
                "ImageType": list(self.image_type),
                "ConvolutionKernel": [self.kernel],
            },
        )


def arrive(
    worklist: Worklist,
    header: Header,
    *,
    peer: str = "ct2",
    called: str = "DICOMNODE",
    association_id: int | None = None,
    content: str = "",
) -> Taken:
    """Take one image in, as a door does once its file is durable."""
    digest = hashlib.sha256(f"{header.sop_instance_uid}{content}".encode()).hexdigest()
    arrival = Arrival(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        path=f"2026-11-21/{uuid.uuid4().hex}.dcm",
        byte_count=1000,
        digest=digest,
        identity=identity(header.patient),
        patient_id=header.patient.patient_id,
        patient_name=header.patient.name,
        modality=header.modality,
        body_part_examined=header.body_part_examined,
        is_image=header.has_pixels,
        attributes=header.attributes,
        header=to_row(header),
        peer=peer,
        calling_ae_title=peer.upper(),
        called_ae_title=called,
        association_id=association_id,
    )
    with worklist.write() as tx:
        return instances.take_in(tx, arrival, worklist.now())


def send(worklist: Worklist, series: Series, numbers: Sequence[int] = (), **how: Any) -> Study:
    """Take images of a series in, all of them or the given numbers; give the study."""
    for number in numbers or range(series.slices):
        arrive(worklist, series.header(number), **how)
    return study_of(worklist, series.study)


def study_of(worklist: Worklist, name: str = "study") -> Study:
    """The study as it is now."""
    with worklist.read() as tx:
        found = studies.find(tx, uid(name))
    assert found is not None
    return found


def install(
    worklist: Worklist,
    name: str = "lung-nodule",
    match: Match | None = None,
    select: Select | None = None,
    version: str = "1.0.0",
) -> None:
    """Describe one more installed pipeline, as the worker's child does."""
    described = Description(
        name=name,
        version=version,
        broken=None,
        match=match_to_data(match or Match(modality="CT")),
        select=select_to_data(select or Select()),
        takes="volume",
        settings={},
        weights={},
    )
    with worklist.write() as tx:
        others = [
            Description(
                name=row.name,
                version=row.version,
                match=row.match,
                select=row.select,
                takes=row.takes,
                settings=row.settings,
                weights=row.weights,
            )
            for row in pipelines.all_of(tx)
            if row.name != name
        ]
        pipelines.describe(tx, [*others, described], worklist.now())


def settings(**sections: Mapping[str, Any]) -> Settings:
    """Settings with a scanner and, if given, more."""
    peers = {"ct2": {"ae_title": "CT2", "receives_from": True}, **sections.pop("peers", {})}
    return Settings.model_validate({"peers": peers, **sections})

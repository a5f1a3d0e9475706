"""A finished job with a segmentation and a report to deliver, and what a peer of it received."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.config import Settings
from dicomnode.dicom.files import data_set_offset
from dicomnode.rules.keys import line
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import JobState, Mode, ResultKind
from dicomnode.stages.deliver import Deliver
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, deliveries, ends, studies
from dicomnode.worklist.deliveries import Delivery
from tests import worklist_data
from tests.data import uid
from tests.stages_data import settings

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG, SR = ResultKind.SEG, ResultKind.SR
CLASSES = {SEG: SEGMENTATION, SR: COMPREHENSIVE_3D_SR}
FORM = "f" * 64


@dataclass(frozen=True)
class Set:
    """A set that waits to be delivered, and its stored files by kind."""

    delivery_id: int
    study_instance_uid: str
    files: dict[ResultKind, Path]


def object_bytes(kind: ResultKind, study_instance_uid: str, words: str, size: int = 4000) -> bytes:
    """A file that a peer takes as an object of this kind; its content means nothing."""
    dataset = Dataset()
    dataset.SOPClassUID = CLASSES[kind]
    dataset.SOPInstanceUID = uid(words, kind)
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = uid(words, kind, "series")
    dataset.PatientID = "P1"
    dataset.PatientName = "Phantom^Chest"
    dataset.StudyDate = "20261121"
    dataset.StudyTime = "101010"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "A1"
    dataset.SeriesNumber = "1"
    dataset.InstanceNumber = "1"
    dataset.Modality = kind
    dataset.TextValue = "x" * size
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    dataset.file_meta = meta
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def finished(
    worklist: Worklist,
    storage: Storage,
    *,
    peer: str = "pacs",
    kinds: Sequence[ResultKind] = (SEG, SR),
    study: str = "1.2.826.0.1.3680043.2.1",
    images: int = 1,
    contents: Sequence[bytes] = (),
) -> Set:
    """End a job with results for a peer: these files, else some that mean nothing."""
    study_id = worklist_data.whole_study(worklist, images, study)
    worklist_data.make_job(worklist, study_id)
    claimed = worklist_data.claim(worklist)
    made, files = [], {}
    for number, kind in enumerate(kinds, start=1):
        words = f"{claimed.job.key}{number}"
        content = contents[number - 1] if contents else object_bytes(kind, study, words)
        name = storage.stage_result(claimed.job.id, claimed.fence, number, content)
        files[kind] = storage.result(name)
        head = dcmread(BytesIO(content))
        made.append(
            ends.NewResult(
                kind=kind,
                form=FORM,
                number=number,
                sop_class_uid=head.SOPClassUID,
                sop_instance_uid=head.SOPInstanceUID,
                series_instance_uid=head.SeriesInstanceUID,
                path=name,
                byte_count=len(content),
                digest=hashlib.sha256(content).hexdigest(),
                checks={"passed": 1, "failed": 0},
            )
        )
    before = predecessor(worklist, study, peer, claimed.job.id)
    end = ends.JobEnd(
        state=JobState.DONE,
        reason=Reason("job.done", {"n": 1, "m": 1}),
        results=made,
        deliveries=[deliveries.NewDelivery(peer=peer, form=FORM, predecessor_id=before)],
    )
    worklist_data.finish(worklist, claimed, end)
    with worklist.read() as tx:
        delivery = deliveries.of_job(tx, claimed.job.id)[-1]
    return Set(delivery.id, study, files)


def predecessor(worklist: Worklist, study: str, peer: str, job_id: int) -> int | None:
    with worklist.read() as tx:
        job_line = line(study, "lung-nodule", Mode.LIVE)
        found = deliveries.predecessors(tx, job_line, [peer], job_id=job_id)
    return found[peer].delivery_id if peer in found else None


def delivery(worklist: Worklist, delivery_id: int) -> Delivery:
    """The delivery as it is now."""
    with worklist.read() as tx:
        found = deliveries.get(tx, delivery_id)
    assert found is not None
    return found


def outcome(worklist: Worklist, delivery_id: int) -> str:
    """The outcome of the delivery's study."""
    with worklist.read() as tx:
        study = studies.get(tx, delivery(worklist, delivery_id).study_id)
    assert study is not None
    return study.outcome


def stage(worklist: Worklist, storage: Storage, port: int, **peer: Any) -> Deliver:
    """The stage with one peer, named pacs, at a local port."""
    return Deliver(worklist, storage, peer_settings(port, **peer), "deliver-test")


def peer_settings(port: int, **peer: Any) -> Settings:
    plain = {
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "sends_to": True,
        "confirm": "none",
        "timeout": "3s",
    }
    hook = {"url": "http://127.0.0.1:9/", "events": ["delivery.failed", "study.done"]}
    return settings(peers={"pacs": {**plain, **peer}}, notify={"ward": hook})


def received(folder: Path) -> dict[str, bytes]:
    """Data sets that a peer wrote down byte by byte (``+B``), by SOP Instance UID."""
    found = {}
    for path in folder.iterdir():
        head = dcmread(path, stop_before_pixels=True, force=True)
        found[str(head.SOPInstanceUID)] = path.read_bytes()[data_set_offset(path)[0] :]
    return found


def data_set(path: Path) -> bytes:
    return path.read_bytes()[data_set_offset(path)[0] :]

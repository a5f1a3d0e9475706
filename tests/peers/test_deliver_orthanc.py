"""Delivery to a real PACS: stored once, confirmed by C-FIND, counted without ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.dicom.files import data_set_offset
from dicomnode.rules.states import DeliveryState, Outcome
from dicomnode.stages.complete import Complete
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, deliveries, studies
from dicomnode.worklist.events import Act
from tests import dcmtk, deliver_data, worklist_data
from tests.data import Patient, ct_series, save_all
from tests.orthanc import Orthanc, running_orthanc
from tests.postgres import Clock
from tests.stages_data import settings

pytestmark = pytest.mark.peer


@pytest.fixture
def storage(tmp_path: Path, worklist: Worklist) -> Storage:
    return Storage.open(tmp_path / "storage", worklist.node_id, adopt_empty=True)


@contextmanager
def returning(folder: Path, port: int) -> Iterator[Orthanc]:
    """An Orthanc that comes back on a port that was silent."""
    pacs = Orthanc(folder, dcmtk.free_port(), dicom_port=port)
    try:
        pacs.start()
        yield pacs
    finally:
        pacs.stop()


def test_orthanc_keeps_each_object_once_and_confirms(
    worklist: Worklist, storage: Storage, tmp_path: Path, clock: Clock
) -> None:
    made = deliver_data.finished(worklist, storage)
    with running_orthanc(tmp_path / "orthanc", dcmtk.free_port()) as pacs:
        sender = deliver_data.stage(worklist, storage, pacs.dicom_port, confirm="find")
        assert sender.step("pacs")
        clock.move(6)
        assert sender.step("pacs")
        assert deliver_data.delivery(worklist, made.delivery_id).state is DeliveryState.CONFIRMED
        assert deliver_data.outcome(worklist, made.delivery_id) == Outcome.DONE

        with worklist.write() as tx:
            act = Act(now_ms=clock.now_ms, actor="anna")
            assert deliveries.resend(tx, made.delivery_id, act, only_missing=False)
        assert sender.step("pacs")
        files = {uid: pacs.file(one) for uid, one in pacs.instances().items()}
    sent = deliver_data.delivery(worklist, made.delivery_id)
    assert set(files) == {entry.sop_instance_uid for entry in sent.statuses}
    for number, entry in enumerate(sent.statuses):
        copy = tmp_path / f"copy{number}.dcm"
        copy.write_bytes(files[entry.sop_instance_uid])
        stored = made.files[entry.kind]
        assert copy.read_bytes()[data_set_offset(copy)[0] :] == deliver_data.data_set(stored)


def test_a_pacs_that_comes_back_gets_everything_that_waited(
    worklist: Worklist, storage: Storage, tmp_path: Path, clock: Clock
) -> None:
    made = [
        deliver_data.finished(worklist, storage, study=f"1.2.826.0.1.3680043.2.{number}")
        for number in range(4)
    ]
    port = dcmtk.free_port()
    deliver_data.stage(worklist, storage, port).step("pacs")
    clock.move(10)
    with returning(tmp_path / "orthanc", port) as pacs:
        stop = threading.Event()
        sender = deliver_data.stage(worklist, storage, port)
        thread = threading.Thread(target=sender.run, args=(stop,))
        thread.start()
        ids = [one.delivery_id for one in made]
        dcmtk.wait_for(
            lambda: all(
                deliver_data.delivery(worklist, n).state is DeliveryState.SENT for n in ids
            ),
            timeout_s=40,
            what="every delivery sent",
        )
        stop.set()
        thread.join(timeout=20)
        assert not thread.is_alive()
        assert len(pacs.instances()) == 8


def test_its_own_count_completes_a_study_without_our_results_in_it(
    worklist: Worklist, storage: Storage, tmp_path: Path, clock: Clock
) -> None:
    images = ct_series(slices=3, patient=Patient("P1"))
    study = str(images[0].StudyInstanceUID)
    files = save_all(images, tmp_path / "ct")
    made = deliver_data.finished(worklist, storage, study=study, images=2)
    with running_orthanc(tmp_path / "orthanc", dcmtk.free_port()) as pacs:
        sent = dcmtk.send(pacs.dicom_port, list(files), called="PACS")
        assert sent.returncode == 0
        deliver_data.stage(worklist, storage, pacs.dicom_port).step("pacs")
        # A third image comes late: the PACS now has five instances, two of them ours.
        worklist_data.take(worklist, worklist_data.arrival(3, study=study))
        peer = {
            "ae_title": "PACS",
            "host": "127.0.0.1",
            "port": pacs.dicom_port,
            "counts": True,
        }
        stage = Complete(worklist, settings(peers={"pacs": peer}, complete={"quiet": "10min"}))
        for seconds in (6, 31, 31):
            clock.move(seconds)
            while stage.step():
                pass
    with worklist.read() as tx:
        found = studies.get(tx, deliver_data.delivery(worklist, made.delivery_id).study_id)
    assert found is not None
    assert (found.expected_count, found.completed_by) == (3, "count")

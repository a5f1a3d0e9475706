"""The one way in: durable before success, refused in words, never filed under a sender's text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.dicom.equipment import MANUFACTURER
from dicomnode.dicom.files import file_meta_header
from dicomnode.errors import DatabaseUnavailableError, DiskFullError
from dicomnode.network.door import Answer, AssociationRequest, Destination, StoreCommand
from dicomnode.stages.receive.reconcile import Reconciled, reconcile
from dicomnode.stages.receive.records import Records
from dicomnode.stages.receive.take_in import Received, Sender, TakeIn
from dicomnode.stages.receive.visit import Means, Room, Visit
from dicomnode.telemetry import Metrics
from tests.data import as_bytes, ct_series, not_dicom, truncated
from tests.receive_data import ReceivingNode, sqlite_node

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SENDER = Sender("ct", "SCANNER", "DICOMNODE", None)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ReceivingNode]:
    with sqlite_node(tmp_path) as made:
        yield made


def body_of(data_set: Dataset) -> bytes:
    whole = as_bytes(data_set)
    meta_length = int.from_bytes(whole[140:144], "little")
    return whole[144 + meta_length :]


def arrive(
    node: ReceivingNode, body: bytes, sop_instance_uid: str, sop_class_uid: str = CT
) -> Received:
    path = node.storage.new_arrival()
    path.write_bytes(file_meta_header(sop_class_uid, sop_instance_uid, EXPLICIT) + body)
    digest = hashlib.sha256(body).hexdigest()
    return Received(path, sop_class_uid, sop_instance_uid, EXPLICIT, digest)


def test_an_image_is_acknowledged_with_its_file_and_its_row(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    body = body_of(image)

    answer = TakeIn(node.worklist, node.storage)(arrive(node, body, image.SOPInstanceUID), SENDER)

    assert answer == Answer(0x0000)
    ((uid, path, digest, state),) = node.rows()
    assert (uid, state) == (image.SOPInstanceUID, "current")
    assert digest == hashlib.sha256(body).hexdigest()
    assert node.files() == [path]
    assert node.data_set(path) == body
    assert not node.arrivals()


def test_the_same_bytes_again_change_nothing(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    for _ in range(3):
        assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success
    assert len(node.rows()) == len(node.files()) == 1


def test_other_bytes_of_the_same_number_are_kept_until_they_are_compared(
    node: ReceivingNode,
) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    image.PixelData = bytes(len(image.PixelData))
    assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success
    assert [row[3] for row in node.rows()] == ["current", "pending"]
    assert len(node.files()) == 2


@pytest.mark.parametrize(
    ("change", "keyword"),
    [
        ({"SOPInstanceUID": "1.2.3.4"}, "SOPInstanceUID"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "SOPClassUID"),
        ({"StudyInstanceUID": ""}, "StudyInstanceUID"),
        ({"SeriesInstanceUID": "../../etc/passwd"}, "SeriesInstanceUID"),
        ({"StudyInstanceUID": "1.2\n3"}, "StudyInstanceUID"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_object_that_cannot_be_filed_is_set_aside_and_refused(
    node: ReceivingNode, change: dict[str, str], keyword: str
) -> None:
    image = ct_series(slices=1)[0]
    uid = str(image.SOPInstanceUID)
    for name, value in change.items():
        setattr(image, name, value)

    answer = TakeIn(node.worklist, node.storage)(arrive(node, body_of(image), uid), SENDER)

    assert answer.status == 0xA900
    assert not node.rows()
    (found,) = node.quarantined()
    assert (found.why, found.parameters["keyword"]) == ("quarantine.bad_uid", keyword)
    assert [found.path] == node.files()


@pytest.mark.parametrize(
    "body", [not_dicom(), truncated(ct_series(slices=1)[0]), b"", b"\xff" * 5000]
)
def test_what_cannot_be_read_is_kept_with_the_offset_and_refused(
    node: ReceivingNode, body: bytes
) -> None:
    answer = TakeIn(node.worklist, node.storage)(arrive(node, body, "1.2.3"), SENDER)

    assert answer.status in (0xC000, 0xA900)
    (found,) = node.quarantined()
    assert found.peer == "ct"
    assert [found.path] == node.files()
    assert not node.arrivals()


def test_a_full_disk_is_told_and_leaves_nothing(
    node: ReceivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_arrival: Path, _day: str) -> str:
        raise DiskFullError("no space left")

    image = ct_series(slices=1)[0]
    monkeypatch.setattr(node.storage, "keep", full)
    answer = TakeIn(node.worklist, node.storage)(
        arrive(node, body_of(image), image.SOPInstanceUID), SENDER
    )
    assert answer.status == 0xA700
    assert not node.rows()


def test_a_database_that_went_away_is_told_and_the_file_gets_its_row_later(
    node: ReceivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailableError("The database does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(node.worklist, "transact", away)
        answer = door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
        assert answer.status == 0xA700
        with pytest.raises(DatabaseUnavailableError):
            door.settle()
    assert not node.rows()

    assert door.settle()
    assert not door.settle()
    assert [row[1] for row in node.rows()] == node.files()


def test_our_own_results_are_recognised_by_their_maker(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    image.Manufacturer, image.DeviceSerialNumber = MANUFACTURER, node.worklist.node_id
    TakeIn(node.worklist, node.storage)(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    with node.worklist.read() as tx:
        roles = tx.exec_driver_sql("SELECT role FROM instances").scalars().all()
    assert roles == ["own"]


EVIL = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["../../x", "/etc/passwd", "a\0b", "1.2\n", "<script>", "1" * 65, ".", "..."]),
    st.from_regex(r"[0-9.]{1,70}", fullmatch=True),
)


@examples(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(EVIL, EVIL)
def test_no_uid_of_a_command_leads_outside_the_store(
    node: ReceivingNode, sop_class_uid: str, sop_instance_uid: str
) -> None:
    visit = make_visit(node)

    verdict = visit.arriving(StoreCommand(sop_class_uid, sop_instance_uid, EXPLICIT))

    if isinstance(verdict, Destination):
        assert verdict.path.parent == node.storage.arrivals
        assert verdict.path.name.removesuffix(".part").isalnum()
        assert set(sop_class_uid + sop_instance_uid) <= set("0123456789.")
    else:
        assert verdict.status == 0xA900


def make_visit(node: ReceivingNode) -> Visit:
    door = TakeIn(node.worklist, node.storage)
    room = Room(node.storage, 0.0)
    means = Means(Records(node.worklist, None), door, room, node.storage, Metrics())
    request = AssociationRequest("SCANNER", "DICOMNODE", "127.0.0.1", False, ())
    return Visit(means, request, SENDER, 1)


def test_below_the_floor_nothing_is_taken_and_it_is_told_once(node: ReceivingNode) -> None:
    visit = make_visit(node)
    visit._means.room.floor = 1.1
    for _ in range(3):
        verdict = visit.arriving(StoreCommand(CT, "1.2.3", EXPLICIT))
        assert isinstance(verdict, Answer)
        assert verdict.status == 0xA700
    assert [found.why for found in node.quarantined()] == ["quarantine.no_room"]


def settled(node: ReceivingNode) -> Reconciled:
    return reconcile(node.worklist, node.storage, TakeIn(node.worklist, node.storage))


def test_files_without_a_row_are_adopted_at_the_start(node: ReceivingNode) -> None:
    for image in ct_series(slices=3):
        received = arrive(node, body_of(image), image.SOPInstanceUID)
        node.storage.keep(received.path, "2026-11-21")
    arrive(node, b"half", "1.2.3")

    assert settled(node) == Reconciled(adopted=3, deleted=0, dropped=0, missing=0, lost=0)

    assert sorted(row[1] for row in node.rows()) == sorted(node.files())
    assert not node.arrivals()
    assert settled(node) == Reconciled(0, 0, 0, 0, 0)


def test_a_file_that_cannot_be_adopted_is_set_aside(node: ReceivingNode) -> None:
    received = arrive(node, not_dicom(), "1.2.3")
    node.storage.keep(received.path, "2026-11-21")
    assert settled(node).adopted == 1
    assert [found.why for found in node.quarantined()] == ["quarantine.orphan"]
    assert settled(node) == Reconciled(0, 0, 0, 0, 0)


def test_a_second_copy_without_a_row_is_dropped(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    received = arrive(node, body_of(image), image.SOPInstanceUID)
    node.storage.keep(received.path, "2026-11-21")
    settled(node)
    assert [row[1] for row in node.rows()] == node.files()


def test_a_row_whose_file_never_became_durable_is_dropped_once_proved_it_is_reported(
    node: ReceivingNode,
) -> None:
    door = TakeIn(node.worklist, node.storage)
    first, second = ct_series(slices=2)
    door(arrive(node, body_of(first), first.SOPInstanceUID), SENDER)
    assert settled(node) == Reconciled(0, 0, 0, 0, 0)
    door(arrive(node, body_of(second), second.SOPInstanceUID), SENDER)
    for row in node.rows():
        node.storage.kept(row[1]).unlink()

    found = settled(node)

    assert (found.dropped, found.missing) == (1, 1)
    assert [row[0] for row in node.rows()] == [first.SOPInstanceUID]


def test_the_same_unreadable_bytes_again_are_refused_and_kept_once(node: ReceivingNode) -> None:
    door = TakeIn(node.worklist, node.storage)
    answers = [door(arrive(node, not_dicom(), "1.2.3"), SENDER) for _ in range(3)]
    assert {answer.status for answer in answers} == {0xC000}
    assert len(node.files()) == 1
    assert not node.arrivals()

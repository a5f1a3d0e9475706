"""The one way in: durable before success, refused in words, never filed under a sender's text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.dicom.equipment import MANUFACTURER
from dicomnode.dicom.files import file_meta_header
from dicomnode.errors import DatabaseUnavailableError, DiskFullError, StorageError
from dicomnode.network.door import (
    Answer,
    AssociationEnd,
    AssociationRequest,
    Destination,
    ProposedContext,
    StoreCommand,
)
from dicomnode.network.server import Server
from dicomnode.rules.reasons import sentence
from dicomnode.stages.receive.reconcile import Reconciled, reconcile
from dicomnode.stages.receive.records import Records, contexts_as_data
from dicomnode.stages.receive.take_in import Received, Sender, TakeIn
from dicomnode.stages.receive.visit import Means, Room, Visit
from dicomnode.telemetry import Metrics
from dicomnode.worklist import events, quarantine, release
from dicomnode.worklist.arrivals import Taken, TakenKind
from dicomnode.worklist.events import Act
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


def test_a_sender_whose_every_uid_is_wrong_gets_one_row_with_a_count(node: ReceivingNode) -> None:
    visit = make_visit(node)
    for _ in range(40):
        verdict = visit.arriving(StoreCommand(CT, "../x", EXPLICIT))
        assert isinstance(verdict, Answer)
        assert verdict.status == 0xA900

    visit.ended(AssociationEnd(is_released=True, cut_off=None))

    (found,) = node.quarantined()
    assert (found.why, found.parameters["n"]) == ("quarantine.bad_uid", 40)
    assert sentence(found.reason) == (
        "SOPInstanceUID is no usable UID; the sender was told A900 for 40 objects."
    )
    assert told(node) == ["quarantine.bad_uid"]
    assert visit._counts().refused == 40


def test_what_the_server_refuses_by_itself_is_counted_and_written_down(node: ReceivingNode) -> None:
    visit = make_visit(node)
    other_class = Answer(0x0122, "the SOP Class is not that of the context")
    for answer in (other_class, other_class, Answer(0x0110, "processing failure")):
        visit.refused(answer)

    assert visit._counts().refused == 3
    assert sorted(sentence(found.reason) for found in node.quarantined()) == [
        "Not kept: processing failure; the sender was told 0110.",
        "Not kept: the SOP Class is not that of the context; the sender was told 0122.",
    ]


def test_a_proposal_is_written_down_within_bounds_and_says_that_it_was_cut() -> None:
    context = ProposedContext(1, CT, (EXPLICIT,) * 70)
    told = contexts_as_data((context,) * 200, 4)
    assert len(told) == 129
    assert told[0]["proposed"] == [EXPLICIT] * 4
    assert (told[0]["left_out"], told[-1]) == (66, {"left_out": 72})
    assert "left_out" not in contexts_as_data((context,), 70)[0]


def test_the_folder_is_given_back_although_the_door_cannot_be_closed(
    node: ReceivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_server: Server, _limit_s: float) -> None:
        raise RuntimeError("can't join")

    with node.receiving() as receiver:
        with monkeypatch.context() as patched:
            patched.setattr(Server, "drain", broken)
            server = receiver._server
            with pytest.raises(RuntimeError):
                receiver.drain(1)
        assert server is not None
        server.stop()
        with node.storage.claim_receiver():
            pass


def settled(node: ReceivingNode) -> Reconciled:
    return reconcile(node.worklist, node.storage, TakeIn(node.worklist, node.storage))


def test_files_without_a_row_are_adopted_at_the_start(node: ReceivingNode) -> None:
    for image in ct_series(slices=3):
        received = arrive(node, body_of(image), image.SOPInstanceUID)
        node.storage.keep(received.path, "2026-11-21")
    arrive(node, b"half", "1.2.3")

    assert settled(node) == Reconciled(adopted=3, deleted=0, missing=0, lost=0)

    assert sorted(row[1] for row in node.rows()) == sorted(node.files())
    assert not node.arrivals()
    assert settled(node) == Reconciled(0, 0, 0, 0)


def test_a_file_that_cannot_be_adopted_is_set_aside(node: ReceivingNode) -> None:
    received = arrive(node, not_dicom(), "1.2.3")
    node.storage.keep(received.path, "2026-11-21")
    assert settled(node).adopted == 1
    assert [found.why for found in node.quarantined()] == ["quarantine.orphan"]
    assert settled(node) == Reconciled(0, 0, 0, 0)


def test_a_second_copy_without_a_row_is_dropped(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    received = arrive(node, body_of(image), image.SOPInstanceUID)
    node.storage.keep(received.path, "2026-11-21")
    settled(node)
    assert [row[1] for row in node.rows()] == node.files()


def test_a_row_whose_file_is_gone_stays_and_is_told_once(node: ReceivingNode) -> None:
    """Its sender was told 0x0000, whether the node was started since or not."""
    door = TakeIn(node.worklist, node.storage)
    first, second = ct_series(slices=2)
    door(arrive(node, body_of(first), first.SOPInstanceUID), SENDER)
    assert settled(node) == Reconciled(0, 0, 0, 0)
    door(arrive(node, body_of(second), second.SOPInstanceUID), SENDER)
    for row in node.rows():
        node.storage.kept(row[1]).unlink()

    assert [settled(node).missing for _ in range(2)] == [2, 2]

    assert [row[0] for row in node.rows()] == [first.SOPInstanceUID, second.SOPInstanceUID]
    assert told(node).count("node.file_missing") == 2


def told(node: ReceivingNode) -> list[str]:
    with node.worklist.read() as tx:
        return [event.what for event in events.after(tx, 0)]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def change_a_byte(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [Path.unlink, cut_off, change_a_byte, empty])
def test_the_same_image_again_takes_the_place_of_a_file_that_is_lost_or_damaged(
    node: ReceivingNode, harm: Callable[[Path], None]
) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success
    ((_, before, digest, _),) = node.rows()
    harm(node.storage.kept(before))

    assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success

    ((_, path, kept_digest, state),) = node.rows()
    assert (kept_digest, state) == (digest, "current")
    assert node.files() == [path] != [before]
    assert node.data_set(path) == body_of(image)
    assert told(node).count("node.file_restored") == 1


def test_a_lost_file_that_is_restored_and_lost_again_is_told_again(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    for _ in range(2):
        door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
        node.storage.kept(node.rows()[0][1]).unlink()
        settled(node)
    assert told(node)[-3:] == ["node.file_missing", "node.file_restored", "node.file_missing"]


def test_a_resend_before_the_database_went_away_restores_the_file_at_the_next_start(
    node: ReceivingNode,
) -> None:
    image = ct_series(slices=1)[0]
    TakeIn(node.worklist, node.storage)(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    node.storage.kept(node.rows()[0][1]).unlink()
    again = arrive(node, body_of(image), image.SOPInstanceUID)
    kept = node.storage.keep(again.path, "2026-11-21")

    assert settled(node) == Reconciled(adopted=1, deleted=0, missing=0, lost=0)

    assert [row[1] for row in node.rows()] == node.files() == [kept]


def test_what_waits_to_be_compared_gets_its_lost_file_back(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    image.PixelData = bytes(len(image.PixelData))
    for _ in range(2):
        door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
        current, pending = node.rows()
        node.storage.kept(pending[1]).unlink(missing_ok=True)
    assert node.files() == [current[1]]

    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)

    assert sorted(row[1] for row in node.rows()) == node.files()
    assert node.data_set(node.rows()[1][1]) == body_of(image)


def test_what_is_set_aside_gets_its_lost_file_back(node: ReceivingNode) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    image.PatientID = "another"
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    (before,) = node.quarantined()
    assert before.path is not None
    node.storage.kept(before.path).unlink()

    assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success

    (found,) = node.quarantined()
    assert found.path is not None
    assert found.arrival is not None
    assert found.arrival["path"] == found.path != before.path
    assert node.data_set(found.path) == body_of(image)


def test_a_second_copy_that_cannot_be_deleted_is_acknowledged_all_the_same(
    node: ReceivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)

    def read_only(_name: str) -> None:
        raise StorageError("deleting an image: Read-only file system")

    monkeypatch.setattr(node.storage, "delete_kept", read_only)
    assert door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER).is_success


def test_what_cannot_be_released_after_all_is_held_again_and_survives_a_start(
    node: ReceivingNode,
) -> None:
    """Set aside for its patient, released; meanwhile its number came in another series."""
    first, aside = ct_series(slices=2)
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(first), first.SOPInstanceUID), SENDER)
    aside.PatientID = "another"
    door(arrive(node, body_of(aside), aside.SOPInstanceUID), SENDER)
    (held,) = node.quarantined()
    taker = ct_series(slices=2)[1]
    taker.SeriesInstanceUID = f"{first.SeriesInstanceUID}.9"
    door(arrive(node, body_of(taker), aside.SOPInstanceUID), SENDER)

    with node.worklist.write() as tx:
        taken = release.release(tx, held.id, Act(now_ms=node.worklist.now(), actor="anna"))

    assert isinstance(taken, Taken)
    assert taken.kind is TakenKind.QUARANTINED
    assert taken.keeps_file
    assert settled(node).deleted == 0
    (found,) = node.quarantined()
    assert (found.id, found.state, found.why) == (held.id, "held", "quarantine.uid_conflict")
    assert found.path in node.files()


def test_a_released_file_without_a_row_is_taken_in_at_the_start_not_deleted(
    node: ReceivingNode,
) -> None:
    """The node died between the row that was there and the file that it does without."""
    image = ct_series(slices=1)[0]
    door = TakeIn(node.worklist, node.storage)
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    image.PatientID = "another"
    door(arrive(node, body_of(image), image.SOPInstanceUID), SENDER)
    (held,) = node.quarantined()
    with node.worklist.write() as tx:
        quarantine.settle(tx, held.id, quarantine.RELEASED, Act(now_ms=node.worklist.now()))

    assert settled(node) == Reconciled(adopted=1, deleted=0, missing=0, lost=0)

    (found,) = node.quarantined()
    assert found.path == held.path
    assert found.path in node.files()


def test_the_same_unreadable_bytes_again_are_refused_and_kept_once(node: ReceivingNode) -> None:
    door = TakeIn(node.worklist, node.storage)
    answers = [door(arrive(node, not_dicom(), "1.2.3"), SENDER) for _ in range(3)]
    assert {answer.status for answer in answers} == {0xC000}
    assert len(node.files()) == 1
    assert not node.arrivals()

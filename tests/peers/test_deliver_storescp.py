"""Delivery to DCMTK's storescp and to a small PACS whose answers a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
)

from dicomnode.dicom import objects
from dicomnode.rules.reasons import sentence
from dicomnode.rules.states import DeliveryState, Outcome, ResultKind
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, deliveries, notifications, peers, retention, sending
from dicomnode.worklist.events import Act
from tests import dcmtk, results_data
from tests import deliver_data as data
from tests.deliver_data import CLASSES, SEG, SEGMENTATION, SR, delivery, finished, stage
from tests.postgres import Clock

pytestmark = pytest.mark.peer


@pytest.fixture
def storage(tmp_path: Path, worklist: Worklist) -> Storage:
    return Storage.open(tmp_path / "storage", worklist.node_id, adopt_empty=True)


@dataclass
class Pacs:
    """Answers each C-STORE with the next status for its kind, 0000 when none is left."""

    answers: dict[ResultKind, list[int]] = field(default_factory=dict)
    classes: Mapping[ResultKind, str] = field(default_factory=lambda: CLASSES)
    finds: bool = False
    stored: list[tuple[str, bytes]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        kind = SEG if event.request.AffectedSOPClassUID == SEGMENTATION else SR
        statuses = self.answers.get(kind, [])
        status = statuses.pop(0) if statuses else 0x0000
        if status in (0x0000, 0xB000, 0xB006, 0xB007, 0x0111):
            self.stored.append((uid, event.encoded_dataset(include_meta=False)))
        return status

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier.SOPInstanceUID
        wanted = {asked} if isinstance(asked, str) else set(asked)
        for uid in {uid for uid, _ in self.stored} & wanted - self.hidden:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.StudyInstanceUID = event.identifier.StudyInstanceUID
            match.SeriesInstanceUID = event.identifier.SeriesInstanceUID
            match.SOPInstanceUID = uid
            yield 0xFF00, match

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _ in self.stored]

    @contextmanager
    def serving(self, port: int | None = None) -> Iterator[int]:
        entity = AE("PACS")
        for sop_class in self.classes.values():
            entity.add_supported_context(sop_class)
        if self.finds:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        entity.add_supported_context("1.2.840.10008.1.1")
        port = port or dcmtk.free_port()
        handlers = [(evt.EVT_C_STORE, self.store), (evt.EVT_C_FIND, self.find)]
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield port
        finally:
            server.shutdown()


def told(worklist: Worklist, delivery_id: int) -> list[str]:
    with worklist.read() as tx:
        study_id = delivery(worklist, delivery_id).study_id
        return [one.what for one in notifications.of_study(tx, study_id) if one.target == "ward"]


def test_a_set_arrives_byte_by_byte_and_the_study_is_done(
    worklist: Worklist, storage: Storage, tmp_path: Path
) -> None:
    made = finished(worklist, storage)
    with dcmtk.storescp(tmp_path / "pacs", "+B") as (port, _):
        sender = stage(worklist, storage, port)
        assert sender.step("pacs")
        assert not sender.step("pacs")
    found = data.received(tmp_path / "pacs")
    assert sorted(found.values()) == sorted(data.data_set(path) for path in made.files.values())
    sent = delivery(worklist, made.delivery_id)
    assert sent.state is DeliveryState.SENT
    assert sent.reason is not None
    assert sent.reason.code == "delivery.sent_final"
    assert [entry.status for entry in sent.statuses] == ["0000", "0000"]
    assert data.outcome(worklist, made.delivery_id) == Outcome.DONE
    assert told(worklist, made.delivery_id) == ["study.done"]


def test_the_segmentation_goes_before_the_report(worklist: Worklist, storage: Storage) -> None:
    made = finished(worklist, storage, kinds=(SR, SEG))
    pacs = Pacs()
    with pacs.serving() as port:
        stage(worklist, storage, port).step("pacs")
    entries = {e.kind: e.sop_instance_uid for e in delivery(worklist, made.delivery_id).statuses}
    assert pacs.uids == [entries[SEG], entries[SR]]


@pytest.mark.parametrize(
    "refusing",
    [lambda: Pacs(answers={SEG: [0xA900]}), lambda: Pacs(classes={SR: CLASSES[SR]})],
    ids=["refused", "not taken"],
)
def test_no_report_of_a_real_set_leaves_while_its_segmentation_is_refused(
    worklist: Worklist, storage: Storage, refusing: Callable[[], Pacs]
) -> None:
    pacs = refusing()
    encoded = objects.encode(results_data.request(results_data.nodules()))
    made = finished(
        worklist,
        storage,
        kinds=[one.kind for one in encoded],
        contents=[one.to_bytes() for one in encoded],
    )
    with pacs.serving() as port:
        assert stage(worklist, storage, port).step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert ended.state is DeliveryState.FAILED
    assert pacs.stored == []
    assert [entry.status for entry in ended.statuses][1] is None


def test_a_refused_segmentation_holds_its_report_back_and_the_ladder_goes_on(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(answers={SEG: [0xA700, 0xA701]})
    with pacs.serving() as port:
        sender = stage(worklist, storage, port)
        assert sender.step("pacs")
        waiting = delivery(worklist, made.delivery_id)
        assert waiting.state is DeliveryState.QUEUED
        assert waiting.reason is not None
        assert waiting.reason.code == "delivery.A700"
        assert 24_000 <= waiting.due_at - clock.now_ms <= 36_000
        assert pacs.stored == []
        assert not sender.step("pacs")

        clock.move(40)
        assert sender.step("pacs")
        clock.move(150)
        assert sender.step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    assert len(pacs.uids) == 2


def test_after_five_refusals_more_it_is_given_up_and_told(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    with Pacs(answers={SEG: [0xA700] * 9}).serving() as port:
        sender = stage(worklist, storage, port)
        tries = 0
        while sender.step("pacs"):
            tries += 1
            clock.move(30_000)
    ended = delivery(worklist, made.delivery_id)
    assert tries == 6
    assert ended.state is DeliveryState.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "delivery.given_up"
    assert data.outcome(worklist, made.delivery_id) == Outcome.NEEDS_ATTENTION
    assert told(worklist, made.delivery_id) == ["delivery.failed"]


@pytest.mark.parametrize(("status", "code"), [(0xA900, "A900"), (0xC001, "C000"), (0x0122, "0122")])
def test_what_another_try_cannot_mend_is_not_tried_again(
    worklist: Worklist, storage: Storage, status: int, code: str
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(answers={SR: [status]})
    with pacs.serving() as port:
        sender = stage(worklist, storage, port)
        assert sender.step("pacs")
        assert not sender.step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert ended.state is DeliveryState.FAILED
    assert ended.reason is not None
    assert ended.reason.code == f"delivery.{code}"
    assert [entry.stored_at is not None for entry in ended.statuses] == [True, False]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_counts_as_stored_and_is_told(
    worklist: Worklist, storage: Storage, status: int
) -> None:
    made = finished(worklist, storage)
    with Pacs(answers={SEG: [status]}).serving() as port:
        stage(worklist, storage, port).step("pacs")
    sent = delivery(worklist, made.delivery_id)
    assert sent.state is DeliveryState.SENT
    assert sent.reason is not None
    assert sent.reason.code == "delivery.B000"
    assert sent.statuses[0].status == f"{status:04X}"


@pytest.mark.parametrize("finds", [True, False], ids=["looked for", "no C-FIND there"])
def test_an_object_that_the_peer_has_already_counts_as_stored(
    worklist: Worklist, storage: Storage, finds: bool
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(answers={SEG: [0x0111]}, finds=finds)
    with pacs.serving() as port:
        stage(worklist, storage, port).step("pacs")
    sent = delivery(worklist, made.delivery_id)
    assert sent.state is DeliveryState.SENT
    assert all(entry.stored_at for entry in sent.statuses)
    assert len(pacs.uids) == 2


def test_a_claim_of_having_it_that_a_look_does_not_show_is_tried_again(
    worklist: Worklist, storage: Storage
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(answers={SEG: [0x0111]}, finds=True)
    pacs.hidden = {delivery(worklist, made.delivery_id).statuses[0].sop_instance_uid}
    with pacs.serving() as port:
        stage(worklist, storage, port).step("pacs")
    waiting = delivery(worklist, made.delivery_id)
    assert waiting.state is DeliveryState.QUEUED
    assert waiting.reason is not None
    assert waiting.reason.code == "delivery.0111"


def test_only_what_is_missing_goes_again_with_the_same_bytes(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(answers={SR: [0xA700]})
    with pacs.serving() as port:
        sender = stage(worklist, storage, port)
        sender.step("pacs")
        waiting = delivery(worklist, made.delivery_id)
        assert waiting.reason is not None
        assert waiting.reason.code == "delivery.partial"
        clock.move(60)
        sender.step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    assert [content for _, content in pacs.stored] == [
        data.data_set(made.files[SEG]),
        data.data_set(made.files[SR]),
    ]


def test_a_peer_that_is_down_uses_up_no_try_and_is_tried_by_its_back_off(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made, port = finished(worklist, storage), dcmtk.free_port()
    sender = stage(worklist, storage, port)
    for _ in range(9):
        assert sender.step("pacs")
        assert not sender.step("pacs")
        clock.move(301)
    waiting = delivery(worklist, made.delivery_id)
    assert (waiting.state, waiting.tries) == (DeliveryState.QUEUED, 0)
    with worklist.read() as tx:
        peer = peers.get(tx, "pacs")
        study = deliveries.get(tx, made.delivery_id)
    assert study is not None
    assert peer.down
    assert peer.reason is not None
    assert peer.reason.code == "delivery.peer_down"
    assert "nothing listens" in str(peer.reason.parameters["cause"])
    with Pacs().serving(port):
        assert sender.step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    with worklist.read() as tx:
        assert not peers.get(tx, "pacs").down


def test_a_peer_that_refuses_the_association_is_down_with_its_words(
    worklist: Worklist, storage: Storage, tmp_path: Path
) -> None:
    made = finished(worklist, storage)
    with dcmtk.storescp(tmp_path / "pacs", "--refuse") as (port, _):
        stage(worklist, storage, port).step("pacs")
    waiting = delivery(worklist, made.delivery_id)
    assert (waiting.state, waiting.tries) == (DeliveryState.QUEUED, 0)
    assert waiting.reason is not None
    assert waiting.reason.code == "delivery.connection_refused"


def test_a_peer_that_takes_no_segmentation_fails_the_set_at_once(
    worklist: Worklist, storage: Storage
) -> None:
    made = finished(worklist, storage)
    with Pacs(classes={SR: CLASSES[SR]}).serving() as port:
        stage(worklist, storage, port).step("pacs")
    first = delivery(worklist, made.delivery_id)
    other = finished(worklist, storage, study="1.2.826.0.1.3680043.2.2")
    with Pacs(classes={}).serving() as port:
        stage(worklist, storage, port).step("pacs")
    second = delivery(worklist, other.delivery_id)
    for ended in (first, second):
        assert ended.state is DeliveryState.FAILED
        assert ended.reason is not None
        assert ended.reason.code == "delivery.not_negotiated"


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after"])
def test_an_object_without_an_answer_goes_again_under_its_uid(
    worklist: Worklist, storage: Storage, clock: Clock, tmp_path: Path, option: str
) -> None:
    made = finished(worklist, storage)
    with dcmtk.storescp(tmp_path / "bad", option) as (port, _):
        stage(worklist, storage, port).step("pacs")
    waiting = delivery(worklist, made.delivery_id)
    assert waiting.state is DeliveryState.QUEUED
    assert waiting.reason is not None
    assert waiting.reason.code == "delivery.no_answer"
    assert waiting.statuses[0].unsure
    assert waiting.begun
    clock.move(60)
    with dcmtk.storescp(tmp_path / "good", "+B") as (port, _):
        stage(worklist, storage, port).step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    found = data.received(tmp_path / "good")
    assert found[waiting.statuses[0].sop_instance_uid] == data.data_set(made.files[SEG])


def test_a_slow_peer_is_waited_for_as_long_as_its_timeout_says(
    worklist: Worklist, storage: Storage, tmp_path: Path
) -> None:
    made = finished(worklist, storage, kinds=(SR,))
    with dcmtk.storescp(tmp_path / "pacs", "--sleep-during", 1) as (port, _):
        stage(worklist, storage, port, timeout="10s").step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    other = finished(worklist, storage, kinds=(SR,), study="1.2.826.0.1.3680043.2.2")
    with dcmtk.storescp(tmp_path / "pacs", "--sleep-during", 8) as (port, _):
        stage(worklist, storage, port, timeout="1s").step("pacs")
    waiting = delivery(worklist, other.delivery_id)
    assert waiting.reason is not None
    assert waiting.reason.code == "delivery.no_answer"


def test_a_damaged_result_file_is_never_sent(worklist: Worklist, storage: Storage) -> None:
    made = finished(worklist, storage)
    path = made.files[SEG]
    path.write_bytes(path.read_bytes()[:-2] + b"zz")
    pacs = Pacs()
    with pacs.serving() as port:
        stage(worklist, storage, port).step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert ended.state is DeliveryState.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "delivery.file_damaged"
    assert pacs.stored == []


def test_nothing_goes_to_a_suspended_peer(worklist: Worklist, storage: Storage) -> None:
    made = finished(worklist, storage)
    with worklist.write() as tx:
        peers.suspend(tx, "pacs", Act(now_ms=worklist.now(), actor="anna"))
    pacs = Pacs()
    with pacs.serving() as port:
        sender = stage(worklist, storage, port)
        assert not sender.step("pacs")
        with worklist.write() as tx:
            peers.resume(tx, "pacs", Act(now_ms=worklist.now(), actor="anna"))
        assert sender.step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT


def test_a_set_waits_until_the_one_before_it_is_settled(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    first = finished(worklist, storage)
    pacs = Pacs(answers={SR: [0xA700]})
    with pacs.serving() as port:
        sender = stage(worklist, storage, port)
        sender.step("pacs")
        worklist_images = finished(worklist, storage, images=2)
        assert delivery(worklist, worklist_images.delivery_id).after_id == first.delivery_id
        assert not sender.step("pacs")
        clock.move(60)
        assert sender.step("pacs")
        assert sender.step("pacs")
    assert delivery(worklist, worklist_images.delivery_id).state is DeliveryState.SENT


@pytest.mark.parametrize("confirm", ["find", "auto"])
def test_what_a_look_finds_is_confirmed(
    worklist: Worklist, storage: Storage, clock: Clock, confirm: str
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(finds=True)
    with pacs.serving() as port:
        sender = stage(worklist, storage, port, confirm=confirm)
        assert sender.step("pacs")
        assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
        assert not sender.step("pacs")
        clock.move(6)
        assert sender.step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert ended.state is DeliveryState.CONFIRMED
    assert all(entry.confirmed_at == clock.now_ms for entry in ended.statuses)


def test_what_is_not_seen_yet_is_looked_for_later_and_at_last_called_lost(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs(finds=True)
    pacs.hidden = {delivery(worklist, made.delivery_id).statuses[1].sop_instance_uid}
    with pacs.serving() as port:
        sender = stage(worklist, storage, port, confirm="find")
        sender.step("pacs")
        looks = 0
        for _ in range(20):
            clock.move(3600)
            looks += sender.step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert looks > 1
    assert ended.state is DeliveryState.FAILED
    assert ended.reason is not None
    assert (ended.reason.code, ended.reason.parameters["m"]) == ("delivery.not_kept", 1)
    # A person who has it sent again sends what is missing, and only that.
    with worklist.write() as tx:
        assert deliveries.resend(tx, made.delivery_id, Act(now_ms=clock.now_ms, actor="anna"))
    with pacs.serving() as port:
        stage(worklist, storage, port).step("pacs")
    assert len(pacs.stored) == 3


def test_without_c_find_auto_ends_as_sent(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    with Pacs(finds=False).serving() as port:
        sender = stage(worklist, storage, port, confirm="auto")
        sender.step("pacs")
        clock.move(6)
        assert sender.step("pacs")
        clock.move(100_000)
        assert not sender.step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert ended.state is DeliveryState.SENT
    assert ended.confirm_at is None
    assert ended.reason is not None
    assert ended.reason.code == "delivery.sent_final"


def test_a_peer_that_must_be_asked_and_answers_no_query_ends_as_sent_with_words(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    with Pacs(finds=False).serving() as port:
        sender = stage(worklist, storage, port, confirm="find")
        sender.step("pacs")
        clock.move(6)
        assert sender.step("pacs")
        waiting = delivery(worklist, made.delivery_id)
        assert waiting.confirm_at is not None
        assert waiting.reason is not None
        assert waiting.reason.code == "commitment.outstanding"
        assert waiting.reason.parameters["cause"]
        for _ in range(10):
            clock.move(3600)
            sender.step("pacs")
    ended = delivery(worklist, made.delivery_id)
    assert (ended.state, ended.confirm_at) == (DeliveryState.SENT, None)
    assert ended.reason is not None
    assert ended.reason.code == "delivery.sent_unasked"
    assert str(waiting.reason.parameters["cause"]) in sentence(ended.reason)
    with worklist.read() as tx:
        assert retention.purgeable(tx, older_than_ms=None) == [ended.study_id]


def test_a_delivery_that_was_taken_over_is_left_as_it_is(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    made = finished(worklist, storage)
    pacs = Pacs()
    answering = pacs.store

    def steal(event: evt.Event) -> int:
        with worklist.write() as tx:
            sending.free_expired(tx, clock.now_ms + 10**9)
        return answering(event)

    pacs.store = steal  # type: ignore[method-assign]
    with pacs.serving() as port:
        assert stage(worklist, storage, port).step("pacs")
    waiting = delivery(worklist, made.delivery_id)
    assert waiting.state is DeliveryState.QUEUED
    assert len(pacs.uids) == 1


def test_stopped_in_the_middle_it_goes_on_where_it_was(
    worklist: Worklist, storage: Storage
) -> None:
    made = finished(worklist, storage)
    pacs, stop = Pacs(), threading.Event()
    answering = pacs.store

    def stop_first(event: evt.Event) -> int:
        stop.set()
        return answering(event)

    pacs.store = stop_first  # type: ignore[method-assign]
    with pacs.serving() as port:
        thread = threading.Thread(target=stage(worklist, storage, port).run, args=(stop,))
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive()
        waiting = delivery(worklist, made.delivery_id)
        assert (waiting.state, waiting.tries) == (DeliveryState.QUEUED, 0)
        assert len(pacs.uids) == 1
        assert stage(worklist, storage, port).step("pacs")
    assert delivery(worklist, made.delivery_id).state is DeliveryState.SENT
    assert len(set(pacs.uids)) == len(pacs.uids) == 2

"""What sending decides without asking a peer: the order of a set, and when a wait is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.dicom import objects
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import DeliveryState
from dicomnode.stages.deliver.answers import holds_back, sendable
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, notifications, peers, retention, sending
from dicomnode.worklist.deliveries import ObjectStatus
from dicomnode.worklist.sending import DeliveryEnd
from tests import dcmtk, results_data
from tests.deliver_data import delivery, finished, stage
from tests.postgres import Clock


@pytest.fixture
def storage(tmp_path: Path, worklist: Worklist) -> Storage:
    return Storage.open(tmp_path / "storage", worklist.node_id, adopt_empty=True)


def test_of_an_encoded_set_the_segmentation_goes_first_and_holds_the_report_back() -> None:
    encoded = objects.encode(results_data.request(results_data.nodules()))
    report_first = [
        ObjectStatus(
            result_id=number,
            kind=one.kind,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
        )
        for number, one in enumerate(reversed(encoded))
    ]
    assert sendable(report_first) == [1, 0]
    assert [holds_back(one) for one in report_first] == [False, True]


def unconfirmed(worklist: Worklist, storage: Storage, peer: str, wait_s: int) -> int:
    """Give the id of a delivery that arrived and is to be confirmed later."""
    made = finished(worklist, storage, peer=peer)
    claimed = sending.claim_next(worklist, peer, owner="d", lease_ms=1000)
    assert claimed is not None
    now_ms = worklist.now()
    end = DeliveryEnd(
        state=DeliveryState.SENT,
        reason=Reason("delivery.sent", {"peer": peer, "n": 2}),
        objects=claimed.delivery.statuses,
        confirm_at=now_ms + wait_s * 1000,
    )
    with worklist.write() as tx:
        sending.finish(tx, made.delivery_id, claimed.fence, end, now_ms)
        assert retention.purgeable(tx, older_than_ms=None) == []
    return made.delivery_id


def said(worklist: Worklist, delivery_id: int) -> tuple[DeliveryState, Any, str]:
    """Give the state of a delivery, when it is to be confirmed, and its reason's code."""
    found = delivery(worklist, delivery_id)
    assert found.reason is not None
    return found.state, found.confirm_at, found.reason.code


def test_what_waits_for_a_removed_peer_ends_at_once_and_is_told(
    worklist: Worklist, storage: Storage
) -> None:
    made = finished(worklist, storage, peer="old")
    down = Reason("delivery.peer_down", {"peer": "old", "host": "h", "port": 104, "n": 1})
    with worklist.write() as tx:
        assert peers.failed(tx, "old", down, worklist.now()) > worklist.now()
    sender = stage(worklist, storage, dcmtk.free_port())
    assert sender.give_up_removed()
    state, _, code = said(worklist, made.delivery_id)
    assert (state, code) == (DeliveryState.FAILED, "delivery.peer_removed")
    assert not sender.give_up_removed()
    with worklist.read() as tx:
        told = notifications.of_study(tx, delivery(worklist, made.delivery_id).study_id)
    assert {(one.target, one.what) for one in told} == {
        ("log", "delivery.failed"),
        ("ward", "delivery.failed"),
    }


def test_what_a_removed_peer_did_not_confirm_stays_sent_and_may_be_purged(
    worklist: Worklist, storage: Storage
) -> None:
    delivery_id = unconfirmed(worklist, storage, "old", 3600)
    sender = stage(worklist, storage, dcmtk.free_port())
    assert sender.give_up_removed()
    assert not sender.give_up_removed()
    assert said(worklist, delivery_id) == (DeliveryState.SENT, None, "delivery.sent_unasked")
    with worklist.read() as tx:
        study_id = delivery(worklist, delivery_id).study_id
        assert retention.purgeable(tx, older_than_ms=None) == [study_id]


def test_a_peer_that_is_to_be_asked_no_more_is_not_asked(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    delivery_id = unconfirmed(worklist, storage, "pacs", 5)
    clock.move(6)
    nobody_listens = dcmtk.free_port()
    assert stage(worklist, storage, nobody_listens, confirm="none").step("pacs")
    assert said(worklist, delivery_id) == (DeliveryState.SENT, None, "delivery.sent_final")
    with worklist.read() as tx:
        assert not peers.get(tx, "pacs").down

"""Timers: what is due moves, what is old goes, what is not final stays; on both engines."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from dicomnode.config import Settings
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import DeliveryState, JobState, ResultKind
from dicomnode.sdk.match import Match, Select
from dicomnode.stages.deliver import Deliver
from dicomnode.stages.route import Route
from dicomnode.stages.sweep import Sweep
from dicomnode.storage import FreeSpace, Storage
from dicomnode.worklist import (
    Worklist,
    events,
    jobs,
    notifications,
    peers,
    processes,
    sending,
    studies,
)
from dicomnode.worklist.events import Act
from tests import dcmtk, deliver_data, worklist_data
from tests.postgres import Clock
from tests.stages_data import Series, install, send, settings, study_of

DAY_S = 86400


@pytest.fixture
def storage(tmp_path: Path, worklist: Worklist) -> Storage:
    return Storage.open(tmp_path / "storage", worklist.node_id, adopt_empty=True)


def sweep(worklist: Worklist, storage: Storage, given: Settings | None = None) -> Sweep:
    return Sweep(worklist, storage, given or settings())


def codes(worklist: Worklist) -> list[str]:
    with worklist.read() as tx:
        return [event.what for event in events.after(tx, 0)]


def kept_study(worklist: Worklist, storage: Storage, study: str) -> tuple[int, Path]:
    """Take a study of one image in whose file is really there; close and route it."""
    arrival = storage.new_arrival()
    arrival.write_bytes(b"x" * 100)
    name = storage.keep(arrival, "2026-11-21")
    (taken,) = worklist_data.take(worklist, worklist_data.arrival(1, study=study, path=name))
    assert taken.study_id is not None
    worklist_data.complete(worklist, taken.study_id)
    return taken.study_id, storage.kept(name)


def test_a_job_whose_worker_fell_silent_is_queued_again(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    job_id = worklist_data.make_job(worklist, worklist_data.whole_study(worklist))
    fence = worklist_data.claim(worklist).fence
    stage = sweep(worklist, storage)
    assert stage.waits() == 0
    clock.move(11)
    assert stage.waits() == 1
    with worklist.read() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    assert job.state is JobState.QUEUED
    assert job.fence > fence


def test_a_job_that_lost_its_last_worker_is_told(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    study_id = worklist_data.whole_study(worklist)
    job_id = worklist_data.make_job(worklist, study_id)
    hook = {"url": "http://127.0.0.1:9/", "events": ["job.failed"]}
    stage = sweep(worklist, storage, settings(notify={"ward": hook}))
    for _ in range(3):
        worklist_data.claim(worklist)
        clock.move(31)
        stage.waits()
        clock.move(31)
        stage.waits()
    with worklist.read() as tx:
        job = jobs.get(tx, job_id)
        told = notifications.of_study(tx, study_id)
    assert job is not None
    assert job.state is JobState.FAILED
    assert [(one.target, one.what, one.body["reason"]) for one in told] == [
        ("log", "job.failed", "failed.worker_lost"),
        ("ward", "job.failed", "failed.worker_lost"),
    ]


def test_a_held_job_is_queued_when_its_hours_begin(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    study_id = worklist_data.whole_study(worklist)
    job_id = worklist_data.make_job(
        worklist, study_id, state=JobState.HELD, due_at=clock.now_ms + 3_600_000
    )
    stage = sweep(worklist, storage)
    for seconds, state in ((3599, JobState.HELD), (1, JobState.QUEUED)):
        clock.move(seconds)
        stage.waits()
        with worklist.read() as tx:
            found = jobs.get(tx, job_id)
        assert found is not None
        assert found.state is state


def test_a_wait_for_a_series_ends_at_its_deadline(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    needs = Select(require=(Match(modality="CT"), Match(modality="PT")), deadline_s=60)
    install(worklist, match=Match(modality=["CT", "PT"]), select=needs)
    send(worklist, Series())
    study = study_of(worklist)
    with worklist.write() as tx:
        act = Act(now_ms=clock.now_ms)
        studies.complete(tx, study.id, seen_generation=study.generation, by="quiet", act=act)
    route, stage = Route(worklist, settings()), sweep(worklist, storage)
    assert route.step()
    assert stage.waits() == 0
    clock.move(61)
    assert stage.waits() == 1
    assert route.step()
    with worklist.read() as tx:
        (job,) = jobs.of_study(tx, study.id)
    assert job.state is JobState.DECLINED


def test_only_old_and_finished_studies_are_purged(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    old_id, old_file = kept_study(worklist, storage, "1.2.1")
    busy_id, busy_file = kept_study(worklist, storage, "1.2.2")
    worklist_data.make_job(worklist, busy_id)
    held_id, held_file = kept_study(worklist, storage, "1.2.3")
    with worklist.write() as tx:
        studies.hold(tx, held_id, True, Act(now_ms=clock.now_ms, actor="anna"))
    stage = sweep(worklist, storage, settings(retention={"images": "14d"}))
    clock.move(13 * DAY_S)
    assert stage.retention() == 0
    clock.move(2 * DAY_S)
    _, young_file = kept_study(worklist, storage, "1.2.4")
    assert stage.retention() == 1
    assert not old_file.exists()
    assert all(path.exists() for path in (busy_file, held_file, young_file))
    with worklist.read() as tx:
        purged = studies.get(tx, old_id)
    assert purged is not None
    assert purged.purged_at == clock.now_ms
    assert "study.purged" in codes(worklist)
    assert stage.retention() == 0


@pytest.mark.parametrize("state", [DeliveryState.QUEUED, DeliveryState.CONFIRMED])
def test_results_go_only_once_their_delivery_is_sure(
    worklist: Worklist, storage: Storage, clock: Clock, state: DeliveryState
) -> None:
    made = deliver_data.finished(worklist, storage)
    if state is DeliveryState.CONFIRMED:
        confirm(worklist, made.delivery_id)
    stage = sweep(worklist, storage, settings(retention={"results": "90d"}))
    clock.move(91 * DAY_S)
    stage.retention()
    assert made.files[ResultKind.SEG].exists() is (state is DeliveryState.QUEUED)


def confirm(worklist: Worklist, delivery_id: int) -> None:
    claimed = sending.claim_next(worklist, "pacs", owner="d", lease_ms=1000)
    assert claimed is not None
    now_ms = worklist.now()
    objects = [dataclasses.replace(e, stored_at=now_ms) for e in claimed.delivery.statuses]
    reason = Reason("delivery.confirmed", {"peer": "pacs", "n": len(objects)})
    sent = sending.DeliveryEnd(
        state=DeliveryState.SENT, reason=reason, objects=objects, confirm_at=now_ms
    )
    with worklist.write() as tx:
        sending.finish(tx, delivery_id, claimed.fence, sent, now_ms)
    asked = sending.claim_confirmation(worklist, "pacs", owner="d", lease_ms=1000)
    assert asked is not None
    end = dataclasses.replace(sent, state=DeliveryState.CONFIRMED)
    with worklist.write() as tx:
        sending.confirm(tx, delivery_id, asked.fence, end, now_ms)


class SmallDisk(Storage):
    """A storage folder on a disk with room for so many kept files."""

    room = 10

    def free(self) -> FreeSpace:
        used = sum(1 for _ in self.kept_names())
        return FreeSpace((self.room - used) * 1000, self.room * 1000)


def test_a_full_disk_is_freed_of_the_oldest_finished_studies(
    worklist: Worklist, tmp_path: Path, clock: Clock
) -> None:
    storage = SmallDisk.open(tmp_path / "small", worklist.node_id, adopt_empty=True)
    files = []
    for number in range(9):
        files.append(kept_study(worklist, storage, f"1.2.{number}")[1])
        clock.move(60)
    stage = sweep(worklist, storage, settings(retention={"free": "30%"}))
    stage.room()
    # A fifth more than the floor is kept free, so that the door never has to refuse.
    assert [path.exists() for path in files] == [False] * 3 + [True] * 6
    assert "node.disk_low" not in codes(worklist)


def test_a_disk_that_cannot_be_freed_is_told_once(
    worklist: Worklist, tmp_path: Path, clock: Clock
) -> None:
    storage = SmallDisk.open(tmp_path / "small", worklist.node_id, adopt_empty=True)
    for number in range(8):
        study_id, _ = kept_study(worklist, storage, f"1.2.{number}")
        worklist_data.make_job(worklist, study_id)
    stage = sweep(worklist, storage, settings(retention={"free": "19%"}))
    stage.room()
    stage.room()
    assert [code for code in codes(worklist) if code.startswith("node.")] == ["node.disk_low"]
    kept_study(worklist, storage, "1.2.99")
    with worklist.write() as tx:
        studies.hold(tx, study_id + 1, True, Act(now_ms=clock.now_ms))
    stage.room()
    assert "node.disk_full" in codes(worklist)


def test_results_that_nobody_owns_are_deleted_and_those_being_written_stay(
    worklist: Worklist, storage: Storage
) -> None:
    made = deliver_data.finished(worklist, storage, study="1.2.826.0.1.3680043.2.9")
    job_id = worklist_data.make_job(worklist, worklist_data.whole_study(worklist))
    claimed = worklist_data.claim(worklist)
    assert claimed.job.id == job_id
    writing = storage.result(storage.stage_result(job_id, claimed.fence, 1, b"writing"))
    lost = storage.result(storage.stage_result(job_id, claimed.fence - 1, 1, b"lost"))
    broken = storage.new_arrival()
    broken.write_bytes(b"half")
    long_ago = time.time() - 7200
    os.utime(broken, (long_ago, long_ago))

    assert sweep(worklist, storage).leftovers() == 2
    assert writing.exists()
    assert not lost.exists()
    assert not broken.exists()
    assert all(path.exists() for path in made.files.values())


@contextmanager
def answering(port: int) -> Iterator[None]:
    entity = AE("PACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", port), block=False)
    try:
        yield
    finally:
        server.shutdown()


def test_a_peer_that_stops_answering_and_one_that_comes_back_are_told_once(
    worklist: Worklist, storage: Storage
) -> None:
    port = dcmtk.free_port()
    stage = sweep(worklist, storage, deliver_data.peer_settings(port))
    with answering(port):
        assert stage.peers() == 0
    assert stage.peers() == 1
    assert stage.peers() == 1
    with worklist.read() as tx:
        assert peers.get(tx, "pacs").back_off == 1
    with answering(port):
        assert stage.peers() == 0
    with worklist.read() as tx:
        assert peers.get(tx, "pacs").echoed_at == worklist.now()
    about_peers = [code for code in codes(worklist) if code in ("delivery.peer_down", "peer.back")]
    assert about_peers == ["delivery.peer_down", "peer.back"]


def test_certificates_of_one_peer_that_are_gone_make_that_peer_unreachable(
    worklist: Worklist, storage: Storage, tmp_path: Path
) -> None:
    port = dcmtk.free_port()
    files = {"cert": tmp_path / "no.pem", "key": tmp_path / "no.key", "ca": tmp_path / "ca.pem"}
    with_tls = deliver_data.peer_settings(port, tls=files)
    plain = deliver_data.peer_settings(port)
    given = with_tls.model_copy(update={"peers": {**with_tls.peers, "spare": plain.peers["pacs"]}})
    assert Deliver(worklist, storage, given, "deliver-test").peers == ("pacs", "spare")
    with answering(port):
        assert sweep(worklist, storage, given).peers() == 1
    with worklist.read() as tx:
        down, up = peers.get(tx, "pacs"), peers.get(tx, "spare")
    assert down.reason is not None
    assert (
        down.reason.parameters["cause"]
        == f"{files['cert']} cannot be read (No such file or directory)"
    )
    assert not up.down


def test_a_process_that_fell_silent_is_written_down_once(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    new = processes.NewProcess(kind="work", name="work:cpu", host="h", pid=7, version="1")
    with worklist.write() as tx:
        processes.register(tx, new, clock.now_ms)
    stage = sweep(worklist, storage)
    assert stage.processes() == 0
    clock.move(61)
    assert stage.processes() == 1
    assert stage.processes() == 0
    assert codes(worklist) == ["node.process_down"]


def test_the_scheduler_runs_every_tick_and_ends_when_told(
    worklist: Worklist, storage: Storage, clock: Clock
) -> None:
    job_id = worklist_data.make_job(worklist, worklist_data.whole_study(worklist))
    worklist_data.claim(worklist)
    clock.move(11)
    stop = threading.Event()
    thread = threading.Thread(target=sweep(worklist, storage).run, args=(stop,))
    thread.start()
    dcmtk.wait_for(lambda: state_of(worklist, job_id) is JobState.QUEUED)
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()


def state_of(worklist: Worklist, job_id: int) -> Any:
    with worklist.read() as tx:
        job = jobs.get(tx, job_id)
    return None if job is None else job.state

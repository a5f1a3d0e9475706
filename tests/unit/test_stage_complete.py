"""When a study is whole, decided from rows, on both engines; a PACS of our own counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
)

from dicomnode.rules.states import StudyState
from dicomnode.stages.complete import Complete
from dicomnode.worklist import Worklist, associations, studies
from dicomnode.worklist.events import Act
from tests.dcmtk import free_port
from tests.postgres import Clock
from tests.stages_data import Series, send, settings, study_of

PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 4242, "counts": True, "timeout": "2s"}


@dataclass
class CountingPacs:
    """Says how many instances it has of any study; None: it does not know the study."""

    count: int | None = 0
    asked: list[str] = field(default_factory=list)

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier.StudyInstanceUID)
        if self.count is not None:
            match = Dataset()
            match.QueryRetrieveLevel = "STUDY"
            match.StudyInstanceUID = event.identifier.StudyInstanceUID
            match.NumberOfStudyRelatedInstances = str(self.count)
            yield 0xFF00, match


@contextmanager
def counting(pacs: CountingPacs) -> Iterator[dict[str, Any]]:
    """Run a PACS; give it as a peer of the settings."""
    entity = AE("PACS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, pacs.find)]
    )
    try:
        yield {"pacs": {**PACS, "port": port}}
    finally:
        server.shutdown()


def drive(stage: Complete) -> None:
    while stage.step():
        pass


def test_a_study_is_complete_when_nothing_came_for_the_quiet_time(
    worklist: Worklist, clock: Clock
) -> None:
    stage = Complete(worklist, settings(complete={"quiet": "60s"}))
    send(worklist, Series())
    drive(stage)
    waiting = study_of(worklist)
    assert waiting.reason is not None
    assert waiting.reason.code == "study.waiting_quiet"
    assert waiting.reason.parameters["until_at"] == clock.now_ms + 60_000

    clock.move(59)
    drive(stage)
    assert study_of(worklist).state is StudyState.RECEIVING
    clock.move(1)
    drive(stage)
    assert study_of(worklist).state is StudyState.COMPLETE
    assert study_of(worklist).completed_by == "quiet"
    assert not stage.step()


def test_an_image_between_look_and_close_keeps_the_study_open(
    worklist: Worklist, clock: Clock
) -> None:
    send(worklist, Series(slices=2))
    seen = study_of(worklist).generation
    send(worklist, Series(), numbers=[3])
    with worklist.write() as tx:
        act = Act(now_ms=clock.now_ms)
        closed = studies.complete(
            tx, study_of(worklist).id, seen_generation=seen, by="quiet", act=act
        )
    assert not closed


def test_an_open_association_keeps_a_study_open_until_the_limit(
    worklist: Worklist, clock: Clock
) -> None:
    stage = Complete(worklist, settings(complete={"quiet": "60s", "limit": "10min"}))
    with worklist.write() as tx:
        opened = associations.NewAssociation(
            peer="ct2", calling_ae_title="CT2", called_ae_title="DICOMNODE", address="10.0.0.2"
        )
        association_id = associations.open_one(tx, opened, clock.now_ms)
    send(worklist, Series(), association_id=association_id)
    drive(stage)
    clock.move(120)
    drive(stage)
    reason = study_of(worklist).reason
    assert reason is not None
    assert reason.code == "study.waiting_connection"
    clock.move(480)
    drive(stage)
    assert study_of(worklist).completed_by == "limit"


def test_a_study_that_trickles_is_cut_from_its_first_image_on(
    worklist: Worklist, clock: Clock
) -> None:
    stage = Complete(worklist, settings(complete={"quiet": "60s", "longest": "5min"}))
    for number in range(10):
        send(worklist, Series(), numbers=[number])
        drive(stage)
        clock.move(30)
    drive(stage)
    assert study_of(worklist).completed_by == "longest"


def test_the_pacs_count_reached_twice_completes_before_the_quiet_time(
    worklist: Worklist, clock: Clock
) -> None:
    pacs = CountingPacs(count=5)
    with counting(pacs) as peers:
        stage = Complete(worklist, settings(complete={"quiet": "10min"}, peers=peers))
        send(worklist, Series(slices=5))
        clock.move(6)
        drive(stage)
        assert study_of(worklist).expected_seen == 1
        clock.move(31)
        drive(stage)
    assert study_of(worklist).completed_by == "count"
    assert len(pacs.asked) == 2


def test_missing_images_are_waited_for_with_numbers_in_the_sentence(
    worklist: Worklist, clock: Clock
) -> None:
    with counting(CountingPacs(count=12)) as peers:
        stage = Complete(worklist, settings(complete={"quiet": "60s"}, peers=peers))
        send(worklist, Series(slices=5))
        clock.move(90)
        drive(stage)
    study = study_of(worklist)
    assert study.state is StudyState.RECEIVING
    assert study.reason is not None
    assert study.reason.code == "study.waiting_count"
    told = study.reason.parameters
    assert (told["missing"], told["expected"], told["peer"]) == (7, 12, "pacs")


def test_a_pacs_that_is_behind_does_not_cut_a_study(worklist: Worklist, clock: Clock) -> None:
    with counting(CountingPacs(count=3)) as peers:
        stage = Complete(worklist, settings(complete={"quiet": "10min"}, peers=peers))
        send(worklist, Series(slices=5))
        for _ in range(4):
            clock.move(31)
            drive(stage)
    study = study_of(worklist)
    assert study.state is StudyState.RECEIVING
    assert study.expected_reason == "it has fewer than came here"


@pytest.mark.parametrize("count", [None, "down"])
def test_without_a_count_the_quiet_time_decides(
    worklist: Worklist, clock: Clock, count: str | None
) -> None:
    with counting(CountingPacs(count=None)) as peers:
        if count == "down":
            peers["pacs"]["port"] = free_port()
        stage = Complete(worklist, settings(complete={"quiet": "60s"}, peers=peers))
        send(worklist, Series())
        clock.move(10)
        drive(stage)
        reason = study_of(worklist).reason
        assert reason is not None
        assert reason.code == "study.count_unknown"
        clock.move(50)
        drive(stage)
    assert study_of(worklist).completed_by == "quiet"


def test_the_loop_wakes_for_an_image_and_stops_when_told(worklist: Worklist, clock: Clock) -> None:
    stage, stop = Complete(worklist, settings(complete={"quiet": "1s"})), threading.Event()
    thread = threading.Thread(target=stage.run, args=(stop,))
    thread.start()
    send(worklist, Series())
    clock.move(2)
    done = threading.Event()
    for _ in range(200):
        if study_of(worklist).state is StudyState.COMPLETE:
            done.set()
            break
        stop.wait(0.05)
    stop.set()
    worklist.ring()
    thread.join(timeout=10)
    assert done.is_set()
    assert not thread.is_alive()

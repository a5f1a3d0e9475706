"""Faults of pipelines, peers, database and disk: each is told in words, and the rest goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import DeliveryState, JobState
from dicomnode.worklist import story
from tests import dcmtk
from tests.crash.bench import Bench, Study, running_bench
from tests.crash.holds import injected, locked
from tests.dcmtk import storescp

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def told(bench: Bench, study: Study) -> str:
    """What an admin reads of a study."""
    row = bench.node.study(study.study_instance_uid)
    assert row is not None
    with bench.node.worklist.read() as tx:
        found = story.of_study(tx, row.id, bench.node.worklist.now())
    assert found is not None
    return " ".join(map(bench.node.words, found.reasons))


def ended(bench: Bench, study: Study) -> Reason:
    """Take the newest job of a study to its end, waits left out; give its reason."""
    number = study.study_instance_uid

    def is_final() -> bool:
        found = bench.node.jobs(number)
        if found and found[-1].state is JobState.HELD:
            bench.node.let_time_pass(found[-1].id)
        return bool(found) and found[-1].state in (JobState.FAILED, JobState.DECLINED)

    bench.node.wait(is_final, 120.0, "the end of a job")
    reason = bench.node.jobs(number)[-1].reason
    assert reason is not None
    return reason


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node that gives a pipeline little time and little memory."""
    sections = {"analyse": {"time_limit": "15s", "memory": "2GB"}}
    with running_bench(tmp_path_factory.mktemp("strict"), sections) as made:
        yield made


@pytest.mark.parametrize(
    ("pipeline", "code", "words"),
    [
        ("toy-raises", "failed.error", "ZeroDivisionError"),
        ("toy-hangs", "failed.time_limit", "15 s"),
        ("toy-eats-memory", "failed.memory", "memory"),
        ("toy-dies", "failed.killed", "killed"),
        ("toy-declines", "declined.pipeline", "the legs are missing"),
    ],
)
def test_a_pipeline_that_goes_wrong_is_told_and_others_go_on(
    strict: Bench, pipeline: str, code: str, words: str
) -> None:
    bad = strict.study(f"fault {pipeline}", pipeline)
    good = strict.study(f"beside {pipeline}")
    strict.send_all([*bad.files, *good.files])
    assert ended(strict, bad).code == code
    strict.node.wait_settled(good.study_instance_uid)
    (job,) = strict.node.jobs(good.study_instance_uid)
    assert job.state is JobState.DONE
    sentence = told(strict, bad)
    assert words in sentence
    assert "{" not in sentence
    assert strict.pacs.instances(bad.study_instance_uid) == {}
    strict.check()


def test_a_peer_that_is_down_uses_up_no_try_and_gets_all_once_it_is_back(bench: Bench) -> None:
    study = bench.study("peer down")
    number = study.study_instance_uid
    bench.pacs.stop()
    try:
        bench.send_all(study.files)
        bench.node.wait(lambda: "does not answer" in told_if_any(bench, study), 60.0, "a peer down")
        (delivery,) = bench.node.deliveries(number)
        assert (delivery.state, delivery.begun) == (DeliveryState.QUEUED, False)
    finally:
        bench.pacs.start()
    bench.node.wait(lambda: len(bench.pacs.instances(number)) == 2, 60.0, "both objects")
    bench.node.wait_settled(number)
    (delivery,) = bench.node.deliveries(number)
    assert delivery.tries <= 1
    bench.check()


def told_if_any(bench: Bench, study: Study) -> str:
    return told(bench, study) if bench.node.study(study.study_instance_uid) else ""


def test_a_peer_that_answers_late_gets_each_object_once(bench: Bench) -> None:
    study = bench.study("peer slow")
    number = study.study_instance_uid
    bench.pacs.freeze()
    try:
        bench.send_all(study.files)
        bench.node.wait(
            lambda: [one.state for one in bench.node.deliveries(number)] == [DeliveryState.SENDING],
            60.0,
            "a delivery on its way",
        )
        other = bench.study("beside peer slow")
        bench.send_all(other.files)
        bench.node.wait_job(other.study_instance_uid, JobState.DONE)
    finally:
        bench.pacs.thaw()
    bench.node.wait_settled(number)
    bench.node.wait_settled(other.study_instance_uid)
    assert len(bench.pacs.instances(number)) == 2
    bench.check()


BAD_PEERS = {
    "refusing": ("--refuse",),
    "aborting": ("--abort-after",),
    "slow": ("--sleep-during", "30"),
}


def test_peers_that_refuse_abort_and_sleep_are_told_and_hold_up_nobody(
    bench: Bench, tmp_path: Path
) -> None:
    node, before = bench.node, bench.node.sections
    study = bench.study("peers that refuse")
    number = study.study_instance_uid
    peers = dict(before["peers"])
    with ExitStack() as running:
        for name, options in BAD_PEERS.items():
            port, _ = running.enter_context(storescp(tmp_path / name, *options))
            peer = {"ae_title": name.upper(), "host": "127.0.0.1", "port": port, "sends_to": True}
            peers[name] = {**peer, "confirm": "none", "timeout": "2s"}
        try:
            reconfigured(bench, {**before, "peers": peers})
            bench.send_all(study.files)
            node.wait(lambda: len(bench.pacs.instances(number)) == 2, 90.0, "the good peer's set")
            for name in BAD_PEERS:
                node.wait(lambda name=name: complaint(bench, study, name), 60.0, f"words of {name}")
            assert "refuse" in complaint(bench, study, "refusing")
            assert "2 s" in complaint(bench, study, "slow")
        finally:
            reconfigured(bench, before)

    node.wait(lambda: node.is_settled(number), 60.0, "the end of the removed peers' deliveries")
    removed = [one for one in node.deliveries(number) if one.peer in BAD_PEERS]
    assert {one.reason.code for one in removed if one.reason} == {"delivery.peer_removed"}
    bench.check()


def complaint(bench: Bench, study: Study, peer: str) -> str:
    """What is said of a delivery to a peer that was tried."""
    found = bench.node.deliveries(study.study_instance_uid)
    for one in found:
        if one.peer == peer and one.fence and one.reason and one.state is DeliveryState.QUEUED:
            words = bench.node.words(one.reason)
            assert peer in words
            return words
    return ""


def reconfigured(bench: Bench, sections: dict[str, object]) -> None:
    """Have the running node take another configuration."""
    before = bench.node.pid("deliver")
    bench.node.configure(sections)
    bench.node.reload()
    bench.node.wait(lambda: bench.node.pid("deliver") != before, 60.0, "a new deliver")
    bench.node.wait_up()


def test_a_database_that_is_locked_for_seconds_loses_nothing(bench: Bench) -> None:
    study = bench.study("locked", slices=6)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(bench.node.worklist):
            held.set()
            done.wait(4.0)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(20)
        bench.send(study.files)
    finally:
        done.set()
        thread.join()
    bench.send_all(study.files)
    bench.node.wait_settled(study.study_instance_uid)
    bench.check()


def test_a_full_disk_is_answered_and_loses_nothing(bench: Bench) -> None:
    study = bench.study("disk full", slices=5)
    fault = "error=ENOSPC:when=3+"
    with injected(bench.node, "receive", "fsync,fdatasync,rename", fault):
        said = dcmtk.send(bench.node.port, study.files, "--no-halt", program_name="storescu")
        text = said.stdout + said.stderr
    assert "0xa700" in text.lower() or "OutOfResources" in text or "Refused" in text, text
    assert text.count("(Success)") < len(study.files)
    bench.send_all(study.files)
    bench.node.wait_settled(study.study_instance_uid)
    (job,) = bench.node.jobs(study.study_instance_uid)
    assert job.input_count == len(study.files)
    bench.check()

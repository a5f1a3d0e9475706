"""The command line against a node that runs: what it tells, and what it does to studies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset

from dicomnode.rules.states import DeliveryState, JobState, Outcome
from dicomnode.worklist import events, jobs, peers, pipelines, quarantine
from dicomnode.worklist.jobs import Job
from tests import dcmtk
from tests.data import Patient, ct_series, mr_series, save_all, uid
from tests.node import REPOSITORY, TOYS, Node, running_node
from tests.raw_sender import connected, raw_of, send

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SUCCESS = 0x0000
FINE, FAILED, WRONG_USE, NOT_REACHABLE = 0, 1, 2, 3
MRI = {"ae_title": "MRI", "receives_from": True}


@dataclass(frozen=True)
class Answer:
    """What a command said: its exit status, its document, and what stood on standard error."""

    status: int
    document: Mapping[str, Any]
    errors: str

    @property
    def items(self) -> list[dict[str, Any]]:
        return list(self.document["items"])

    @property
    def sentences(self) -> list[str]:
        """Why it was not done."""
        return list(self.document["error"]["sentences"])


@dataclass(frozen=True)
class Bench:
    """A node, the folder of the PACS behind it, and the command line on both."""

    node: Node
    pacs: Path
    pacs_port: int

    def command(self, *arguments: str | int) -> Answer:
        """Run ``dicomnode`` with --json."""
        options = ("--json", "--config", str(self.node.configuration))
        ended = subprocess.run(
            [sys.executable, "-m", "dicomnode", *map(str, arguments), *options],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{TOYS}{os.pathsep}{REPOSITORY}"},
        )
        document = json.loads(ended.stdout) if ended.stdout.strip() else {}
        return Answer(ended.returncode, document, ended.stderr)

    def fine(self, *arguments: str | int) -> list[dict[str, Any]]:
        """Run a command that must succeed, and give its items."""
        answer = self.command(*arguments)
        assert answer.status == FINE, (answer.document, answer.errors)
        return answer.items

    def finished(self, study: str) -> str:
        """Have a small study analysed and delivered; gives its UID."""
        images = toy_images(study, patient=PATIENT)
        assert send(self.node.port, images) == [SUCCESS] * 3
        self.node.wait_settled(uid(study))
        return uid(study)

    def show(self, study: str) -> Mapping[str, Any]:
        """Everything that ``worklist show`` tells of a study."""
        answer = self.command("worklist", "show", study)
        assert answer.status == FINE
        return answer.document


PATIENT = Patient("P-1", "Phantom^Commands")


def toy_images(study: str, **how: Any) -> list[FileDataset]:
    """A small study that the pipeline ``toy-ok`` takes."""
    given = {"slices": 3, "rows": 32, "description": "toy-ok", **how}
    return ct_series(study=study, series=study, **given)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("commands")
    with (
        dcmtk.storescp(folder / "pacs") as (port, _),
        running_node(Node(folder / "node", {}), sections(port)) as node,
    ):
        yield Bench(node, folder / "pacs", port)


def sections(pacs_port: int, **more: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the TOML beside the tests' own; ``more`` are peers."""
    pacs = {
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": pacs_port,
        "sends_to": True,
        "confirm": "none",
    }
    return {"peers": {"pacs": pacs, **more}}


def test_check_proves_everything_that_the_node_stands_on(bench: Bench) -> None:
    lines = {line["name"]: line for line in bench.fine("check")}
    assert lines["receiver"]["sentence"].startswith("this node listens on port")
    assert lines["worklist"]["ok"] == "yes"
    assert lines["peer pacs"]["ok"] == "yes"
    assert lines["peer pacs"]["sentence"].endswith("takes SEG, SR")
    assert lines["toy-ok"]["ok"] == "yes"
    assert {line["ok"] for line in lines.values()} <= {"yes", "warn"}


def test_a_finished_study_is_listed_and_shown_with_its_job_and_delivery(bench: Bench) -> None:
    study = bench.finished("listed")
    (item,) = [
        one
        for one in bench.fine("worklist", "list", "--state", "done")
        if one["study_instance_uid"] == study
    ]
    assert item["outcome"] == "done"
    assert item["images"] == {"received": 3, "expected": None}
    assert item["patient"] == {"name": "Phantom^Commands", "id": "P-1"}
    assert [job["state"] for job in item["jobs"]] == ["done"]
    shown = bench.show(study)
    (job,) = shown["jobs"]
    assert (job["pipeline"], job["segments"]) == ("toy-ok", 1)
    assert {result["kind"] for result in job["results"]} == {"SEG", "SR"}
    assert all(result["checks"]["passed"] > 0 for result in job["results"])
    (delivery,) = shown["deliveries"]
    assert (delivery["peer"], delivery["state"]) == ("pacs", "sent")
    assert {one["status"] for one in delivery["objects"]} == {"0000"}
    assert {"reprocess", "resend", "delete"} <= set(shown["reason"]["can"])
    unnamed = bench.command("worklist", "show", study, "--no-names").document
    assert "patient" not in unnamed


def test_a_study_that_is_not_there_is_wrong_use(bench: Bench) -> None:
    answer = bench.command("worklist", "show", "987654321")
    assert answer.status == WRONG_USE
    assert answer.sentences == ["There is no study 987654321."]


def test_route_explain_tells_each_rule_and_the_value_that_decided(
    bench: Bench, tmp_path: Path
) -> None:
    folder = save_all(mr_series(slices=2, study="explained"), tmp_path / "mr")[0].parent
    of_files = {one["pipeline"]: one for one in bench.fine("route", "explain", str(folder))}
    (condition,) = [one for one in of_files["toy-ok"]["conditions"] if one["keyword"] == "Modality"]
    assert (condition["found"], condition["ok"]) == (["MR"], False) or condition["found"] == "MR"
    assert not of_files["toy-ok"]["runs"]
    study = bench.finished("routed")
    of_study = {one["pipeline"]: one for one in bench.fine("route", "explain", study)}
    assert set(of_study) == set(of_files)
    assert of_study["toy-ok"]["images"] == 3
    assert all(one["ok"] for one in of_study["toy-ok"]["conditions"])
    assert not of_study["toy-second"]["runs"]


def test_what_was_set_aside_is_released_or_deleted(bench: Bench) -> None:
    study = bench.finished("shared")
    stranger = Patient("P-2", "Somebody^Else")
    strange = ct_series(
        study="shared", series="other", slices=2, rows=32, description="none", patient=stranger
    )
    assert send(bench.node.port, strange) == [SUCCESS] * 2
    listed = bench.fine("quarantine", "list", "--why", "quarantine.identity_conflict")
    assert len(listed) == 2
    first, second = (one["id"] for one in listed)
    assert listed[0]["reason"]["sentence"].startswith("Same number, other patient")
    shown = bench.command("quarantine", "show", first).document
    assert shown["patient"] == {"name": "Somebody^Else", "id": "P-2"}
    refused = bench.command("quarantine", "delete", first)
    assert refused.status == WRONG_USE
    assert "--yes" in refused.sentences[0]
    assert bench.fine("quarantine", "delete", first, "--yes")[0]["done"]
    (released,) = bench.fine("quarantine", "release", second, "--why", "proved by hand", "--yes")
    assert released["done"]
    assert released["sentence"].startswith("Released into study ")
    bench.node.wait_settled(study)
    held = bench.node.study(study)
    assert held is not None
    assert held.image_count == 4
    again = bench.command("quarantine", "release", second, "--why", "again", "--yes")
    assert (again.status, again.sentences) == (FAILED, ["It was released before."])
    with bench.node.worklist.read() as tx:
        gone = quarantine.get(tx, first)
    assert gone is not None
    assert gone.state == "deleted"
    assert gone.path is not None
    assert not bench.node.storage.kept(gone.path).exists()


def test_a_study_is_completed_by_hand_while_its_sender_is_still_connected(bench: Bench) -> None:
    images = toy_images("open")
    raws = [raw_of(image) for image in images]
    with connected(bench.node.port, raws) as store:
        assert [store(raw) for raw in raws] == [SUCCESS] * 3
        assert bench.show(uid("open"))["state"] == "receiving"
        (done,) = bench.fine("worklist", "complete", uid("open"), "--yes")
        assert done["sentence"] == "The study is complete now."
        bench.node.wait_settled(uid("open"))
    shown = bench.show(uid("open"))
    assert (shown["completed_by"], shown["outcome"]) == ("hand", "done")
    refused = bench.command("worklist", "complete", uid("open"), "--yes")
    assert (refused.status, refused.sentences) == (FAILED, ["The study is complete already."])


def test_a_study_is_processed_once_more_and_the_report_before_is_superseded(bench: Bench) -> None:
    study = bench.finished("again")
    (done,) = bench.fine("worklist", "reprocess", study, "--why", "new cushion", "--yes")
    assert done["sentence"].startswith("reprocess: toy-ok (job ")
    bench.node.wait(lambda: len(bench.node.jobs(study)) == 2, what="a second job")
    bench.node.wait_settled(study)
    first, second = bench.node.jobs(study)
    assert (first.state, second.state) == (JobState.SUPERSEDED, JobState.DONE)
    story = bench.command("worklist", "show", study, "--events").document["events"]
    assert "study.reprocessed" in {event["what"] for event in story}


def test_results_are_sent_again(bench: Bench) -> None:
    study = bench.finished("resent")
    (held,) = bench.show(study)["deliveries"]
    names = [one["sop_instance_uid"] for one in held["objects"]]
    files = [path for name in names for path in bench.pacs.glob(f"*{name}")]
    assert len(files) == len(names) == 2
    for path in files:
        path.unlink()
    nothing = bench.command("worklist", "resend", study)
    assert nothing.status == FAILED
    assert nothing.items[0]["sentence"].startswith("Nothing is missing there; --all sends")
    (done,) = bench.fine("worklist", "resend", study, "--all")
    assert done["sentence"] == "resend: to pacs"
    bench.node.wait(
        lambda: all(any(bench.pacs.glob(f"*{name}")) for name in names), what="both objects again"
    )
    bench.node.wait_settled(study)


def test_an_urgent_study_overtakes(bench: Bench) -> None:
    gate = bench.node.gate
    gate.touch()
    try:
        waiting = []
        for word in ("first", "second", "third"):
            images = toy_images(f"queue {word}")
            assert send(bench.node.port, images) == [SUCCESS] * 3
            states = JobState.RUNNING if word == "first" else JobState.QUEUED
            bench.node.wait_job(uid(f"queue {word}"), states)
            waiting.append(uid(f"queue {word}"))
        (done,) = bench.fine("worklist", "priority", waiting[2], "urgent")
        assert done["sentence"] == "The study is urgent now."
    finally:
        gate.unlink()
    for study in waiting:
        bench.node.wait_settled(study)
    ends = [newest(bench, study).finished_at or 0 for study in waiting]
    assert ends[0] < ends[2] < ends[1]


def newest(bench: Bench, study: str) -> Job:
    return bench.node.jobs(study)[-1]


def test_a_deleted_study_leaves_nothing_here(bench: Bench) -> None:
    study = bench.finished("deleted")
    row = bench.node.study(study)
    assert row is not None
    kept_before = set(bench.node.storage.kept_names())
    refused = bench.command("worklist", "delete", study)
    assert refused.status == WRONG_USE
    assert refused.sentences == [
        "Delete 3 images and 2 results here? There is no undo. Answer with --yes."
    ]
    (done,) = bench.fine("worklist", "delete", study, "--yes")
    assert done["sentence"] == "Deleted 3 images, 2 results."
    assert bench.node.study(study) is None
    assert len(kept_before - set(bench.node.storage.kept_names())) == 3


def test_a_suspended_peer_gets_nothing_until_it_is_resumed(bench: Bench) -> None:
    (answer,) = bench.fine("peer", "echo", "pacs")
    assert answer["answers"]
    (suspended,) = bench.fine("peer", "suspend", "pacs")
    assert suspended["suspended"]
    images = toy_images("held")
    try:
        assert send(bench.node.port, images) == [SUCCESS] * 3
        bench.node.wait_job(uid("held"), JobState.DONE)
        (delivery,) = bench.show(uid("held"))["deliveries"]
        assert (delivery["state"], delivery["reason"]["code"]) == (
            "queued",
            "delivery.suspended",
        )
        assert "pacs" in delivery["reason"]["sentence"]
    finally:
        (resumed,) = bench.fine("peer", "resume", "pacs")
    assert not resumed["suspended"]
    bench.node.wait_settled(uid("held"))
    (sent,) = bench.node.deliveries(uid("held"))
    assert sent.state is DeliveryState.SENT
    with bench.node.worklist.read() as tx:
        assert peers.get(tx, "pacs").echoed_at


def test_a_peer_that_is_not_there_is_told_by_its_own_exit_status(bench: Bench) -> None:
    unknown = bench.command("peer", "echo", "nobody")
    assert unknown.status == WRONG_USE
    assert unknown.sentences == ["No peer is called nobody; there are: scanner, other, pacs."]


def test_a_suspended_pipeline_waits(bench: Bench) -> None:
    (suspended,) = bench.fine("pipeline", "suspend", "toy-ok")
    assert suspended["suspended"]
    images = toy_images("paused")
    try:
        assert send(bench.node.port, images) == [SUCCESS] * 3
        bench.node.wait(lambda: bench.node.jobs(uid("paused")), what="a job that waits")
        (job,) = bench.show(uid("paused"))["jobs"]
        assert job["state"] in ("held", "queued")
        assert job["reason"]["code"] == "job.suspended"
        assert job["reason"]["sentence"].startswith("toy-ok is suspended")
    finally:
        bench.fine("pipeline", "resume", "toy-ok")
    bench.node.wait_settled(uid("paused"))
    assert newest(bench, uid("paused")).state is JobState.DONE
    with bench.node.worklist.read() as tx:
        (toy,) = [one for one in pipelines.all_of(tx) if one.name == "toy-ok"]
    assert not toy.suspended


def test_a_reload_lets_a_new_peer_in_while_an_open_association_lives_on(bench: Bench) -> None:
    images = toy_images("reload", slices=4)
    raws = [raw_of(image) for image in images]
    with connected(bench.node.port, raws, "MRI") as store:
        assert store(raws[0]) is None
    receiver = bench.node.pid("receive")
    with connected(bench.node.port, raws) as store:
        assert store(raws[0]) == SUCCESS
        bench.node.configure(sections(bench.pacs_port, mri=MRI))
        (done,) = bench.fine("reload")
        assert done["reloaded"]

        def admitted() -> bool:
            with connected(bench.node.port, raws, "MRI") as other:
                return other(raws[1]) == SUCCESS

        bench.node.wait(admitted, what="the new peer's admission")
        assert store(raws[2]) == SUCCESS
    bench.node.wait_up()
    assert bench.node.pid("receive") == receiver
    assert send(bench.node.port, images[3:]) == [SUCCESS]
    bench.node.wait_settled(uid("reload"))
    study = bench.node.study(uid("reload"))
    assert study is not None
    assert (study.image_count, study.outcome) == (4, Outcome.DONE)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("[listen]\nprot = 1\n", "listen.prot is not a key; did you mean 'port'?"),
        ('[peers.x]\nae_title = "X"\nsends_to = true\n', "sends_to and counts need host and port"),
        ("[listen\n", "not TOML"),
    ],
)
def test_a_broken_file_changes_nothing_and_is_told(bench: Bench, broken: str, words: str) -> None:
    whole = bench.node.configuration.read_text(encoding="utf-8")
    pids = {kind: bench.node.pid(kind) for kind in ("serve", "receive", "dispatch")}
    with bench.node.worklist.read() as tx:
        before = events.newest(tx)
    try:
        bench.node.configuration.write_text(broken, encoding="utf-8")
        answer = bench.command("reload")
        assert answer.status == WRONG_USE
        assert any(words in sentence for sentence in answer.sentences)
        assert any(words in line for line in answer.errors.splitlines())
        os.kill(pids["serve"], signal.SIGHUP)

        def refused() -> bool:
            with bench.node.worklist.read() as tx:
                return any(one.what == "node.reload_refused" for one in events.after(tx, before))

        bench.node.wait(refused, what="the node's own refusal")
    finally:
        bench.node.configuration.write_text(whole, encoding="utf-8")
    with bench.node.worklist.read() as tx:
        (event,) = [one for one in events.after(tx, before) if one.what == "node.reload_refused"]
    assert "settings" in bench.node.words(event.reason)
    assert {kind: bench.node.pid(kind) for kind in pids} == pids
    assert words in bench.node.log.read_text(errors="replace").replace("\\'", "'")
    bench.finished(f"after a broken file, {words}")


def test_a_backup_of_the_running_node_holds_its_studies(bench: Bench, tmp_path: Path) -> None:
    study = bench.finished("backed up")
    file = tmp_path / "backup.db"
    (done,) = bench.fine("db", "backup", str(file))
    assert done["byte_count"] == file.stat().st_size
    with closing(sqlite3.connect(file)) as copy:
        rows = copy.execute("SELECT outcome FROM studies WHERE study_instance_uid = ?", (study,))
        assert rows.fetchall() == [("done",)]
    again = bench.command("db", "backup", str(file))
    assert again.status == FAILED
    assert again.sentences == [f"{file} is there already; nothing was written."]


def test_a_drained_node_gives_its_job_back_and_ends_it_after_the_restart(bench: Bench) -> None:
    node = bench.node
    node.gate.touch()
    images = toy_images("drained")
    try:
        assert send(node.port, images) == [SUCCESS] * 3
        before = node.wait_job(uid("drained"), JobState.RUNNING)
        assert node.stop() == 0
        (given_back,) = node.jobs(uid("drained"))
        assert given_back.state is JobState.QUEUED
        assert given_back.id == before.id
        assert (given_back.lease_owner, given_back.tries) == (None, 0)
        assert "job_given_back" in node.log.read_text(errors="replace")
        stopped = bench.command("reload")
        assert stopped.status == NOT_REACHABLE
        assert stopped.sentences == ["No dicomnode serve runs on this machine."]
        assert bench.command("health").status == FAILED
    finally:
        node.gate.unlink()
    node.start()
    node.wait_up()
    node.wait_settled(uid("drained"))
    (ended,) = node.jobs(uid("drained"))
    assert ended.state is JobState.DONE
    with node.worklist.read() as tx:
        assert jobs.get(tx, ended.id) == ended
    assert all(item["state"] == "up" for item in bench.fine("health"))

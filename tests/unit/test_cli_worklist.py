"""The commands over studies, on a real worklist that the rooms' own functions filled."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from dicomnode.cli.output import Column, Output
from dicomnode.cli.words import (
    person_name,
)
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import JobState
from dicomnode.storage import Storage
from dicomnode.worklist import events, jobs, quarantine, retention, studies
from dicomnode.worklist.quarantine import NewQuarantine
from dicomnode.worklist.schema import events as event_rows
from tests.cli_data import Node, failed_job, free_port, make_node
from tests.worklist_data import (
    act,
    arrival,
    done_job,
    make_job,
    take,
    whole_study,
)

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return make_node(tmp_path, free_port(), free_port())


def test_an_empty_worklist_says_where_to_send(node: Node) -> None:
    with node.worklist():
        pass
    called = node.call("worklist", "list")
    assert called.exit_code == 0
    assert "Nothing received yet. Send a study to TESTNODE at 127.0.0.1:" in called.stdout


def test_a_worklist_that_was_never_made_is_not_made_by_looking(node: Node) -> None:
    called = node.call("worklist", "list")
    assert called.exit_code == 1
    assert "There is no worklist" in called.stderr
    assert not node.database.exists()


def test_the_list_tells_state_patient_images_and_why(node: Node) -> None:
    failed_job(node)
    said = node.call("worklist", "list").stdout
    for part in ("needs attention", "Test, Anna", "P-0017", "CT", "A1002", "ct2", "15 min"):
        assert part in said
    assert "1 open study" in said


def test_no_names_hides_who_the_patient_is(node: Node) -> None:
    study_id = failed_job(node)
    for arguments in (("list",), ("show", str(study_id))):
        for form in ((), ("--json",)):
            called = node.call("worklist", *arguments, "--no-names", *form)
            assert called.exit_code == 0
            for secret in ("Anna", "P-0017", "A1002"):
                assert secret not in called.stdout


def test_the_json_of_a_study_has_the_agreed_shape(node: Node) -> None:
    study_id = failed_job(node)
    document = node.json("worklist", "list", "--state", "attention")
    assert document["version"] == 1
    assert document["at"].endswith("Z")
    assert document["next"] is None
    (study,) = document["items"]
    assert study["id"] == study_id
    assert study["outcome"] == "needs attention"
    assert study["images"] == {"received": 3, "expected": None}
    assert study["patient"] == {"name": "Test^Anna", "id": "P-0017"}
    assert study["reason"]["code"] == "failed.time_limit"
    assert "{" not in study["reason"]["sentence"]
    assert "retry" in study["reason"]["can"]
    (job,) = study["jobs"]
    assert job["state"] == "failed"
    assert job["attempts"][0]["n"] == 1
    assert job["attempts"][0]["start"].endswith("Z")


def test_a_delivery_tells_each_object(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
        done_job(worklist, study_id)
    study = node.json("worklist", "show", str(study_id))
    (delivery,) = study["deliveries"]
    assert delivery["peer"] == "pacs"
    assert [one["status"] for one in delivery["objects"]] == [None, None]
    assert study["jobs"][0]["results"][0]["checks"] == {"passed": 62, "failed": 0}
    said = node.call("worklist", "show", "1.2.3", "--events").stdout
    assert "lung-nodule 1.0.0" in said
    assert "pacs" in said


def test_an_unknown_study_is_wrong_use(node: Node) -> None:
    with node.worklist():
        pass
    called = node.call("worklist", "show", "77")
    assert called.exit_code == 2
    assert "There is no study 77." in called.stderr


def test_pages_follow_each_other_without_a_study_twice(node: Node) -> None:
    with node.worklist() as worklist:
        for number in range(5):
            whole_study(worklist, 1, study=f"1.2.{number + 10}")
    first = node.json("worklist", "list", "--limit", "3", "--state", "all")
    second = node.json(
        "worklist", "list", "--limit", "3", "--state", "all", "--after", first["next"]
    )
    seen = [study["id"] for page in (first, second) for study in page["items"]]
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert second["next"] is None


@pytest.mark.parametrize("typed", ["test", "P-0017", "A1002", "1.2.3", "1"])
def test_a_search_finds_name_id_accession_uid_and_number(node: Node, typed: str) -> None:
    study_id = failed_job(node)
    items = node.json("worklist", "list", "--search", typed)["items"]
    assert [study["id"] for study in items] == [study_id]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--since", "soon", "--since soon: give a number"),
        ("--state", "lost", "give one of receiving"),
        ("--after", "x", "--after takes what a page gave"),
    ],
)
def test_a_wrong_filter_is_wrong_use(node: Node, option: str, value: str, told: str) -> None:
    with node.worklist():
        pass
    called = node.call("worklist", "list", option, value)
    assert called.exit_code == 2
    assert told in called.stderr


@pytest.mark.parametrize("name", ["\x1b[31mEvil^Anna", "[red]Test", "[/x]", "a\rb\nc", "山田^太郎"])
def test_hostile_names_do_not_reach_the_terminal(node: Node, name: str) -> None:
    with node.worklist() as worklist:
        take(worklist, arrival(1, patient_name=name))
    for arguments in (("list",), ("show", "1")):
        called = node.call("worklist", *arguments)
        assert called.exit_code == 0, called.exception
        assert "\x1b" not in called.stdout
        assert "\r" not in called.stdout
    if name.startswith("["):
        assert name in called.stdout


def test_names_are_told_as_people_write_them() -> None:
    assert person_name("Test^Anna^Maria") == "Test, Anna Maria"
    assert person_name("Yamada^Tarou=山田^太郎") == "山田, 太郎 = Yamada, Tarou"
    assert person_name("") == ""


def test_retry_queues_a_failed_job_and_says_who_did_it(node: Node) -> None:
    study_id = failed_job(node)
    answer = node.json("worklist", "retry", str(study_id), "--pipeline", "lung-nodule")
    assert answer["items"][0]["done"] is True
    with node.worklist() as worklist, worklist.read() as tx:
        (job,) = jobs.of_study(tx, study_id)
        actors = {row.actor for row in tx.execute(select(event_rows)) if row.what == "job.retried"}
    assert job.state is JobState.QUEUED
    assert actors == {ME}


def test_a_refused_action_says_its_sentence_and_fails(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
        done_job(worklist, study_id)
    called = node.call("worklist", "retry", str(study_id))
    assert called.exit_code == 1
    assert "The job is done; retry is for jobs that are" in called.stdout
    called = node.call("worklist", "complete", str(study_id), "--yes")
    assert called.exit_code == 1
    assert "The study is complete already." in called.stderr


def test_cancel_then_priority_act_on_what_waits(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
        make_job(worklist, study_id)
    assert node.call("worklist", "priority", str(study_id), "urgent").exit_code == 0
    assert node.call("worklist", "cancel", str(study_id)).exit_code == 0
    with node.worklist() as worklist, worklist.read() as tx:
        (job,) = jobs.of_study(tx, study_id)
    assert (job.state, job.priority) == (JobState.CANCELLED, 0)


def test_complete_asks_and_a_no_changes_nothing(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = take(worklist, arrival(1))[0].study_id
    refused = node.call("worklist", "complete", str(study_id), typed="n\n")
    assert refused.exit_code == 1
    assert "Start with 1 images?" in refused.output or "Start with 1 image?" in refused.output
    assert node.call("worklist", "complete", str(study_id), typed="y\n").exit_code == 0
    assert node.json("worklist", "show", str(study_id))["completed_by"] == "hand"


def test_a_script_is_not_asked_but_told_to_say_yes(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = take(worklist, arrival(1))[0].study_id
    document = node.json("worklist", "complete", str(study_id), exit_code=2)
    assert "--yes" in document["error"]["sentences"][0]


def test_reprocess_wants_a_why_and_makes_a_new_job(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
        done_job(worklist, study_id)
    assert node.call("worklist", "reprocess", str(study_id), "--yes").exit_code == 2
    called = node.call("worklist", "reprocess", str(study_id), "--yes", "--why", "new threshold")
    assert called.exit_code == 0, called.output
    with node.worklist() as worklist, worklist.read() as tx:
        states = [job.state for job in jobs.of_study(tx, study_id)]
    assert states == [JobState.SUPERSEDED, JobState.QUEUED]


def test_delete_wants_the_count_and_deletes_files_and_rows(node: Node) -> None:
    study_id, path = _finished_study_with_file(node)
    wrong = node.call("worklist", "delete", str(study_id), typed="7\n")
    assert wrong.exit_code == 1
    assert path.exists()
    assert node.call("worklist", "delete", str(study_id), typed="1\n").exit_code == 0
    assert not path.exists()
    assert node.call("worklist", "show", str(study_id)).exit_code == 2


def _finished_study_with_file(node: Node) -> tuple[int, Path]:
    with node.worklist() as worklist:
        root = node.folder / "var" / "storage"
        storage = Storage.open(root, worklist.node_id, adopt_empty=True)
        name = _kept_file(storage)
        study_id = take(worklist, arrival(1, path=name))[0].study_id
        assert study_id is not None
        with worklist.write() as tx:
            assert studies.complete_by_hand(tx, study_id, act(worklist))
            study = studies.get(tx, study_id)
            assert study is not None
            studies.mark_routed(tx, study_id, study.generation)
            studies.refresh_outcome(tx, study_id)
    return study_id, storage.kept(name)


def _kept_file(storage: Storage) -> str:
    new = storage.new_arrival()
    new.write_bytes(b"bytes")
    return storage.keep(new, "2026-11-21")


def test_prune_purges_only_what_the_rules_let_go(node: Node) -> None:
    study_id, path = _finished_study_with_file(node)
    assert node.json("db", "prune", "--yes")["items"] == [{"images": 0, "results": 0}]
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(f'{text}\n[retention]\nimages = "0s"\n', encoding="utf-8")
    assert node.json("db", "prune", "--yes")["items"] == [{"images": 1, "results": 0}]
    assert not path.exists()
    assert node.json("worklist", "show", str(study_id))["purged_at"] is not None


def test_a_study_without_its_images_is_not_analysed_again(node: Node) -> None:
    study_id, _ = _finished_study_with_file(node)
    with node.worklist() as worklist:
        make_job(worklist, study_id)
        with worklist.write() as tx:
            (job,) = jobs.of_study(tx, study_id)
            assert jobs.cancel(tx, job.id, act(worklist))
            assert retention.purge_images(tx, study_id, act(worklist)).images
    again = node.call("worklist", "reprocess", str(study_id), "--yes", "--why", "new version")
    retried = node.call("worklist", "retry", str(study_id))
    for called in (again, retried):
        assert called.exit_code == 1
        assert "Its images are not kept here any more; have the study sent again." in called.output
    shown = node.json("worklist", "show", str(study_id))
    assert [job["state"] for job in shown["jobs"]] == ["cancelled"]
    for reason in (shown["reason"], shown["jobs"][0]["reason"]):
        assert not {"retry", "reprocess"} & set(reason["can"])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("worklist", "list", "--since", "999999999999999999d"), 2, "a hundred years at most"),
        (("worklist", "list", "--search", "a", "--after", "9" * 20), 2, "--after takes what"),
        (("worklist", "list", "--search", "a", "--after", "²"), 2, "--after takes what"),
        (("worklist", "list", "--search", "²"), 0, "No study begins so."),
        (("worklist", "list", "--since", "36500d"), 0, "Nothing received yet"),
        (("worklist", "show", "9" * 30), 2, "There is no study 999"),
        (("worklist", "show", "²"), 2, "There is no study"),
        (("quarantine", "show", "9" * 23), 2, "Nothing is set aside under 999"),
        (("quarantine", "delete", "9" * 23, "--yes"), 2, "Nothing is set aside under 999"),
    ],
)
def test_a_number_that_no_row_has_is_answered_in_words(
    node: Node, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    with node.worklist():
        pass
    called = node.call(*arguments)
    assert (called.exit_code, said in called.output) == (exit_code, True), called.output


def test_resend_says_what_it_does(node: Node) -> None:
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
    called = node.call("worklist", "resend", str(study_id))
    assert called.exit_code == 1
    assert "no result yet" in called.stdout
    with node.worklist() as worklist:
        done_job(worklist, study_id)
    assert node.call("worklist", "resend", str(study_id), "--peer", "pacs").exit_code == 0
    assert node.call("worklist", "resend", str(study_id), "--peer", "xray").exit_code == 1


def test_watch_in_a_pipe_writes_one_event_a_line(node: Node) -> None:
    study_id = failed_job(node)
    called = node.call("worklist", "watch", "--seconds", "0", "--back", "100", "--json")
    lines = [json.loads(line) for line in called.stdout.splitlines()]
    assert {"study.completed", "failed.time_limit"} <= {line["what"] for line in lines}
    assert all(line["version"] == 1 and line["at"].endswith("Z") for line in lines)
    assert any(line["study_id"] == study_id for line in lines)
    plain = node.call("worklist", "watch", "--seconds", "0", "--back", "100").stdout
    assert len(plain.splitlines()) == len(lines)


def test_quarantine_lists_shows_and_deletes(node: Node) -> None:
    with node.worklist() as worklist:
        storage = Storage.open(node.folder / "var" / "storage", worklist.node_id, adopt_empty=True)
        name = _kept_file(storage)
        with worklist.write() as tx:
            reason = Reason("quarantine.unreadable", {"offset": 132, "status": "C000"})
            new = NewQuarantine(reason=reason, byte_count=12, path=name, peer="ct2")
            number = quarantine.put(tx, new, act(worklist))
    (item,) = node.json("quarantine", "list")["items"]
    assert item["reason"]["code"] == "quarantine.unreadable"
    assert "Not readable as DICOM at byte 132" in node.call("quarantine", "show", "1").stdout
    refused = node.call("quarantine", "release", str(number), "--why", "test", "--yes")
    assert refused.exit_code == 1
    assert "cannot be taken in" in refused.stderr
    assert node.call("quarantine", "delete", str(number), "--yes").exit_code == 0
    assert not storage.kept(name).exists()
    again = node.call("quarantine", "delete", str(number), "--yes")
    assert again.exit_code == 1
    assert "It was deleted before." in again.stderr
    assert "Nothing is set aside." in node.call("quarantine", "list").stdout


def test_a_narrow_terminal_drops_columns_and_wide_keeps_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = (Column("STATE"), Column("FROM", drop_below=100))
    for wide, width, kept in ((False, 72, False), (True, 72, True), (False, 120, True)):
        Output(width=width, wide=wide).study_table(columns, [["done", "CT2"]], ["Why not."])
        said = capsys.readouterr().out
        assert ("CT2" in said) is kept
        assert "  Why not." in said


def test_an_ascii_terminal_gets_words_without_icons(node: Node) -> None:
    failed_job(node)
    ended = subprocess.run(
        [sys.executable, "-m", "dicomnode", "worklist", "list", "--config", str(node.config)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"needs attention" in ended.stdout
    ended.stdout.decode("ascii")


def test_every_event_of_a_person_names_the_machines_user(node: Node) -> None:
    study_id = failed_job(node)
    node.call("worklist", "retry", str(study_id))
    node.call("worklist", "cancel", str(study_id))
    with node.worklist() as worklist, worklist.read() as tx:
        acted = {one.what: one.actor for one in events.of_study(tx, study_id)}
    assert acted["job.cancelled_by_hand"] == ME

"""``run`` and ``route explain`` over files: the real pipelines on a drawn radiograph, no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.dicom.phantom_study import write_radiograph
from dicomnode.imaging.phantoms import ChestSigns, chest_radiograph
from dicomnode.sdk import Laterality
from tests.cli_data import Node, free_port, make_node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return make_node(tmp_path, free_port(), free_port())


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radiograph")
    write_radiograph(chest_radiograph(), folder)
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    return folder


def test_run_writes_checked_objects_and_tells_them(node: Node, radiograph: Path) -> None:
    out = node.folder / "results"
    (item,) = node.json("run", "chest-triage", str(radiograph), "--out", str(out))["items"]
    assert item["state"] == "done"
    assert item["checks"] > 0
    (written,) = item["objects"]
    report = dcmread(written["path"])
    assert written["kind"] == "SR"
    assert report.SOPInstanceUID == written["sop_instance_uid"]
    again = node.json("run", "chest-triage", str(radiograph), "--out", str(out))["items"]
    assert again[0]["objects"] == item["objects"]


def test_run_tells_what_was_found_without_a_side_that_the_image_does_not_tell(node: Node) -> None:
    sick = ChestSigns(consolidation=Laterality.RIGHT, effusion=Laterality.RIGHT)
    folder = node.folder / "sick"
    folder.mkdir()
    write_radiograph(chest_radiograph(signs=sick), folder)
    (path,) = folder.iterdir()
    image = dcmread(path)
    image.PatientOrientation = None
    image.save_as(path)
    out = node.folder / "results"
    (item,) = node.json("run", "chest-triage", str(folder), "--out", str(out))["items"]
    assert item["state"] == "done"
    (found,) = item["findings"]
    assert (found["kind"], found["site"]) == ("Abnormal Opacity", "Chest")
    # Its code is longer than a Code Value may be.
    assert "Difference of lung fields in usual spreads" in found["measured"]


def test_run_says_why_a_pipeline_does_not_take_these_files(node: Node, radiograph: Path) -> None:
    called = node.call("run", "lung-nodule", str(radiograph), "--out", str(node.folder / "out"))
    assert called.exit_code == 1
    assert "wants Modality CT and found DX" in called.stderr
    called = node.call("run", "nodule", str(radiograph), "--out", str(node.folder / "out"))
    assert called.exit_code == 2
    assert "there are: chest-triage, lung-nodule" in called.stderr


def test_explain_tells_about_files_that_nobody_sent(node: Node, radiograph: Path) -> None:
    items = node.json("route", "explain", str(radiograph))["items"]
    runs = {item["pipeline"]: item["runs"] for item in items}
    assert runs["chest-triage"] is True
    assert runs["lung-nodule"] is False
    empty = node.folder / "empty"
    empty.mkdir()
    assert node.call("route", "explain", str(empty)).exit_code == 2

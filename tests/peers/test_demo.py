"""The demonstration: whole, interrupted, and what it calls a fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from rich.text import Text

from dicomnode import demo
from dicomnode.demo import comparison, drawing, material
from dicomnode.demo.received import Place, Received, SegmentMask
from dicomnode.demo.screen import DemoError
from dicomnode.imaging.phantoms import NodulePlace, PhantomNodule
from dicomnode.rules.states import JobState
from dicomnode.sdk import Laterality, SeriesInfo, Volume
from tests.data import ct_series, save_all


@dataclass
class Recorder:
    """A screen that keeps what it is told."""

    as_json: bool = False
    lines: list[str] = field(default_factory=list)
    told: list[Mapping[str, Any]] = field(default_factory=list)

    def say(self, text: str | Text) -> None:
        self.lines.append(text.plain if isinstance(text, Text) else text)

    def document(self, content: Mapping[str, Any]) -> None:
        self.told.append(content)


def running_below(folder: Path) -> list[int]:
    """Ids of the processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if entry.name.isdigit() and os.fsencode(folder) in command:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_everything_that_is_drawn_is_found_delivered_and_pictured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    screen = Recorder()
    out = tmp_path / "out"
    assert demo.run(None, out, screen), screen.lines
    assert [line[:5] for line in screen.lines if line[1:3] == "/6"] == [
        f"{n}/6 ✓" for n in range(1, 7)
    ]
    document = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert document["ok"]
    assert document["faults"] == []
    assert sorted(job["pipeline"] for job in document["jobs"]) == [
        "chest-triage",
        "chest-triage",
        "lung-nodule",
        "organ-segmentation",
    ]
    received = [pydicom.dcmread(path) for path in (out / "received").glob("*.dcm")]
    assert sorted(str(o.Modality) for o in received) == ["SEG", "SEG", "SR", "SR", "SR", "SR"]
    assert len(list((out / "images").rglob("*.dcm"))) == 121
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == [
        "ct-lung-nodule-1.png",
        "ct-lung-nodule-2.png",
        "ct-lung-nodule-3.png",
        "ct-organ-segmentation.png",
        "radiograph-chest-triage.png",
    ]
    assert not list(tmp_path.glob("dicomnode-demo-*"))
    assert running_below(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_no_process_and_no_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    save_all(ct_series(slices=3, rows=32), tmp_path / "images")
    command = (sys.executable, "-m", "dicomnode", "demo", "--out", str(tmp_path / "out"))
    command += ("--data", str(tmp_path / "images"))
    # Tests that a shell runs in the background ignore SIGINT, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("3/6"):
                break
        assert running_below(tmp_path)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not list(tmp_path.glob("dicomnode-demo-*"))
    deadline = time.monotonic() + 10.0
    while running_below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running_below(tmp_path) == []


def test_a_folder_without_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(DemoError, match="holds no DICOM file"):
        material.found_below(tmp_path, tmp_path / "out")


def test_the_notice_is_burnt_into_every_picture() -> None:
    panel = drawing.Panel(Image.new("RGB", (300, 200)), "nothing")
    sheet = np.asarray(drawing.framed("title", [panel]).convert("L"))
    assert sheet.shape[0] > 300
    assert sheet[-40:, 5].max() < 100
    assert sheet[-40:].max() > 180


def test_frames_that_begin_within_a_byte_are_unpacked() -> None:
    planes = np.random.default_rng(1).random((3, 5, 5)) > 0.5
    bits = np.packbits(planes.reshape(-1), bitorder="little")
    mask = SegmentMask(bits, (5, 5))
    mask.frame_of_slice = {7: 0, 2: 1, 4: 2}
    for z, frame in mask.frame_of_slice.items():
        np.testing.assert_array_equal(mask.plane(z), planes[frame])
    assert not mask.plane(0).any()
    weights = np.array([planes[mask.frame_of_slice[z]].sum() for z in mask.slices])
    assert mask.centre_zyx()[0] == pytest.approx(weights @ mask.slices / weights.sum())


def volume() -> Volume:
    array = np.zeros((10, 20, 20), dtype=np.float32)
    axes = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    return Volume(array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), axes, SeriesInfo("CT"))


def mask_at(z: int, y: int, x: int) -> SegmentMask:
    plane = np.zeros((20, 20), dtype=bool)
    plane[y - 1 : y + 2, x - 1 : x + 2] = True
    mask = SegmentMask(np.packbits(plane.reshape(-1), bitorder="little"), (20, 20))
    mask.frame_of_slice = {z: 0}
    return mask


def a_set(pipeline: str, *places: Place, **given: Any) -> Received:
    job = SimpleNamespace(pipeline=pipeline, version="1", state=JobState.DONE)
    story: Any = SimpleNamespace(job=job, results=())
    return Received(story, (Path("sr.dcm"),), (), volume(), places, **given)


NODULE = PhantomNodule((10.0, 10.0, 5.0), 10.0, 523.6, Laterality.RIGHT, NodulePlace.FREE)
FOUND = Place("Nodule 1", True, Laterality.RIGHT, 0.52, 10.0, 9.0, mask_at(5, 10, 10))
LUNG = Place("Right lung", False, Laterality.RIGHT, 2050.0)


def faults_of(
    *places: Place, organs: tuple[Place, ...] = (LUNG,), diameter_mm: float = 10.0
) -> str:
    nodule = replace(NODULE, diameter_mm=diameter_mm)
    sent = material.Sent(Path("dx.dcm"), "1.1", "1.2", "1.3")
    given = material.Material(
        images=(sent,),
        radiograph=(sent,),
        truth=material.Truth((nodule,), {"Right lung": 2000.0}, Laterality.RIGHT),
        is_drawn=True,
        sentence="",
    )
    sick = a_set(
        "chest-triage",
        Place("Opacity 1", True, Laterality.RIGHT),
        urgency=comparison.Urgency.SIGNIFICANT,
        image_uids=("1.3",),
    )
    sets = [a_set("lung-nodule", *places), a_set("organ-segmentation", *organs), sick]
    return " ".join(comparison.compare(given, sets, []).faults)


def test_what_is_found_as_drawn_is_no_fault() -> None:
    assert faults_of(FOUND) == ""


@pytest.mark.parametrize(
    ("places", "organs", "words"),
    [
        ((), (LUNG,), "nodule, free: not found"),
        ((replace(FOUND, mask=mask_at(5, 10, 18)),), (LUNG,), "nodule, free: not found"),
        ((replace(FOUND, side=Laterality.LEFT),), (LUNG,), "wrong side"),
        ((replace(FOUND, volume_ml=2.5),), (LUNG,), "+377% volume"),
        ((replace(FOUND, volume_ml=0.1),), (LUNG,), "-81% volume"),
        ((FOUND,), (), "right lung: not found"),
        ((FOUND,), (replace(LUNG, volume_ml=1700.0),), "right lung: 1700 mL (-15.0%)"),
    ],
)
def test_a_miss_or_a_volume_that_is_wildly_off_is_a_fault(
    places: tuple[Place, ...], organs: tuple[Place, ...], words: str
) -> None:
    assert words in faults_of(*places, organs=organs)


def test_a_nodule_below_6_mm_may_be_missed() -> None:
    assert faults_of(diameter_mm=5.0) == ""

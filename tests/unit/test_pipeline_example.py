"""The example of docs/pipelines.md: short, installed as a package of its own, run as the node does.

The node finds it by its entry point in the process in which pipelines run, and what comes out has
passed the gate.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydantic import BaseModel

from dicomnode.dicom import files
from dicomnode.dicom.phantom_study import write_chest_ct
from dicomnode.imaging.phantoms import chest_ct
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died, Limits

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "docs" / "example_pipeline"
PIPELINE, ITS_TEST = EXAMPLE / "dense_bone.py", EXAMPLE / "test_dense_bone.py"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
LIMITS = Limits(memory_bytes=6 * 10**9, time_s=300, threads=1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which pip installed the example, as a hospital's own package is."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", folder / "site", source], check=True, timeout=120)
    return folder / "site"


@pytest.fixture
def child(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    """The process in which pipelines run, with the example among those that are installed."""
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{REPOSITORY}")
    process = ChildProcess("cpu", LIMITS)
    assert process.start() is None
    yield process
    process.kill()


def ask(child: ChildProcess, order: BaseModel) -> BaseModel:
    child.order(order)
    for answer in child.answers(time.monotonic() + 120):
        assert not isinstance(answer, Died), answer
        if answer is not None and not isinstance(answer, messages.Progress):
            return answer
    raise AssertionError("the child fell silent")


def test_a_whole_pipeline_with_its_test_is_under_forty_formatted_lines() -> None:
    formatted = [
        subprocess.run(
            [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "100", "-"],
            input=path.read_text(encoding="utf-8"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in (PIPELINE, ITS_TEST)
    ]
    assert formatted == [path.read_text(encoding="utf-8") for path in (PIPELINE, ITS_TEST)]
    assert sum(len(text.splitlines()) for text in formatted) < 40


def test_the_examples_own_test_passes(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{REPOSITORY}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]
    ran = subprocess.run(
        [*command, EXAMPLE, ITS_TEST],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout


def test_the_node_finds_it_by_its_entry_point(child: ChildProcess) -> None:
    answer = ask(child, messages.Describe(settings={}))
    assert isinstance(answer, messages.Described)
    (found,) = [one for one in answer.pipelines if one.name == "dense-bone"]
    assert (found.version, found.broken, found.takes) == ("1.0.0", None, "volume")
    assert found.match["modality"] == "CT"


def test_its_findings_become_a_segmentation_and_a_report_that_pass_the_gate(
    child: ChildProcess, tmp_path: Path
) -> None:
    phantom = chest_ct(shape=(60, 128, 128), spacing=(5.0, 2.5, 2.5), nodules=())
    paths = write_chest_ct(phantom, tmp_path / "ct")
    series = tuple(
        messages.SourceFile(path=str(path), digest=files.data_set_digest(path)) for path in paths
    )
    key = "0" * 64
    analysed = ask(
        child, messages.Analyse(pipeline="dense-bone", settings={}, key=key, series=(series,))
    )
    assert isinstance(analysed, messages.Analysed), analysed
    assert analysed.segment_count == 1
    encode = messages.Encode(
        key=key,
        finished_at_ms=1_764_000_000_000,
        device_serial_number="test",
        sets=(messages.ResultSet(key=f"{key}|a", form="a", presents=("seg", "sr"), sr="3d"),),
        target=str(tmp_path / "{number}.dcm"),
    )
    encoded = ask(child, encode)
    assert isinstance(encoded, messages.Encoded), encoded
    classes = [pydicom.dcmread(written.path).SOPClassUID for written in encoded.objects]
    assert classes == [SEGMENTATION, COMPREHENSIVE_3D_SR]

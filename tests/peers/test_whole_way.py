"""Real studies sent to a whole node with its own pipelines, and what a real PACS then holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from csv import DictReader
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicomnode.dicom.volumes import Loaded, Takes, load
from dicomnode.rules.states import DeliveryState, JobState, Outcome
from dicomnode.sdk import Context, Findings, Segment, Volume
from dicomnode.worklist import results
from pipelines.lung_nodule.pipeline import LungNodule, LungNoduleSettings
from pipelines.organ_segmentation.pipeline import OrganSegmentation
from tests import dcmtk
from tests.node import Node, running_node
from tests.orthanc import Orthanc, running_orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]

Points = NDArray[np.float64]

# The large chest CT runs on SQLite only, unless this says that it shall run on both engines.
FULL = os.environ.get("DICOMNODE_TEST_FULL") == "1"
PIPELINES = ("lung-nodule", "organ-segmentation", "chest-triage")
LIMIT_S = 900.0
CHEST_SPACING_MM = (2.5, 0.703, 0.703)


@dataclass(frozen=True)
class Sent:
    """A study as it is sent: its files, and the option by which storescu offers their syntax."""

    folder: Path
    option: str
    associations: int = 1

    @cached_property
    def files(self) -> list[Path]:
        """Its DICOM files."""
        return sorted(self.folder.iterdir())

    @cached_property
    def header(self) -> Dataset:
        """The first file without its pixels."""
        return dcmread(self.files[0], stop_before_pixels=True)

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return str(self.header.StudyInstanceUID)


@dataclass(frozen=True)
class Whole:
    """A node after all that was sent has ended, the PACS beside it, and what the PACS holds."""

    node: Node
    pacs: Orthanc
    ct: Sent
    radiograph: Sent
    mr: Sent
    downloads: Path
    is_chest: bool

    def job(self, sent: Sent, pipeline: str) -> Any:
        """The one job of a pipeline over a study."""
        (found,) = [one for one in self.node.jobs(sent.study) if one.pipeline == pipeline]
        return found

    def results(self, sent: Sent, pipeline: str) -> dict[str, Path]:
        """What the PACS gives out of one pipeline's results, by kind, in a folder of its own."""
        job = self.job(sent, pipeline)
        with self.node.worklist.read() as tx:
            made = results.of_job(tx, job.id)
        held = self.pacs.instances(sent.study)
        folder = self.downloads / f"{job.id}"
        folder.mkdir(exist_ok=True)
        found = {}
        for one in made:
            found[one.kind] = folder / f"{one.kind}.dcm"
            found[one.kind].write_bytes(self.pacs.file(held[one.sop_instance_uid]))
        assert len(found) == len(made)
        return found

    def command(self, *arguments: str) -> Any:
        """Run ``dicomnode`` with --json and give its document."""
        options = ("--json", "--config", str(self.node.configuration))
        ended = subprocess.run(
            [sys.executable, "-m", "dicomnode", *arguments, *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def studies(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sent]:
    alone = tmp_path_factory.mktemp("radiograph")
    shutil.copy(data_folder / "single-images" / "RG1_J2KI.dcm", alone)
    lidc, organs = data_folder / "ct-chest-lidc", data_folder / "ct-organs-totalsegmentator"
    return {
        "chest": Sent(lidc / "LIDC-IDRI-0001" / "dicom", "-xt", associations=3),
        "abdomen": Sent(organs / "dicom-abdomen" / "dicom", "-xv", associations=2),
        "radiograph": Sent(alone, "-xw"),
        "mr": Sent(data_folder / "mr-brain-datalad" / "dicom", "-xt", associations=2),
    }


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def whole(
    request: pytest.FixtureRequest,
    studies: dict[str, Sent],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp(f"whole-{request.param}")
    url = ""
    is_chest = FULL or request.param == "sqlite"
    ct = studies["chest" if is_chest else "abdomen"]
    with ExitStack() as stack:
        if request.param == "postgresql":
            cluster = request.getfixturevalue("cluster")
            name = cluster.create()
            stack.callback(cluster.drop, name)
            url = cluster.url(name)
        pacs = stack.enter_context(running_orthanc(folder / "pacs", node_port=1))
        node = stack.enter_context(running_node(Node(folder / "node", {}, url), _sections(pacs)))
        sent = (ct, studies["radiograph"], studies["mr"])
        _send(sent, pacs.dicom_port, "ORTHANC")
        _send(sent, node.port, "DICOMNODE")
        for one in sent:
            node.wait_settled(one.study, LIMIT_S)
        downloads = folder / "downloads"
        downloads.mkdir()
        yield Whole(node, pacs, *sent, downloads, is_chest)
        assert node.stop() == 0


def _sections(pacs: Orthanc) -> dict[str, Any]:
    peer = {
        "ae_title": "ORTHANC",
        "host": "127.0.0.1",
        "port": pacs.dicom_port,
        "receives_from": True,
        "sends_to": True,
    }
    return {
        "complete": {"quiet": "4s"},
        "analyse": {"lease": "60s", "threads": 0},
        "peers": {"pacs": peer},
        "pipelines": {name: {"enabled": True} for name in PIPELINES},
    }


def _send(several: Sequence[Sent], port: int, called: str) -> None:
    """Send studies side by side, each over its associations at once."""
    parts = [
        (one.files[number :: one.associations], one.option)
        for one in several
        for number in range(one.associations)
    ]
    with ThreadPoolExecutor(len(parts)) as pool:
        ended = pool.map(
            lambda part: dcmtk.send(port, part[0], part[1], called=called, program_name="storescu"),
            parts,
        )
        for one in ended:
            assert one.returncode == 0, one.stdout + one.stderr


def test_only_the_address_of_the_database_differs_between_the_engines(
    whole: Whole, tmp_path: Path
) -> None:
    text = whole.node.configuration.read_text(encoding="utf-8")
    twin = Node(tmp_path, _sections(whole.pacs), f"sqlite:///{tmp_path / 'other.db'}")
    twin.port = whole.node.port
    twin.configure(_sections(whole.pacs))
    other = twin.configuration.read_text(encoding="utf-8")
    pairs = zip(text.splitlines(), other.splitlines(), strict=True)
    assert [first.partition(" ")[0] for first, second in pairs if first != second] == ["url"]
    assert tomllib.loads(text)["worklist"]["url"] == whole.node.url


def test_every_job_ends_done_or_declined_and_is_delivered(whole: Whole) -> None:
    for sent in (whole.ct, whole.radiograph):
        study = whole.node.study(sent.study)
        assert study is not None
        assert study.outcome is Outcome.DONE
        assert study.image_count == len(sent.files)
        for job in whole.node.jobs(sent.study):
            assert job.state in (JobState.DONE, JobState.DECLINED), whole.node.words(job.reason)
        delivered = whole.node.deliveries(sent.study)
        assert delivered
        assert {one.state for one in delivered} <= {DeliveryState.SENT, DeliveryState.CONFIRMED}
    states = {job.pipeline: job.state for job in whole.node.jobs(whole.ct.study)}
    wanted = PIPELINES if whole.is_chest else ("organ-segmentation",)
    assert states == dict.fromkeys(wanted, JobState.DONE)


def test_the_pacs_holds_images_and_results_in_one_study(whole: Whole) -> None:
    for sent in (whole.ct, whole.radiograph, whole.mr):
        held = set(whole.pacs.instances(sent.study))
        images = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in sent.files}
        made = {
            entry.sop_instance_uid
            for delivery in whole.node.deliveries(sent.study)
            for entry in delivery.statuses
        }
        assert held == images | made
    # A second study of the same UID would be another patient's.
    held_uids = [
        one["MainDicomTags"]["StudyInstanceUID"] for one in whole.pacs.get("/studies?expand")
    ]
    assert sorted(held_uids) == sorted(one.study for one in (whole.ct, whole.radiograph, whole.mr))


def test_each_pipeline_returns_the_kinds_that_it_promises(whole: Whole) -> None:
    if whole.is_chest:
        assert set(whole.results(whole.ct, "lung-nodule")) == {"SEG", "SR"}
        assert set(whole.results(whole.ct, "chest-triage")) == {"SR"}
    assert set(whole.results(whole.ct, "organ-segmentation")) == {"SEG", "SR"}
    assert set(whole.results(whole.radiograph, "chest-triage")) == {"SR"}
    assert [job.pipeline for job in whole.node.jobs(whole.radiograph.study)] == ["chest-triage"]


def test_every_set_passes_the_independent_checker(whole: Whole, checker: ModuleType) -> None:
    for sent, job in _done(whole):
        made = whole.results(sent, job.pipeline)
        folder = next(iter(made.values())).parent
        assert checker.check(str(sent.folder), str(folder), strict=True) == []


def test_highdicom_reads_every_object_back(whole: Whole) -> None:
    for sent, job in _done(whole):
        for kind, path in whole.results(sent, job.pipeline).items():
            if kind == "SEG":
                assert hd.seg.segread(path).number_of_segments > 0
            else:
                report = hd.sr.srread(path)
                assert isinstance(report, hd.sr.Comprehensive3DSR)
                assert "research use" in report.SeriesDescription


def _done(whole: Whole) -> list[tuple[Sent, Any]]:
    return [
        (sent, job)
        for sent in (whole.ct, whole.radiograph)
        for job in whole.node.jobs(sent.study)
        if job.state is JobState.DONE
    ]


def test_the_large_nodule_is_among_the_first_three_findings(whole: Whole) -> None:
    if not whole.is_chest:
        pytest.skip("the chest CT was not sent here; DICOMNODE_TEST_FULL=1 does")
    made = whole.results(whole.ct, "lung-nodule")
    with (whole.ct.folder.parent / "truth" / "luna16_reference.csv").open() as file:
        (row,) = DictReader(file)
    centre = np.array([float(row[f"coord{axis}"]) for axis in "XYZ"])
    radius_mm = float(row["diameter_mm"]) / 2
    segments = segment_points(dcmread(made["SEG"]))
    first = [group.segment for group in lesions(dcmread(made["SR"]))][:3]
    distances = [np.linalg.norm(segments[number].mean(axis=0) - centre) for number in first]
    assert min(distances) < radius_mm


def test_both_lungs_together_have_an_adults_volume(whole: Whole) -> None:
    if not whole.is_chest:
        pytest.skip("the chest CT was not sent here; DICOMNODE_TEST_FULL=1 does")
    report = hd.sr.srread(whole.results(whole.ct, "organ-segmentation")["SR"])
    litres = {}
    for group in report.content.get_volumetric_roi_measurement_groups():
        if group.finding_type == hd.sr.CodedConcept("39607008", "SCT", "Lung"):
            (volume,) = [one for one in group.get_measurements() if one.name.value == "118565006"]
            assert volume.unit.value == "cm3"
            litres[group.tracking_identifier] = volume.value / 1000
    assert len(litres) == 2
    assert 1.5 < sum(litres.values()) < 9.0


def test_segments_lie_where_the_pipeline_put_them(whole: Whole) -> None:
    loaded = load(whole.ct.files, Takes.VOLUME)
    assert isinstance(loaded, Loaded)
    volume = loaded.input
    assert isinstance(volume, Volume)
    diagonal_mm = float(np.linalg.norm(volume.spacing))
    if whole.is_chest:
        name, settings = "lung-nodule", LungNoduleSettings()
        found = LungNodule().run(volume, Context.for_test(settings=settings))
        assert isinstance(found, Findings)
        own = [finding.segment for finding in found.findings if finding.segment is not None]
    else:
        name = "organ-segmentation"
        found = OrganSegmentation().run(volume, Context.for_test())
        assert isinstance(found, Findings)
        own = list(found.segments)
    sent = segment_points(dcmread(whole.results(whole.ct, name)["SEG"]))
    assert len(sent) == len(own) > 0
    for segment, points in zip(own, sent.values(), strict=True):
        assert np.linalg.norm(points.mean(axis=0) - centroid(volume, segment)) < diagonal_mm
        assert len(points) == int(np.count_nonzero(segment.mask))


def test_the_outlines_of_the_report_lie_on_its_segments(whole: Whole) -> None:
    if not whole.is_chest:
        pytest.skip("only lesions have outlines")
    headers = {
        str(header.SOPInstanceUID): header
        for header in (dcmread(path, stop_before_pixels=True) for path in whole.ct.files)
    }
    made = whole.results(whole.ct, "lung-nodule")
    segments = segment_points(dcmread(made["SEG"]))
    outlined = [group for group in lesions(dcmread(made["SR"])) if group.outline is not None]
    assert len(outlined) == len(segments)
    for group in outlined:
        assert group.outline is not None
        points = on_image(headers[group.image], group.outline)
        gaps = points[:, None, :] - segments[group.segment][None, :, :]
        diagonal_mm = np.linalg.norm(CHEST_SPACING_MM)
        assert np.linalg.norm(gaps, axis=2).min(axis=1).max() < diagonal_mm


def test_the_mr_says_that_its_modality_has_no_route(whole: Whole) -> None:
    study = whole.node.study(whole.mr.study)
    assert study is not None
    assert study.outcome is Outcome.NO_ROUTE
    assert study.reason is not None
    assert study.reason.code == "study.no_route"
    assert study.reason.parameters["found"] == "MR"
    assert "found MR" in whole.node.words(study.reason)
    assert not whole.node.jobs(whole.mr.study)
    listed = whole.command("worklist", "list", "--state", "no-route")["items"]
    (item,) = [one for one in listed if one["study_instance_uid"] == whole.mr.study]
    assert item["outcome"] == "no route"
    assert item["reason"]["code"] == "study.no_route"
    assert "Modality" in item["reason"]["sentence"] or "modality" in item["reason"]["sentence"]
    assert item["images"]["received"] == len(whole.mr.files)


@dataclass
class Lesion:
    """A finding of a report: its segment, and its outline in pixels (column, row) of an image."""

    segment: int = 0
    image: str = ""
    outline: Points | None = None


def lesions(report: Dataset) -> list[Lesion]:
    """Give the findings of a report in its order; groups with one tracking UID are one finding."""
    found: dict[str, Lesion] = {}
    for group in _walk(report):
        if _concept(group) != "125007":  # Measurement Group
            continue
        items = list(group.ContentSequence)
        tracking = next(str(item.UID) for item in items if _concept(item) == "112040")
        lesion = found.setdefault(tracking, Lesion())
        for item in items:
            if _concept(item) == "121191":  # Referenced Segment
                lesion.segment = int(item.ReferencedSOPSequence[0].ReferencedSegmentNumber)
            if item.ValueType == "SCOORD":
                lesion.outline = np.reshape(np.array(item.GraphicData, dtype=float), (-1, 2))
                source = item.ContentSequence[0].ReferencedSOPSequence[0]
                lesion.image = str(source.ReferencedSOPInstanceUID)
    return list(found.values())


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def on_image(image: Dataset, points: Points) -> Points:
    """Patient coordinates in mm of points given as (column, row), first pixel's corner at 0, 0."""
    origin = np.array(image.ImagePositionPatient, dtype=float)
    along_row, along_column = np.reshape(
        np.array(image.ImageOrientationPatient, dtype=float), (2, 3)
    )
    row_mm, column_mm = (float(one) for one in image.PixelSpacing)
    columns, rows = points[:, 0] - 0.5, points[:, 1] - 0.5
    return origin + np.outer(columns * column_mm, along_row) + np.outer(rows * row_mm, along_column)


def segment_points(segmentation: Dataset) -> dict[int, Points]:
    """Patient coordinates in mm of every voxel of each segment, from the frames' own places."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = segmentation.pixel_array
    found: dict[int, list[Points]] = {}
    for frame, groups in zip(
        np.reshape(frames, (-1, *frames.shape[-2:])),
        segmentation.PerFrameFunctionalGroupsSequence,
        strict=True,
    ):
        place = Dataset()
        for one in (shared, groups):
            for sequence in (
                "PlanePositionSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
            ):
                if sequence in one:
                    place.update(one[sequence].value[0])
        rows, columns = np.nonzero(frame)
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        centres = np.stack((columns, rows), axis=1) + 0.5
        found.setdefault(number, []).append(on_image(place, centres))
    return {number: np.concatenate(parts) for number, parts in sorted(found.items())}


def centroid(volume: Volume, segment: Segment) -> Points:
    """Patient coordinates in mm of the middle of a pipeline's own mask."""
    middle = np.argwhere(segment.mask).mean(axis=0) + np.array(segment.offset)
    return np.asarray(volume.to_patient(middle))

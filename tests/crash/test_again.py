"""The same study again, however it comes, changes nothing; what is other is seen as what it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from dicomnode.rules.states import InstanceState, JobState, StudyState
from dicomnode.worklist import instances, quarantine
from tests import dcmtk
from tests.crash.bench import Bench, Study, running_bench
from tests.data import Patient, save

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PREDECESSORS = "PredecessorDocumentsSequence"


def analysed(bench: Bench, word: str, *descriptions: str) -> tuple[Study, ...]:
    """Send series of one study, and wait for all that comes of them."""
    made = tuple(bench.study(word, one) for one in descriptions or ("toy-ok",))
    bench.send_all([path for study in made for path in study.files])
    bench.node.wait_settled(made[0].study_instance_uid)
    return made


def left_as_it_was(bench: Bench, study: Study, jobs: int, objects: int) -> None:
    """Nothing new: no job, no object, no open study; and nothing lost."""
    number = study.study_instance_uid

    def is_compared() -> bool:
        found = bench.node.study(number)
        assert found is not None
        with bench.node.worklist.read() as tx:
            every = instances.of_study(tx, found.id, only_current=False)
        return all(one.state is not InstanceState.PENDING for one in every)

    bench.node.wait(is_compared, 60.0, "every arrival being compared")
    bench.node.wait_settled(number)
    assert len(bench.node.jobs(number)) == jobs
    assert len(bench.pacs.instances(number)) == objects
    study_row = bench.node.study(number)
    assert study_row is not None
    assert study_row.instance_count == len(study.files)
    bench.check()


def recoded(study: Study, folder: Path, *command: str) -> list[Path]:
    """The same images in another transfer syntax."""
    folder.mkdir(parents=True)
    made = []
    for path in study.files:
        target = folder / path.name
        done = dcmtk.run(command[0], *command[1:], path, target)
        assert done.returncode == 0, done.stderr
        made.append(target)
    return made


def test_the_same_study_from_another_sender_changes_nothing(bench: Bench) -> None:
    (study,) = analysed(bench, "again sender")
    assert bench.send(study.files) == len(study.files)
    assert bench.send(study.files, calling="OTHER") == len(study.files)
    left_as_it_was(bench, study, jobs=1, objects=2)


@pytest.mark.parametrize(
    ("program", "options", "proposed"),
    [
        ("dcmcjpls", (), "--propose-jls-lossless"),
        ("dcmcrle", (), "--propose-rle"),
        ("dcmcjpeg", ("+e1",), "--propose-lossless"),
        ("dcmconv", ("+ti",), "--propose-implicit"),
    ],
)
def test_the_same_study_in_another_transfer_syntax_changes_nothing(
    bench: Bench, tmp_path: Path, program: str, options: tuple[str, ...], proposed: str
) -> None:
    (study,) = analysed(bench, f"again {program}")
    other = recoded(study, tmp_path / "other", program, *options)
    assert bench.send(other, proposed) == len(other)
    left_as_it_was(bench, study, jobs=1, objects=2)


def test_the_same_study_by_eight_associations_at_once_is_taken_once(bench: Bench) -> None:
    study = bench.study("again eight")
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: bench.send(study.files), range(8)))
    assert counts == [len(study.files)] * 8
    left_as_it_was(bench, study, jobs=1, objects=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bench.send(study.files), range(8)))
    left_as_it_was(bench, study, jobs=1, objects=2)


def test_a_late_slice_makes_one_job_for_the_pipeline_that_got_it(bench: Bench) -> None:
    first, _ = analysed(bench, "again late", "toy-ok", "toy-second")
    number = first.study_instance_uid
    before = set(bench.pacs.instances(number))
    assert len(before) == 4
    late = bench.study("again late", "toy-ok", slices=4).files[-1:]
    assert bench.send(late) == 1
    bench.node.wait(
        lambda: len(bench.node.jobs(number)) == 3, 60.0, "one new job after a late slice"
    )
    bench.node.wait_settled(number)
    jobs = bench.node.jobs(number)
    assert [job.pipeline for job in jobs[2:]] == ["toy-ok"]
    assert sorted(job.state for job in jobs) == [JobState.DONE] * 2 + [JobState.SUPERSEDED]
    added = {uid: one for uid, one in bench.pacs.instances(number).items() if uid not in before}
    assert len(added) == 2
    objects = (pydicom.dcmread(io.BytesIO(bench.pacs.file(one))) for one in added.values())
    (report,) = (one for one in objects if one.Modality == "SR")
    (old,) = report[PREDECESSORS].value[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert old.ReferencedSOPInstanceUID in before
    bench.check()


def test_other_content_under_the_same_number_is_a_revision(bench: Bench) -> None:
    (study,) = analysed(bench, "again revision")
    number = study.study_instance_uid
    changed = pydicom.dcmread(study.files[0])
    pixels = changed.pixel_array.copy()
    pixels[10:20, 10:20] += 7
    changed.PixelData = pixels.tobytes()
    path = save(changed, study.files[0].with_name("changed.dcm"))
    assert bench.send([path]) == 1
    bench.node.wait(lambda: len(bench.node.jobs(number)) == 2, 60.0, "a job of the new revision")
    bench.node.wait_settled(number)
    row = bench.node.study(number)
    assert row is not None
    with bench.node.worklist.read() as tx:
        every = instances.of_study(tx, row.id, only_current=False)
    states = sorted((one.revision, one.state.value) for one in every if one.revision > 1)
    assert states == [(2, "current")]
    assert sum(one.state is InstanceState.SUPERSEDED for one in every) == 1
    bench.check()


def test_the_same_number_under_another_patient_is_set_aside(bench: Bench) -> None:
    (study,) = analysed(bench, "again patient")
    number = study.study_instance_uid
    other = bench.study("again patient", patient=Patient(patient_id="SOMEBODY-ELSE"))
    known = {name: set(found) for name, found in bench.acknowledged.items()}
    assert bench.send(other.files) == len(other.files)
    bench.acknowledged.update(known)
    with bench.node.worklist.read() as tx:
        held = [one for one in quarantine.listed(tx) if one.study_instance_uid == number]
    assert [one.reason.code for one in held] == ["quarantine.identity_conflict"] * 3
    assert all("patient" in bench.node.words(one.reason).lower() for one in held)
    assert all(one.path and bench.node.storage.kept(one.path).is_file() for one in held)
    # Sent anew, the first files must still be there for what follows.
    bench.study("again patient")
    left_as_it_was(bench, study, jobs=1, objects=2)


@pytest.fixture(scope="module")
def forwarding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node whose PACS sends back whatever it stores."""
    with running_bench(tmp_path_factory.mktemp("forwarding"), forwards=True) as made:
        yield made


def test_results_that_the_pacs_sends_back_start_nothing(forwarding: Bench) -> None:
    (study,) = analysed(forwarding, "again loop")
    number = study.study_instance_uid

    def came_back() -> bool:
        row = forwarding.node.study(number)
        assert row is not None
        with forwarding.node.worklist.read() as tx:
            every = instances.of_study(tx, row.id)
        return sum(one.role == "own" for one in every) == 2

    forwarding.node.wait(came_back, 60.0, "both results coming back")
    row = forwarding.node.study(number)
    assert row is not None
    assert row.state is StudyState.COMPLETE
    assert row.image_count == len(study.files)
    held = list(forwarding.pacs.instances(number).values())
    forwarding.pacs.send_to_node(*held)
    left_as_it_was(forwarding, study, jobs=1, objects=2)

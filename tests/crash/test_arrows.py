"""``kill -9`` at each arrow of the data's way: after a restart nothing is lost, nothing twice.

Each situation brings a study to one arrow and holds it there, by a lock, a gate or a frozen
process; the process that has it in hands, or the whole node, is killed; then all is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from subprocess import Popen

import pytest

from dicomnode.rules.states import DeliveryState, JobState, StudyState
from tests import dcmtk
from tests.crash.bench import Bench, Study
from tests.crash.holds import injected, locked, refused, wait_dead

pytestmark = [pytest.mark.peer, pytest.mark.slow]

Situation = Callable[[Bench, Study], AbstractContextManager[None]]


@contextmanager
def sending(bench: Bench, study: Study) -> Iterator[Popen[bytes]]:
    """A scanner that sends in the background."""
    options = ("-aet", "SCANNER", "-aec", "DICOMNODE", "127.0.0.1", bench.node.port)
    process = dcmtk.start("storescu", *options, *study.files)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)


@contextmanager
def file_without_row(bench: Bench, study: Study) -> Iterator[None]:
    """An image is durable in its folder, its row is not: nothing was acknowledged."""
    when = "NEW.study_instance_uid = '" + study.study_instance_uid + "'"
    before = set(bench.node.storage.kept_names())
    with refused(bench.node.worklist, "instances", "INSERT", when), sending(bench, study):
        kept = bench.node.storage.kept_names
        bench.node.wait(lambda: set(kept()) - before, 20.0, "a kept file")
        yield


@contextmanager
def received(bench: Bench, study: Study) -> Iterator[None]:
    """Every image was acknowledged, nobody looked whether the study is whole."""
    with bench.node.frozen("dispatch"):
        bench.send_all(study.files)
        yield


@contextmanager
def complete(bench: Bench, study: Study) -> Iterator[None]:
    """The study is complete, no job was made."""
    with refused(bench.node.worklist, "jobs", "INSERT"):
        bench.send_all(study.files)
        number = study.study_instance_uid

        def is_whole() -> bool:
            found = bench.node.study(number)
            return found is not None and found.state is StudyState.COMPLETE

        bench.node.wait(is_whole, 60.0, "a complete study")
        assert not bench.node.jobs(number)
        yield


@contextmanager
def queued(bench: Bench, study: Study) -> Iterator[None]:
    """The job is there, nobody has claimed it."""
    with bench.node.frozen("work"):
        bench.send_all(study.files)
        bench.node.wait_job(study.study_instance_uid, JobState.QUEUED)
        yield


@contextmanager
def running(bench: Bench, study: Study) -> Iterator[None]:
    """The pipeline runs."""
    bench.node.gate.touch()
    try:
        bench.send_all(study.files)
        bench.node.wait_job(study.study_instance_uid, JobState.RUNNING)
        bench.node.wait(
            lambda: bench.node.jobs(study.study_instance_uid)[-1].stage == "analyse",
            60.0,
            "a pipeline that runs",
        )
        yield
    finally:
        bench.node.gate.unlink()


@contextmanager
def written(bench: Bench, study: Study) -> Iterator[None]:
    """The files of the results are written, the job's end is not."""
    with running(bench, study):
        job = bench.node.jobs(study.study_instance_uid)[-1]
        with locked(bench.node.worklist):
            bench.node.gate.unlink()

            def is_written() -> bool:
                names = bench.node.storage.result_names()
                return sum(name.job_id == job.id for name in names) == 2

            bench.node.wait(is_written, 30.0, "both files of the results")
            bench.node.gate.touch()
            yield


@contextmanager
def finished(bench: Bench, study: Study) -> Iterator[None]:
    """The job is done, its delivery waits."""
    with bench.node.frozen("deliver"):
        bench.send_all(study.files)
        bench.node.wait_job(study.study_instance_uid, JobState.DONE)
        yield


@contextmanager
def half_sent(bench: Bench, study: Study) -> Iterator[None]:
    """The PACS stored the segmentation; its answer is not written, the report is not sent."""
    number = study.study_instance_uid
    # A frozen PACS that is asked about an earlier delivery would hold up this one for its timeout.
    bench.node.wait(lambda: not bench.is_unconfirmed(), 60.0, "earlier deliveries being confirmed")
    bench.pacs.freeze()
    try:
        bench.send_all(study.files)
        wait_delivery(bench, study, DeliveryState.SENDING)
        with locked(bench.node.worklist):
            bench.pacs.thaw()
            bench.node.wait(lambda: bench.pacs.instances(number), 20.0, "a stored segmentation")
            assert len(bench.pacs.instances(number)) == 1
            yield
    finally:
        bench.pacs.thaw()


@contextmanager
def all_sent(bench: Bench, study: Study) -> Iterator[None]:
    """The PACS stored everything; the delivery's end is not written."""
    when = "NEW.state = 'sent' AND OLD.state = 'sending'"
    with refused(bench.node.worklist, "deliveries", "UPDATE", when):
        bench.send_all(study.files)
        number = study.study_instance_uid
        bench.node.wait(lambda: len(bench.pacs.instances(number)) == 2, 60.0, "both objects")
        wait_delivery(bench, study, DeliveryState.SENDING)
        yield


@contextmanager
def unconfirmed(bench: Bench, study: Study) -> Iterator[None]:
    """The delivery is sent, the PACS was not asked yet whether it keeps it."""
    bench.send_all(study.files)
    wait_delivery(bench, study, DeliveryState.SENT)
    yield


def wait_delivery(bench: Bench, study: Study, state: DeliveryState) -> None:
    def is_so() -> bool:
        found = bench.node.deliveries(study.study_instance_uid)
        return bool(found) and found[-1].state is state

    bench.node.wait(is_so, 60.0, f"a delivery that is {state}")


ARROWS = [
    (file_without_row, "receive"),
    (received, "receive"),
    (received, "dispatch"),
    (complete, "dispatch"),
    (queued, "work"),
    (running, "work"),
    (running, "child"),
    (written, "work"),
    (written, "child"),
    (finished, "deliver"),
    (half_sent, "deliver"),
    (all_sent, "deliver"),
    (unconfirmed, "deliver"),
]
# Where what is held is a transaction, the other engine holds it in another way.
ON_POSTGRESQL = [
    (file_without_row, "receive"),
    (complete, "dispatch"),
    (written, "work"),
    (half_sent, "deliver"),
]
ALL = [(arrow, "serve") for arrow in dict.fromkeys(arrow for arrow, _ in ARROWS)]


def kill_at(bench: Bench, arrow: Situation, victim: str) -> None:
    """Kill a process at an arrow, let everything go on, and see what came of it."""
    node = bench.node
    study = bench.study(f"{arrow.__name__} {victim} {node.worklist.is_sqlite}")
    number = study.study_instance_uid
    with arrow(bench, study):
        node.kill(victim)
    node.ensure_running()
    bench.send_all(study.files)
    node.wait_settled(number)
    if arrow is unconfirmed:
        wait_delivery(bench, study, DeliveryState.CONFIRMED)
    (job,) = node.jobs(number)
    assert job.state is JobState.DONE, node.words(job.reason)
    assert len(bench.pacs.instances(number)) == 2
    bench.check()


@pytest.mark.parametrize(("arrow", "victim"), ARROWS)
def test_a_process_killed_at_an_arrow(bench: Bench, arrow: Situation, victim: str) -> None:
    kill_at(bench, arrow, victim)


@pytest.mark.parametrize(("arrow", "victim"), ON_POSTGRESQL)
def test_a_process_killed_at_an_arrow_on_postgresql(
    postgresql_bench: Bench, arrow: Situation, victim: str
) -> None:
    kill_at(postgresql_bench, arrow, victim)


@pytest.mark.parametrize(("arrow", "victim"), ALL)
def test_the_whole_node_killed_at_an_arrow(bench: Bench, arrow: Situation, victim: str) -> None:
    kill_at(bench, arrow, victim)


# Each durable step of taking an object in: rows of the association and the object, the file, its
# folder, its name, and the answer. ``when`` counts in the association's thread.
STEPS = [
    ("fsync,fdatasync", 1),
    ("fsync,fdatasync", 2),
    ("fsync,fdatasync", 3),
    ("fsync,fdatasync", 4),
    ("rename", 1),
    ("sendto", 2),
]


def test_the_receiver_killed_at_each_step_of_taking_an_object_in(bench: Bench) -> None:
    node = bench.node
    for system_call, number in STEPS:
        study = bench.study(f"taken in {system_call} {number}", slices=1)
        fault = f"signal=KILL:when={number}"
        with injected(node, "receive", system_call, fault) as pid:
            assert bench.send(study.files) == 0
            wait_dead(node, pid)
        bench.send_all(study.files)
        node.wait_settled(study.study_instance_uid)
        (job,) = node.jobs(study.study_instance_uid)
        assert job.input_count == 1
    bench.check()

"""Which sets a job builds: one for each form that a peer wants, and another for a report."""

from __future__ import annotations

from dicomnode.config import Settings
from dicomnode.rules.states import Mode
from dicomnode.stages.analyse.result_sets import SetPlanner
from dicomnode.worklist import Worklist, jobs
from tests.worklist_data import make_job, whole_study

BOTH = ("seg", "sr")


def settings(**presents: tuple[str, ...]) -> Settings:
    peers = {
        name: {"ae_title": name.upper(), "host": "h", "port": 104, "sends_to": True}
        | {"presents": kinds}
        for name, kinds in presents.items()
    }
    to = {"lung-nodule": {"deliver_to": tuple(presents)}}
    return Settings.model_validate({"peers": peers, "pipelines": to})


def planner(worklist: Worklist, mode: Mode = Mode.LIVE, **presents: tuple[str, ...]) -> SetPlanner:
    job_id = make_job(worklist, whole_study(worklist), mode=mode)
    with worklist.read() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return SetPlanner(worklist, settings(**presents), job)


def test_peers_that_want_the_same_share_one_set(worklist: Worklist) -> None:
    planned = planner(worklist, pacs=BOTH, archive=BOTH, viewer=("sr",)).plan()
    assert len(planned.sets) == 2
    assert [one.peer for one in planned.deliveries] == ["archive", "pacs", "viewer"]
    assert len({one.key for one in planned.sets}) == 2


def test_the_report_of_a_failure_is_another_object_than_that_of_the_result(
    worklist: Worklist,
) -> None:
    given = planner(worklist, pacs=(*BOTH, "status"))
    [real] = given.plan().sets
    [status] = given.plan(is_status=True).sets
    assert real.form != status.form
    assert real.key != status.key, "every UID derives from it"
    assert real.presents == status.presents


def test_only_peers_that_ask_for_it_get_the_report_of_a_failure(worklist: Worklist) -> None:
    planned = planner(worklist, pacs=(*BOTH, "status"), archive=BOTH).plan(is_status=True)
    assert [one.peer for one in planned.deliveries] == ["pacs"]


def test_in_shadow_a_set_is_built_and_sent_to_nobody(worklist: Worklist) -> None:
    given = planner(worklist, Mode.SHADOW, pacs=(*BOTH, "status"))
    assert (len(given.plan().sets), given.plan().deliveries) == (1, ())
    assert given.plan(is_status=True).sets == ()

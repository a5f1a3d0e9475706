"""Which jobs a complete study gets, written in one transaction, on both engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from dicomnode.config import Settings
from dicomnode.dicom.headers import Header
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.routing import NoRoute, PlannedJob
from dicomnode.rules.states import (
    PRIORITY_RANK,
    Decision,
    JobState,
    Mode,
    Outcome,
    Priority,
    StudyState,
)
from dicomnode.sdk.match import Match, Preference, Select, most_slices, thinnest_slices
from dicomnode.stages.route import Route, decide_files, decide_study, rule_of
from dicomnode.worklist import Worklist, jobs, pipelines, retention, routes, series, studies
from dicomnode.worklist.events import Act
from dicomnode.worklist.jobs import Job
from tests import worklist_data
from tests.postgres import Clock
from tests.stages_data import Series, arrive, install, send, settings, study_of

THIN, THICK = Series(name="thin", slices=6), Series(name="thick", slices=3, spacing_mm=5.0)
BEST = Select(prefer=(thinnest_slices(), most_slices()))


def close(worklist: Worklist, name: str = "study", by: str = "quiet") -> None:
    study = study_of(worklist, name)
    with worklist.write() as tx:
        act = Act(now_ms=worklist.now())
        seen = study.generation
        assert studies.complete(tx, study.id, seen_generation=seen, by=by, act=act)


def routed(worklist: Worklist, settings_: Settings | None = None) -> None:
    """Close the study and route it."""
    close(worklist)
    stage = Route(worklist, settings_ or settings())
    while stage.step():
        pass


def jobs_of(worklist: Worklist, name: str = "study") -> list[Job]:
    with worklist.read() as tx:
        return jobs.of_study(tx, study_of(worklist, name).id)


def decisions(worklist: Worklist) -> list[tuple[str, Decision]]:
    with worklist.read() as tx:
        rows = routes.of_study(tx, study_of(worklist).id)
    return [(row.pipeline, row.decision) for row in rows]


def end(worklist: Worklist, job_id: int) -> None:
    """End a job as a worker does, with results for nobody."""
    claimed = worklist_data.claim(worklist)
    assert claimed.job.id == job_id
    worklist_data.finish(worklist, claimed, worklist_data.done(claimed))


def test_the_best_series_gets_one_job_and_the_decision_says_why(worklist: Worklist) -> None:
    install(worklist, select=BEST)
    send(worklist, THICK)
    send(worklist, THIN)
    routed(worklist)

    (job,) = jobs_of(worklist)
    assert job.state is JobState.QUEUED
    assert job.input_count == 6
    study = study_of(worklist)
    assert study.routed_generation == study.generation
    with worklist.read() as tx:
        (row,) = routes.of_study(tx, study.id)
        assert (
            series.get(tx, job.series_id or 0).series_instance_uid
            == THIN.header(0).series_instance_uid
        )  # type: ignore[union-attr]
    assert row.decision is Decision.JOB
    assert row.job_id == job.id
    assert {"keyword": "Modality", "found": "CT", "wanted": "CT", "ok": True} in [
        dict(tried) for tried in row.trace
    ]


def test_nothing_is_routed_before_the_pipelines_are_described(worklist: Worklist) -> None:
    send(worklist, THIN)
    close(worklist)
    stage = Route(worklist, settings())
    assert not stage.step()
    install(worklist)
    assert stage.step()
    assert len(jobs_of(worklist)) == 1


def test_a_study_that_nobody_wants_says_what_the_nearest_pipeline_wanted(
    worklist: Worklist,
) -> None:
    install(worklist)
    send(worklist, Series(modality="MR"))
    routed(worklist)
    study = study_of(worklist)
    assert jobs_of(worklist) == []
    assert study.outcome is Outcome.NO_ROUTE
    assert study.reason is not None
    told = study.reason.parameters
    assert (told["keyword"], told["wanted"], told["found"]) == ("Modality", "CT", "MR")


def test_a_late_slice_makes_a_job_only_for_the_pipeline_whose_series_got_it(
    worklist: Worklist,
) -> None:
    thickest = Select(prefer=(Preference("spacing", descending=True),))
    install(worklist, "nodules", select=BEST)
    install(worklist, "calcium", select=thickest)
    install(worklist, "brain", Match(modality="MR"))
    for one in (THIN, THICK, Series(name="mr", modality="MR")):
        send(worklist, one)
    routed(worklist)
    before = {job.pipeline: job for job in jobs_of(worklist)}
    assert set(before) == {"nodules", "calcium", "brain"}

    arrive(worklist, THIN.header(99))
    assert study_of(worklist).state is StudyState.RECEIVING
    routed(worklist)
    (late,) = [job for job in jobs_of(worklist) if job.id not in {j.id for j in before.values()}]
    assert (late.pipeline, late.input_count) == ("nodules", 7)
    old = next(job for job in jobs_of(worklist) if job.id == before["nodules"].id)
    assert old.state is JobState.SUPERSEDED
    assert old.superseded_by == late.id
    assert old.reason is not None
    assert sentence(old.reason) == (
        f"Superseded by job {late.id}, because 1 image was added or changed."
    )
    assert dict(decisions(worklist)) == {
        "nodules": Decision.JOB,
        "calcium": Decision.SAME_AGAIN,
        "brain": Decision.SAME_AGAIN,
    }


def test_the_same_study_again_makes_no_new_job(worklist: Worklist) -> None:
    install(worklist)
    send(worklist, THIN)
    routed(worklist)
    end(worklist, jobs_of(worklist)[0].id)
    send(worklist, THIN, peer="ct9")
    assert study_of(worklist).state is StudyState.COMPLETE
    assert not Route(worklist, settings()).step()
    assert len(jobs_of(worklist)) == 1


def test_a_late_slice_of_a_purged_series_waits_until_the_series_was_sent_again(
    worklist: Worklist, clock: Clock
) -> None:
    install(worklist)
    send(worklist, THIN)
    routed(worklist)
    (good,) = jobs_of(worklist)
    end(worklist, good.id)
    with worklist.write() as tx:
        assert retention.purge_images(tx, study_of(worklist).id, Act(now_ms=clock.now_ms)).images

    arrive(worklist, THIN.header(99))
    routed(worklist)
    assert [job.id for job in jobs_of(worklist)] == [good.id]
    with worklist.read() as tx:
        (row,) = routes.of_study(tx, study_of(worklist).id)
    assert row.decision is Decision.NO_ROUTE
    assert row.reason == Reason("study.images_gone", {"n": 6})
    assert sentence(row.reason) == (
        "Not analysed: 6 images of it are not kept here any more; have the study sent again."
    )

    clock.move(20 * 86_400)
    send(worklist, THIN, numbers=range(5))
    stage = Route(worklist, settings())
    assert not stage.step(), "one is still missing"
    send(worklist, THIN, numbers=[5])
    assert stage.step()
    (old, late) = jobs_of(worklist)
    assert (old.state, late.input_count) == (JobState.SUPERSEDED, 7)


def test_images_that_were_purged_and_came_again_are_purged_again_in_their_time(
    worklist: Worklist, clock: Clock
) -> None:
    install(worklist)
    send(worklist, THIN)
    routed(worklist)
    end(worklist, jobs_of(worklist)[0].id)
    study_id = study_of(worklist).id
    with worklist.write() as tx:
        retention.purge_images(tx, study_id, Act(now_ms=clock.now_ms))
    clock.move(20 * 86_400)
    send(worklist, THIN)
    while Route(worklist, settings()).step():
        pass
    assert ("lung-nodule", Decision.SAME_AGAIN) in decisions(worklist)
    with worklist.read() as tx:
        assert retention.purgeable(tx, older_than_ms=clock.now_ms - 1) == []
        assert retention.purgeable(tx, older_than_ms=clock.now_ms) == [study_id]


def test_an_upgrade_alone_analyses_nothing_again(worklist: Worklist) -> None:
    install(worklist)
    send(worklist, THIN)
    routed(worklist)
    end(worklist, jobs_of(worklist)[0].id)
    install(worklist, version="2.0.0")
    stage = Route(worklist, settings())
    assert not stage.step()
    # Nor when something comes that the pipeline does not look at.
    send(worklist, Series(name="mr", modality="MR"))
    routed(worklist)
    assert [job.version for job in jobs_of(worklist)] == ["1.0.0"]
    assert decisions(worklist) == [("lung-nodule", Decision.SAME_AGAIN)]


def test_what_is_decided_while_an_image_comes_is_not_written(worklist: Worklist) -> None:
    install(worklist)
    send(worklist, THIN)
    close(worklist)
    stage = Route(worklist, settings())
    seen = study_of(worklist)
    arrive(worklist, THIN.header(77))
    stage._route(seen, worklist.now())
    assert jobs_of(worklist) == []
    assert decisions(worklist) == []


def test_outside_its_hours_a_job_is_held_until_they_begin(worklist: Worklist, clock: Clock) -> None:
    install(worklist)
    send(worklist, THIN)
    # 1 800 000 000 is a Friday, 08:00 UTC.
    night = settings(node={"zone": "UTC"}, pipelines={"lung-nodule": {"hours": "18:00-06:00"}})
    routed(worklist, night)
    (job,) = jobs_of(worklist)
    assert job.state is JobState.HELD
    assert job.due_at == clock.now_ms + 10 * 3_600_000
    assert job.reason is not None
    assert job.reason.code == "job.outside_hours"


def test_a_typo_in_the_hours_of_one_pipeline_stops_that_one_alone(worklist: Worklist) -> None:
    install(worklist)
    install(worklist, "organ-segmentation")
    send(worklist, THIN)
    routed(worklist, settings(pipelines={"lung-nodule": {"hours": "mon-fry 18:00-06:00"}}))
    assert [job.pipeline for job in jobs_of(worklist)] == ["organ-segmentation"]
    with worklist.read() as tx:
        rows = routes.of_study(tx, study_of(worklist).id)
    (broken,) = [row.reason for row in rows if row.pipeline == "lung-nodule"]
    assert broken is not None
    assert broken.code == "pipeline.broken"
    assert "hours: “mon-fry 18:00-06:00”: fry is not one of mon" in sentence(broken)


def test_a_series_outside_the_limits_is_declined_with_the_numbers(worklist: Worklist) -> None:
    install(worklist, select=Select(minimum_slices=40))
    send(worklist, THIN)
    routed(worklist)
    (job,) = jobs_of(worklist)
    assert job.state is JobState.DECLINED
    assert job.reason is not None
    assert job.reason.code == "declined.too_few"
    assert (job.reason.parameters["n"], job.reason.parameters["min"]) == (6, 40)


@pytest.mark.parametrize(
    ("section", "mode", "rank"),
    [
        ({}, Mode.LIVE, Priority.NORMAL),
        ({"mode": "shadow", "priority": "later"}, Mode.SHADOW, Priority.LATER),
    ],
)
def test_mode_and_priority_are_the_tomls(
    worklist: Worklist, section: Mapping[str, Any], mode: Mode, rank: Priority
) -> None:
    install(worklist)
    send(worklist, THIN)
    routed(worklist, settings(pipelines={"lung-nodule": section}))
    (job,) = jobs_of(worklist)
    assert (job.mode, job.priority) == (mode, PRIORITY_RANK[rank])


def test_what_an_admin_switched_stands_before_the_toml(worklist: Worklist) -> None:
    install(worklist)
    with worklist.write() as tx:
        pipelines.set_mode(tx, "lung-nodule", Mode.SHADOW, Act(now_ms=worklist.now()))
    send(worklist, THIN)
    routed(worklist, settings(pipelines={"lung-nodule": {"mode": "live"}}))
    assert jobs_of(worklist)[0].mode is Mode.SHADOW


def test_the_called_ae_title_has_a_use_of_its_own(worklist: Worklist) -> None:
    install(worklist, "nodules")
    install(worklist, "bones")
    extra = {"title": "BONES", "pipelines": ["bones"], "priority": "urgent"}
    send(worklist, THIN, called="BONES")
    routed(worklist, settings(listen={"ae_titles": [extra]}))
    (job,) = jobs_of(worklist)
    assert (job.pipeline, job.priority) == ("bones", PRIORITY_RANK[Priority.URGENT])


def test_a_required_series_is_waited_for_and_then_declined(
    worklist: Worklist, clock: Clock
) -> None:
    needs = Select(
        require=(
            Match(modality="CT", body_part="CHEST"),
            Match(modality="CT", body_part="ABDOMEN"),
        ),
        deadline_s=1800,
    )
    install(worklist, select=needs)
    send(worklist, THIN)
    routed(worklist)
    assert decisions(worklist) == [("lung-nodule", Decision.WAITING)]
    assert study_of(worklist).outcome is Outcome.WAITING
    assert jobs_of(worklist) == []

    clock.move(1801)
    with worklist.read() as tx:
        due = routes.due(tx, clock.now_ms)
    with worklist.write() as tx:
        for study_id in due:
            studies.unroute(tx, study_id)
    stage = Route(worklist, settings())
    assert stage.step()
    (job,) = jobs_of(worklist)
    assert job.reason is not None
    assert job.reason.code == "declined.series_missing"


def test_explaining_writes_nothing(worklist: Worklist, clock: Clock) -> None:
    install(worklist)
    send(worklist, THIN)
    with worklist.read() as tx:
        (decided,) = decide_study(tx, study_of(worklist), settings(), clock.now_ms)
    assert isinstance(decided, PlannedJob)
    assert jobs_of(worklist) == []


def test_files_that_nobody_sent_are_explained_by_the_same_rules(worklist: Worklist) -> None:
    install(worklist)
    with worklist.read() as tx:
        rules = [rule_of(row, settings()) for row in pipelines.all_of(tx)]
    wanted: list[Header] = [THIN.header(number) for number in range(6)]
    other = [Series(modality="MR").header(0)]
    (job,) = decide_files(wanted, rules, settings(), 0)
    (none,) = decide_files(other, rules, settings(), 0)
    assert isinstance(job, PlannedJob)
    assert job.series[0].slice_count == 6
    assert isinstance(none, NoRoute)


def test_a_study_that_cannot_be_worked_with_lets_the_others_go_first(
    worklist: Worklist, clock: Clock
) -> None:
    install(worklist)
    broken = dataclasses.replace(THIN.header(0), image_position=("a", "b", "c"))  # type: ignore[arg-type]
    other = dataclasses.replace(THIN.header(1), image_position=(0.0, 0.0, 1.0))
    arrive(worklist, broken)
    arrive(worklist, other)
    send(worklist, dataclasses.replace(THIN, study="well"))
    close(worklist)
    close(worklist, "well")
    stage = Route(worklist, settings())
    while stage.step():
        pass
    assert len(jobs_of(worklist, "well")) == 1
    assert jobs_of(worklist) == []
    clock.move(61)
    assert stage.step()

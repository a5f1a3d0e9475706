"""Jobs: made once, claimed by one, fenced, retried, superseded; ends in one transaction."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from sqlalchemy import func, select

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import (
    DeliveryState,
    JobState,
    Mode,
    Outcome,
    Priority,
    StudyState,
)
from dicomnode.worklist import (
    attempts,
    deliveries,
    jobs,
    notifications,
    peers,
    pipelines,
    processes,
    results,
    retention,
    sending,
    series,
    story,
    studies,
    work,
)
from dicomnode.worklist import schema as rows
from dicomnode.worklist.claims import Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.ends import FinishedKind, JobEnd
from dicomnode.worklist.notifications import NewNotification
from dicomnode.worklist.pipelines import Description
from dicomnode.worklist.processes import NewProcess
from dicomnode.worklist.work import JobRetry, Progress
from tests.postgres import Clock
from tests.worklist_data import (
    LEASE_MS,
    act,
    arrival,
    claim,
    complete,
    done,
    done_job,
    finish,
    make_job,
    new_job,
    plan,
    result,
    take,
    to,
    whole_study,
)


def job_of(worklist: Worklist, job_id: int) -> jobs.Job:
    with worklist.read() as tx:
        found = jobs.get(tx, job_id)
    assert found is not None
    return found


def study_of(worklist: Worklist, study_id: int) -> studies.Study:
    with worklist.read() as tx:
        found = studies.get(tx, study_id)
    assert found is not None
    return found


def nothing_to_claim(worklist: Worklist) -> bool:
    return work.claim_next(worklist, owner="w9", lease_ms=LEASE_MS) is None


def test_the_same_inputs_make_one_job(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    with worklist.write() as tx:
        first = jobs.create(tx, new_job(tx, study_id), act(worklist))
        second = jobs.create(tx, new_job(tx, study_id), act(worklist))
    assert (first.is_new, second.is_new) == (True, False)
    assert first.job_id == second.job_id


def test_a_new_job_supersedes_what_its_line_had(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    before = make_job(worklist, study_id)
    claimed = claim(worklist)
    take(worklist, arrival(9))
    complete(worklist, study_id)
    after = make_job(worklist, study_id)
    old = job_of(worklist, before)
    assert (old.state, old.superseded_by) == (JobState.SUPERSEDED, after)
    assert old.fence == claimed.fence + 1
    with pytest.raises(LeaseLostError):
        finish(worklist, claimed, done(claimed))
    with worklist.write() as tx, pytest.raises(LeaseLostError):
        work.heartbeat(tx, before, claimed.fence, worklist.now() + LEASE_MS)


def test_inputs_that_come_back_are_a_run_of_their_own(worklist: Worklist) -> None:
    """A, B, A: the third job has the first one's inputs and another key."""
    study_id = whole_study(worklist)
    with worklist.write() as tx:
        first_plan = new_job(tx, study_id)
        first = jobs.create(tx, first_plan, act(worklist))
        other = dataclasses.replace(
            first_plan, parts=dataclasses.replace(first_plan.parts, version="1.0.1")
        )
        jobs.create(tx, other, act(worklist))
        third = jobs.create(tx, first_plan, act(worklist))
        again = jobs.create(tx, first_plan, act(worklist))
        found = jobs.get(tx, third.job_id)
    assert found is not None
    assert (third.is_new, found.run) == (True, 1)
    assert third.job_id != first.job_id
    assert (again.is_new, again.job_id) == (False, third.job_id)


def test_shadow_and_live_are_lines_of_their_own(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    live = make_job(worklist, study_id)
    shadow = make_job(worklist, study_id, mode=Mode.SHADOW)
    assert job_of(worklist, live).state is JobState.QUEUED
    assert job_of(worklist, shadow).state is JobState.QUEUED
    with worklist.write() as tx:
        assert not jobs.create(tx, new_job(tx, study_id, mode=Mode.SHADOW), act(worklist)).is_new
        lines = jobs.analysed(tx, study_id)
    assert len(lines) == 2
    assert len(set(lines.values())) == 1


def test_the_most_urgent_job_goes_first_then_the_oldest(worklist: Worklist, clock: Clock) -> None:
    made = []
    for number, priority in enumerate((Priority.LATER, Priority.NORMAL, Priority.NORMAL)):
        study_id = whole_study(worklist, 1, study=f"5.{number}")
        made.append(make_job(worklist, study_id, priority=priority))
        clock.move(1)
    urgent = make_job(worklist, whole_study(worklist, 1, study="5.9"), priority=Priority.URGENT)
    order = [claim(worklist).job.id for _ in range(4)]
    assert order == [urgent, made[1], made[2], made[0]]
    assert nothing_to_claim(worklist)


def test_a_claim_sets_owner_lease_fence_and_a_try(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    make_job(worklist, study_id)
    claimed = work.claim_next(worklist, owner="w1", lease_ms=LEASE_MS)
    assert claimed is not None
    job = job_of(worklist, claimed.job.id)
    assert (job.state, job.lease_owner, job.fence, job.tries) == (JobState.RUNNING, "w1", 1, 1)
    assert (job.lease_until, job.started_at) == (clock() + LEASE_MS, clock())
    assert study_of(worklist, study_id).outcome is Outcome.IN_PROGRESS
    clock.move(5)
    with worklist.write() as tx:
        progress = Progress(stage="analyse", percent=62, device="cuda:0")
        work.heartbeat(tx, job.id, claimed.fence, clock() + LEASE_MS, progress)
        [tried] = attempts.of_jobs(tx, [job.id])
    job = job_of(worklist, claimed.job.id)
    assert (job.lease_until, job.stage, job.progress) == (clock() + LEASE_MS, "analyse", 62)
    assert (tried.number, tried.owner, tried.ended_at) == (1, "w1", None)


def test_a_lease_that_ran_out_is_taken_over_and_the_old_worker_fenced(
    worklist: Worklist, clock: Clock
) -> None:
    study_id = whole_study(worklist)
    make_job(worklist, study_id)
    first = claim(worklist, "w1")
    assert nothing_to_claim(worklist)
    clock.move(LEASE_MS / 1000 + 1)
    second = work.claim_next(worklist, owner="w2", lease_ms=LEASE_MS)
    assert second is not None
    assert second.fence > first.fence
    assert (second.job.lost_leases, second.job.tries, second.attempt) == (1, 1, 2)
    with pytest.raises(LeaseLostError):
        finish(worklist, first, done(first))
    with worklist.write() as tx, pytest.raises(LeaseLostError):
        work.release(tx, first.job.id, first.fence, worklist.now())
    assert finish(worklist, second, done(second, to())).kind is FinishedKind.ENDED
    with worklist.read() as tx:
        tries = attempts.of_jobs(tx, [second.job.id])
        assert len(results.of_job(tx, second.job.id)) == 2
    assert [tried.outcome for tried in tries] == ["lost", "done"]


def test_a_job_that_loses_three_workers_is_parked(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    for lost in range(3):
        claim(worklist, f"w{lost}")
        clock.move(LEASE_MS / 1000 + 1)
        with worklist.write() as tx:
            assert work.free_expired(tx, clock()) == 1
        clock.move(60)
        with worklist.write() as tx:
            work.promote_held(tx, clock())
    job = job_of(worklist, job_id)
    assert (job.state, job.tries, job.lost_leases) == (JobState.FAILED, 0, 3)
    assert job.reason == Reason("failed.worker_lost", {"n": 3})
    assert study_of(worklist, study_id).outcome is Outcome.NEEDS_ATTENTION


@pytest.mark.parametrize("how", ["claimed next", "known to be dead"])
def test_whoever_parks_a_job_tells_of_it_once(worklist: Worklist, clock: Clock, how: str) -> None:
    job_id = make_job(worklist, whole_study(worklist))
    told: list[work.Parked] = []
    for _ in range(3):
        claim(worklist, "w1")
        if how == "claimed next":
            clock.move(LEASE_MS / 1000 + 1)
            work.claim_next(
                worklist,
                owner="w2",
                lease_ms=LEASE_MS,
                pipelines=[],
                tell=lambda _, one: told.append(one),
            )
        else:
            with worklist.write() as tx:
                work.release_owner(tx, "w1", clock(), lambda _, one: told.append(one))
        clock.move(31)
        with worklist.write() as tx:
            work.promote_held(tx, clock())
    (parked,) = told
    assert (parked.job.id, parked.reason.code) == (job_id, "failed.worker_lost")


def test_leases_of_a_dead_process_are_free_at_once(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    make_job(worklist, study_id)
    new = NewProcess(kind="work", name="work", host="a", pid=7, version="0.1.0")
    with worklist.write() as tx:
        process_id = processes.register(tx, new, worklist.now())
    claim(worklist, processes.owner_of(process_id, "work", 7))
    with worklist.write() as tx:
        [dead] = processes.alive(tx, 0, "work")
        assert work.release_owner(tx, dead.owner, worklist.now()) == 1
        assert processes.end(tx, process_id, worklist.now())
    assert claim(worklist, "w2").job.lost_leases == 1


def test_a_failed_try_waits_and_comes_again(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    claimed = claim(worklist)
    again = JobRetry(
        at_ms=clock() + 30_000,
        reason=Reason("job.retry_later", {"n": 1, "max": 3, "reason": "memory"}),
        stage_times={"load": 4.1},
    )
    with worklist.write() as tx:
        work.retry_later(tx, job_id, claimed.fence, again, clock())
    assert job_of(worklist, job_id).state is JobState.HELD
    assert study_of(worklist, study_id).outcome is Outcome.WAITING
    assert nothing_to_claim(worklist)
    clock.move(30)
    second = work.claim_next(worklist, owner="w1", lease_ms=LEASE_MS)
    assert second is not None
    assert (second.job.tries, second.attempt, second.job.lost_leases) == (2, 2, 0)
    with worklist.read() as tx:
        assert attempts.of_jobs(tx, [job_id])[0].stage_times == {"load": 4.1}


def test_a_killed_child_uses_up_no_try(worklist: Worklist, clock: Clock) -> None:
    job_id = make_job(worklist, whole_study(worklist))
    claimed = claim(worklist)
    killed = JobRetry(at_ms=clock(), reason=Reason("failed.killed"), counts=False)
    with worklist.write() as tx:
        work.retry_later(tx, job_id, claimed.fence, killed, clock())
    job = job_of(worklist, job_id)
    assert (job.state, job.tries, job.lost_leases) == (JobState.QUEUED, 0, 1)


def test_a_worker_that_is_stopped_gives_its_job_back_as_it_was(worklist: Worklist) -> None:
    job_id = make_job(worklist, whole_study(worklist))
    claimed = claim(worklist)
    with worklist.write() as tx:
        work.release(tx, job_id, claimed.fence, worklist.now())
    job = job_of(worklist, job_id)
    assert (job.state, job.tries, job.lost_leases) == (JobState.QUEUED, 0, 0)
    assert claim(worklist, "w2").attempt == 2


def test_the_end_of_a_job_leaves_everything_at_once(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    later = make_job(worklist, study_id, "chest-triage", priority=Priority.LATER)
    claimed = claim(worklist)
    assert claimed.job.id == job_id
    message = NewNotification(channel="log", target="log", what="job.done", job_id=job_id)
    end = done(
        claimed,
        to(),
        notifications=[message],
        facts={claimed.job.series_id: {"body_part": "CHEST"}},
        raise_to=Priority.URGENT,
        urgency="highly significant",
        finding_count=2,
        segment_count=2,
        stage_times={"load": 1.0},
        device="cpu",
    )
    before = study_of(worklist, study_id)
    assert finish(worklist, claimed, end).kind is FinishedKind.ENDED
    study = study_of(worklist, study_id)
    job = job_of(worklist, job_id)
    assert (job.state, job.is_current, job.lease_owner) == (JobState.DONE, True, None)
    assert (job.urgency, job.stage_times, job.device) == (
        "highly significant",
        {"load": 1.0},
        "cpu",
    )
    assert study.generation == before.generation + 1
    assert study.priority == 0
    assert job_of(worklist, later).priority == 0
    with worklist.read() as tx:
        assert len(results.of_job(tx, job_id)) == 2
        [delivery] = deliveries.of_job(tx, job_id)
        [found] = series.of_study(tx, study_id)
        assert [one.id for one in studies.unrouted(tx)] == [study_id]
    assert (delivery.state, delivery.priority, len(delivery.statuses)) == (
        DeliveryState.QUEUED,
        0,
        2,
    )
    assert found.facts == {"body_part": "CHEST"}
    sent = notifications.claim_next(worklist, owner="n", lease_ms=LEASE_MS)
    assert sent is not None
    assert sent.what == "job.done"


@pytest.mark.parametrize(
    ("found", "study_rank", "delivery_rank"), [(None, 2, 0), (Priority.NORMAL, 1, 0)]
)
def test_an_urgent_job_alone_makes_its_study_no_more_urgent(
    worklist: Worklist, found: Priority | None, study_rank: int, delivery_rank: int
) -> None:
    study_id = whole_study(worklist)
    with worklist.write() as tx:
        studies.set_priority(tx, study_id, Priority.LATER, act(worklist))
    make_job(worklist, study_id, priority=Priority.URGENT)
    later = make_job(worklist, study_id, "chest-triage", priority=Priority.LATER)
    claimed = claim(worklist)
    finish(worklist, claimed, done(claimed, to(), raise_to=found))
    assert study_of(worklist, study_id).priority == study_rank
    assert job_of(worklist, later).priority == study_rank
    with worklist.read() as tx:
        [delivery] = deliveries.of_job(tx, claimed.job.id)
    assert delivery.priority == delivery_rank


def test_an_end_whose_commit_was_not_answered_may_be_run_again(worklist: Worklist) -> None:
    make_job(worklist, whole_study(worklist))
    claimed = claim(worklist)
    end = done(claimed, to())
    finish(worklist, claimed, end)
    again = finish(worklist, claimed, end)
    assert (again.kind, again.unused_paths) == (FinishedKind.ENDED, ())
    with worklist.read() as tx:
        assert len(results.of_job(tx, claimed.job.id)) == 2
        assert len(deliveries.of_job(tx, claimed.job.id)) == 1
        paths = [one.path for one in end.results]
        assert results.known_paths(tx, [*paths, "other.dcm"]) == set(paths)


def test_facts_that_are_known_route_nothing_again(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    for pipeline in ("a", "b"):
        make_job(worklist, study_id, pipeline)
        claimed = claim(worklist)
        facts = {claimed.job.series_id: {"body_part": "CHEST"}}
        finish(worklist, claimed, done(claimed, facts=facts))
        with worklist.write() as tx:
            found = studies.get(tx, study_id)
            assert found is not None
            if pipeline == "a":
                assert studies.mark_routed(tx, study_id, found.generation)
    assert study_of(worklist, study_id).generation == 4


@pytest.mark.parametrize(
    ("state", "reason", "outcome"),
    [
        (JobState.DECLINED, Reason("declined.gap", {"n": 2}), Outcome.DONE),
        (JobState.FAILED, Reason("failed.gate", {"n": 1, "m": 62}), Outcome.NEEDS_ATTENTION),
    ],
)
def test_a_job_that_gave_nothing_says_why(
    worklist: Worklist, state: JobState, reason: Reason, outcome: Outcome
) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    claimed = claim(worklist)
    checks = {"failed": 1, "passed": 61}
    finish(worklist, claimed, JobEnd(state=state, reason=reason, checks=checks))
    job, study = job_of(worklist, job_id), study_of(worklist, study_id)
    assert (job.state, job.reason, job.is_current) == (state, reason, False)
    assert (job.checks, study.outcome, study.reason) == (checks, outcome, reason)


def test_cancel_and_retry_fence_out_who_runs_it(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    claimed = claim(worklist)
    with worklist.write() as tx:
        assert jobs.cancel(tx, job_id, act(worklist))
        assert not jobs.cancel(tx, job_id, act(worklist))
        assert not work.is_held(tx, job_id, claimed.fence)
    with worklist.write() as tx, pytest.raises(LeaseLostError):
        work.heartbeat(tx, job_id, claimed.fence, worklist.now() + 1)
    assert study_of(worklist, study_id).outcome is Outcome.DONE
    with worklist.write() as tx:
        assert jobs.retry(tx, job_id, act(worklist))
        assert not jobs.retry(tx, job_id, act(worklist))
    again = claim(worklist)
    assert (again.job.id, again.job.tries) == (job_id, 1)
    with pytest.raises(LeaseLostError):
        finish(worklist, claimed, done(claimed))


def failed(claimed: work.ClaimedJob, peer: str) -> JobEnd:
    """Give the end of a job that failed, with the report of that for one peer."""
    form = "e" * 64
    return JobEnd(
        state=JobState.FAILED,
        reason=Reason("failed.memory"),
        results=[result(claimed.job, claimed.fence, number=1, form=form)],
        deliveries=[deliveries.NewDelivery(peer=peer, form=form)],
    )


def test_the_result_of_a_job_tried_again_goes_after_the_report_of_its_failure(
    worklist: Worklist,
) -> None:
    study_id = whole_study(worklist)
    job_id = make_job(worklist, study_id)
    first = claim(worklist)
    report = failed(first, "pacs")
    finish(worklist, first, report)
    with worklist.write() as tx:
        assert jobs.retry(tx, job_id, act(worklist))
    second = claim(worklist)
    end = done(second, to("pacs"))
    assert finish(worklist, second, end).unused_paths == ()
    with worklist.read() as tx:
        [delivery] = deliveries.of_job(tx, job_id)
    sent = [entry.sop_instance_uid for entry in delivery.statuses]
    assert sent == [one.sop_instance_uid for one in (*report.results, *end.results)]
    assert job_of(worklist, job_id).is_current


def test_a_job_that_only_says_that_it_failed_takes_no_results_place(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    good = make_job(worklist, study_id)
    first = claim(worklist)
    finish(worklist, first, done(first, to("pacs"), to("archive")))
    with worklist.write() as tx:
        assert jobs.reprocess(tx, good, act(worklist))
    second = claim(worklist)
    finish(worklist, second, failed(second, "pacs"))
    assert job_of(worklist, good).is_current
    assert not job_of(worklist, second.job.id).is_current
    assert states(worklist, good) == [DeliveryState.QUEUED] * 2
    with worklist.write() as tx:
        assert jobs.reprocess(tx, second.job.id, act(worklist))
    third = claim(worklist)
    finish(worklist, third, done(third, to("pacs")))
    assert not job_of(worklist, good).is_current
    assert states(worklist, good) == [DeliveryState.WITHDRAWN] * 2
    assert states(worklist, second.job.id) == [DeliveryState.WITHDRAWN]


def states(worklist: Worklist, job_id: int) -> list[DeliveryState]:
    with worklist.read() as tx:
        return [delivery.state for delivery in deliveries.of_job(tx, job_id)]


def test_reprocess_makes_another_run_of_the_same_inputs(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    installed = Description(
        name="lung-nodule",
        version="1.1.0",
        match={},
        select={},
        takes="volume",
        settings={"a": 1},
        weights={},
    )
    with worklist.write() as tx:
        pipelines.describe(tx, [installed], worklist.now())
        made = jobs.reprocess(tx, job_id, act(worklist, why="new version"))
        assert made is not None
        assert jobs.reprocess(tx, job_id, act(worklist)) is None
    job = job_of(worklist, made.job_id)
    assert (job.run, job.version, job.settings, job.input_count) == (1, "1.1.0", {"a": 1}, 3)
    assert made.superseded == (job_id,)
    before = job_of(worklist, job_id)
    assert before.state is JobState.SUPERSEDED
    assert before.is_current
    assert before.reason == Reason("job.superseded", {"job": made.job_id})
    assert sentence(before.reason) == f"Superseded by job {made.job_id}."


def test_a_job_whose_images_are_purged_stays_as_it_is(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    done_id = make_job(worklist, study_id)
    claimed = claim(worklist)
    finish(worklist, claimed, done(claimed))
    cancelled_id = make_job(worklist, study_id, "organ-segmentation")
    with worklist.write() as tx:
        assert jobs.cancel(tx, cancelled_id, act(worklist))
        assert retention.purge_images(tx, study_id, act(worklist)).images
    with worklist.write() as tx:
        assert jobs.reprocess(tx, done_id, act(worklist)) is None
        assert not jobs.retry(tx, cancelled_id, act(worklist))
    assert job_of(worklist, done_id).state is JobState.DONE
    assert job_of(worklist, cancelled_id).state is JobState.CANCELLED


def test_a_suspended_pipeline_starts_nothing_and_says_so(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    make_job(worklist, study_id)
    found = Description(
        name="lung-nodule",
        version="1",
        match={},
        select={},
        takes="volume",
        settings={},
        weights={},
    )
    with worklist.write() as tx:
        pipelines.describe(tx, [found], worklist.now())
        assert pipelines.suspend(tx, "lung-nodule", act(worklist))
        assert not pipelines.suspend(tx, "unknown", act(worklist))
        waiting = studies.waiting_on(tx, pipeline="lung-nodule")
        studies.refresh_waiting(tx, waiting)
    assert waiting == [study_id]
    assert nothing_to_claim(worklist)
    reason = study_of(worklist, study_id).reason
    assert reason is not None
    assert (reason.code, reason.parameters["user"]) == ("job.suspended", "anna")
    with worklist.write() as tx:
        pipelines.describe(tx, [found], worklist.now())
        assert pipelines.resume(tx, "lung-nodule", act(worklist))
        studies.refresh_waiting(tx, waiting)
    assert claim(worklist).job.study_id == study_id


def test_a_job_outside_its_hours_is_held_until_they_begin(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    until = clock() + 3_600_000
    reason = Reason("job.outside_hours", {"pipeline": "lung-nodule", "until_at": until})
    make_job(worklist, study_id, state=JobState.HELD, due_at=until, reason=reason)
    assert study_of(worklist, study_id).reason == reason
    assert nothing_to_claim(worklist)
    clock.move(3600)
    assert work.claim_next(worklist, owner="w", lease_ms=LEASE_MS) is not None


def test_the_answer_why_counts_what_the_rows_count(worklist: Worklist, clock: Clock) -> None:
    ids = [whole_study(worklist, 1, study=f"6.{n}") for n in range(3)]
    for study_id in ids:
        make_job(worklist, study_id)
    with worklist.read() as tx:
        [reason] = story.why(tx, ids[2], clock())
        assert reason.code == "job.no_worker"
    new = NewProcess(kind="work", name="work", host="a", pid=7, version="0.1.0")
    with worklist.write() as tx:
        processes.register(tx, new, clock())
    first = claim(worklist)
    clock.move(10)
    finish(worklist, first, done(first))
    with worklist.read() as tx:
        [reason] = story.why(tx, ids[2], clock())
        ahead = tx.execute(
            select(func.count())
            .select_from(rows.jobs)
            .where(rows.jobs.c.state == "queued", rows.jobs.c.study_id != ids[2])
        ).scalar_one()
        told = story.of_study(tx, first.job.study_id, clock())
    assert reason.parameters["ahead"] == ahead == 1
    assert reason.parameters["wait_s"] == pytest.approx(20)
    assert told is not None
    assert len(told.jobs[0].results) == 2
    assert [tried.outcome for tried in told.jobs[0].attempts] == ["done"]


def test_two_workers_never_claim_one_job(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    for number in range(12):
        make_job(worklist, study_id, f"pipeline-{number}")
    claimed: list[int] = []
    gate = threading.Barrier(4)

    def run(owner: str) -> None:
        gate.wait(10)
        while True:
            found = work.claim_next(worklist, owner=owner, lease_ms=LEASE_MS)
            if found is None:
                return
            claimed.append(found.job.id)
            finish(worklist, found, done(found))

    threads = [threading.Thread(target=run, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(claimed) == len(set(claimed)) == 12
    study = study_of(worklist, study_id)
    assert (study.outcome, study.state) == (Outcome.DONE, StudyState.COMPLETE)


def test_two_jobs_that_end_together_leave_no_stale_outcome(worklist: Worklist) -> None:
    for number in range(8):
        study_id = whole_study(worklist, 1, study=f"8.{number}")
        make_job(worklist, study_id, "a")
        make_job(worklist, study_id, "b")
        both = [claim(worklist), claim(worklist)]
        gate = threading.Barrier(2)

        def end(one: work.ClaimedJob, gate: threading.Barrier = gate) -> None:
            gate.wait(10)
            finish(worklist, one, done(one))

        threads = [threading.Thread(target=end, args=(one,)) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert study_of(worklist, study_id).outcome is Outcome.DONE


def test_the_claim_reads_its_index(worklist: Worklist) -> None:
    now_ms = worklist.now()
    for query, index in (
        (work._claimable(now_ms, None).limit(1), "ix_jobs_claim"),
        (work._expired(now_ms), "ix_jobs_lease"),
        (work._held_due(now_ms), "ix_jobs_held"),
        (sending._claimable("pacs", now_ms).limit(1), "ix_deliveries_claim"),
    ):
        assert index in plan(worklist, query)


def test_a_study_is_deleted_with_all_below_it_and_its_events_stay(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    done_job(worklist, study_id)
    with worklist.write() as tx:
        assert retention.delete_study(tx, study_id, act(worklist)) is None
        [delivery] = deliveries.of_study(tx, study_id)
        peers.suspend(tx, "pacs", act(worklist))
    with worklist.write() as tx:
        peers.resume(tx, "pacs", act(worklist))
    sent = sending.claim_next(worklist, "pacs", owner="d", lease_ms=LEASE_MS)
    assert sent is not None
    end = sending.DeliveryEnd(
        state=DeliveryState.FAILED,
        reason=Reason("delivery.not_negotiated", {"peer": "pacs", "sop_class": "SEG"}),
        objects=delivery.statuses,
    )
    with worklist.write() as tx:
        sending.finish(tx, delivery.id, sent.fence, end, worklist.now())
        assert studies.hold(tx, study_id, True, act(worklist))
        assert retention.delete_study(tx, study_id, act(worklist)) is None
        assert studies.hold(tx, study_id, False, act(worklist))
        gone = retention.delete_study(tx, study_id, act(worklist))
        assert gone is not None
        assert studies.get(tx, study_id) is None
    assert (len(gone.images), len(gone.results)) == (3, 2)
    with worklist.read() as tx:
        what = select(rows.events.c.what).where(rows.events.c.study_id == study_id)
        assert "study.deleted" in {row.what for row in tx.execute(what)}


def test_a_number_of_a_deleted_study_is_never_given_again(worklist: Worklist) -> None:
    first = whole_study(worklist)
    with worklist.write() as tx:
        assert retention.delete_study(tx, first, act(worklist)) is not None
    assert whole_study(worklist) != first


def test_a_lease_of_a_moment_ago_is_not_claimed_by_a_stale_look(worklist: Worklist) -> None:
    make_job(worklist, whole_study(worklist))
    claim(worklist)
    with worklist.write() as tx:
        lease = Lease(owner="w2", now_ms=worklist.now(), lease_ms=LEASE_MS)
        assert work.claim(tx, lease) is None
        assert work.running(tx) == [(1, 1)]

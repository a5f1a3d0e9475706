"""What became of a study, why it waits, and what a person may do about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.rules.actions import (
    ACTIONS,
    Action,
    asks_before_resend,
    refusal_for_delivery,
    refusal_for_job,
    refusal_for_quarantine,
    refusal_for_study,
)
from dicomnode.rules.catalogue import CATALOGUE
from dicomnode.rules.outcome import (
    DecisionStanding,
    DeliveryStanding,
    JobStanding,
    StudyStanding,
    outcome,
)
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import (
    Decision,
    DeliveryState,
    JobState,
    Mode,
    Outcome,
    Role,
    StudyState,
)
from dicomnode.rules.waiting import QueueFacts, explain, queue_reason

COMPLETE = StudyStanding(state=StudyState.COMPLETE, instance_count=400)
RECEIVING = replace(COMPLETE, state=StudyState.RECEIVING)
NO_ROUTE = DecisionStanding(
    Decision.NO_ROUTE, Reason("study.no_route", {"pipeline": "lung", "why": "switched off"})
)


def job(state: JobState, code: str | None = None, mode: Mode = Mode.LIVE) -> JobStanding:
    return JobStanding(state, mode, None if code is None else Reason(code))


def delivery(state: DeliveryState, code: str | None = None) -> DeliveryStanding:
    return DeliveryStanding(state, None if code is None else Reason(code))


DONE = job(JobState.DONE)
CONFIRMED = delivery(DeliveryState.CONFIRMED)


@pytest.mark.parametrize(
    ("study", "became", "code"),
    [
        (RECEIVING, Outcome.WAITING, "study.waiting_quiet"),
        (
            replace(RECEIVING, reason=Reason("study.waiting_count")),
            Outcome.WAITING,
            "study.waiting_count",
        ),
        (replace(RECEIVING, jobs=(DONE,)), Outcome.WAITING, "study.waiting_quiet"),
        (replace(COMPLETE, pending_count=1), Outcome.WAITING, "study.pending"),
        (replace(COMPLETE, is_routed=False), Outcome.WAITING, "study.routing"),
        (
            replace(COMPLETE, decisions=(DecisionStanding(Decision.WAITING),)),
            Outcome.WAITING,
            "study.waiting_series",
        ),
        (replace(COMPLETE, jobs=(job(JobState.QUEUED),)), Outcome.WAITING, "job.queued"),
        (
            replace(COMPLETE, jobs=(job(JobState.HELD, "job.outside_hours"),)),
            Outcome.WAITING,
            "job.outside_hours",
        ),
        (replace(COMPLETE, jobs=(job(JobState.RUNNING),)), Outcome.IN_PROGRESS, "job.running"),
        (
            replace(COMPLETE, jobs=(job(JobState.RUNNING), job(JobState.QUEUED))),
            Outcome.IN_PROGRESS,
            "job.queued",
        ),
        (
            replace(COMPLETE, jobs=(DONE,), deliveries=(delivery(DeliveryState.SENDING),)),
            Outcome.IN_PROGRESS,
            "delivery.sending",
        ),
        (
            replace(
                COMPLETE,
                jobs=(DONE,),
                deliveries=(delivery(DeliveryState.QUEUED, "delivery.peer_down"),),
            ),
            Outcome.WAITING,
            "delivery.peer_down",
        ),
        (replace(COMPLETE, jobs=(DONE,), deliveries=(CONFIRMED,)), Outcome.DONE, "job.done"),
        (
            replace(COMPLETE, jobs=(DONE, job(JobState.DECLINED, "declined.gap"))),
            Outcome.DONE,
            "declined.gap",
        ),
        (
            replace(COMPLETE, jobs=(DONE, job(JobState.FAILED, "failed.gate"))),
            Outcome.NEEDS_ATTENTION,
            "failed.gate",
        ),
        (
            replace(RECEIVING, jobs=(job(JobState.FAILED), job(JobState.RUNNING))),
            Outcome.NEEDS_ATTENTION,
            "failed.error",
        ),
        (
            replace(COMPLETE, jobs=(DONE,), deliveries=(delivery(DeliveryState.FAILED),)),
            Outcome.NEEDS_ATTENTION,
            "delivery.given_up",
        ),
        (
            replace(COMPLETE, jobs=(job(JobState.FAILED, "failed.error", Mode.SHADOW),)),
            Outcome.DONE,
            "job.shadow",
        ),
        (
            replace(
                COMPLETE,
                jobs=(job(JobState.SUPERSEDED), DONE),
                deliveries=(delivery(DeliveryState.WITHDRAWN), CONFIRMED),
            ),
            Outcome.DONE,
            "job.done",
        ),
        (
            replace(COMPLETE, jobs=(job(JobState.CANCELLED),), decisions=(NO_ROUTE,)),
            Outcome.DONE,
            "job.cancelled",
        ),
        (
            replace(COMPLETE, decisions=(NO_ROUTE, DecisionStanding(Decision.SAME_AGAIN))),
            Outcome.DONE,
            "study.same_again",
        ),
        (replace(COMPLETE, decisions=(NO_ROUTE,)), Outcome.NO_ROUTE, "study.no_route"),
        (COMPLETE, Outcome.NO_ROUTE, "study.no_route"),
        (replace(RECEIVING, role=Role.OWN), Outcome.DONE, "study.own_objects"),
        (replace(RECEIVING, role=Role.PRIOR), Outcome.DONE, "study.prior"),
    ],
)
def test_what_became_of_a_study(study: StudyStanding, became: Outcome, code: str) -> None:
    found, reason = outcome(study)
    assert (found, reason.code) == (became, code)


def test_no_route_tells_the_nearest_pipeline() -> None:
    further = DecisionStanding(Decision.NO_ROUTE, Reason("study.no_series"))
    assert outcome(replace(COMPLETE, decisions=(NO_ROUTE, further)))[1] == NO_ROUTE.reason


jobs = st.builds(JobStanding, st.sampled_from(JobState), st.sampled_from(Mode))
deliveries = st.builds(DeliveryStanding, st.sampled_from(DeliveryState))
studies = st.builds(
    StudyStanding,
    state=st.sampled_from(StudyState),
    is_routed=st.booleans(),
    pending_count=st.integers(0, 1),
    jobs=st.lists(jobs, max_size=4).map(tuple),
    deliveries=st.lists(deliveries, max_size=4).map(tuple),
)


@given(studies)
def test_a_study_is_done_only_when_nothing_is_open(study: StudyStanding) -> None:
    became, reason = outcome(study)
    is_open = (
        study.state is StudyState.RECEIVING
        or not study.is_routed
        or study.pending_count > 0
        or any(j.state in ("held", "queued", "running") for j in study.jobs)
        or any(d.state in ("queued", "sending") for d in study.deliveries)
    )
    failed = any(j.state == "failed" and j.mode == "live" for j in study.jobs) or any(
        d.state == "failed" for d in study.deliveries
    )
    assert (became is Outcome.NEEDS_ATTENTION) is failed
    assert (became in (Outcome.DONE, Outcome.NO_ROUTE)) is (not failed and not is_open)
    assert reason.code in CATALOGUE
    assert explain(study)


def test_the_answer_to_why_is_it_waiting_names_everything_in_order() -> None:
    study = replace(
        RECEIVING,
        reason=Reason("study.waiting_quiet"),
        jobs=(job(JobState.FAILED, "failed.gate"), job(JobState.QUEUED), job(JobState.QUEUED)),
        deliveries=(delivery(DeliveryState.QUEUED, "delivery.peer_down"),),
    )
    found = explain(study, QueueFacts(ahead=3, has_worker=True, seconds_per_job=30, worker_count=2))
    assert [reason.code for reason in found] == [
        "failed.gate",
        "study.waiting_quiet",
        "job.queued",
        "delivery.peer_down",
    ]
    assert found[2].parameters == {"ahead": 3, "wait_s": 60.0}


def test_a_suspended_job_keeps_its_own_reason_beside_the_queue() -> None:
    study = replace(COMPLETE, jobs=(job(JobState.QUEUED, "job.suspended"),))
    assert explain(study, QueueFacts(ahead=0, has_worker=False)) == [Reason("job.suspended")]


def test_a_finished_study_answers_with_what_became_of_it() -> None:
    study = replace(COMPLETE, jobs=(DONE,))
    assert explain(study, QueueFacts(ahead=0, has_worker=True)) == [Reason("job.done")]


@pytest.mark.parametrize(
    ("queue", "text"),
    [
        (
            QueueFacts(ahead=0, has_worker=False, device="cuda:0"),
            "Waiting, and no worker runs for cuda:0; nothing starts until one does.",
        ),
        (
            QueueFacts(ahead=0, has_worker=False),
            "Waiting, and no worker runs; nothing starts until one does.",
        ),
        (
            QueueFacts(ahead=2, has_worker=True),
            "Waiting for a free worker: 2 jobs are ahead.",
        ),
    ],
)
def test_a_queued_job_says_what_is_before_it(queue: QueueFacts, text: str) -> None:
    assert sentence(queue_reason(queue)) == text


ALLOWED_TO_JOBS = {
    Action.RETRY: {"failed", "declined", "cancelled", "held"},
    Action.CANCEL: {"held", "queued", "running"},
    Action.PRIORITY: {"held", "queued"},
}


@pytest.mark.parametrize(("action", "state"), list(product(Action, JobState)))
def test_what_may_be_done_to_a_job(action: Action, state: JobState) -> None:
    refusal = refusal_for_job(action, state)
    assert (refusal is None) is (state in ALLOWED_TO_JOBS.get(action, set()))
    assert refusal is None or refusal.endswith(".")


def test_nothing_is_analysed_again_whose_images_are_gone() -> None:
    gone = "Its images are not kept here any more; have the study sent again."
    assert refusal_for_job(Action.RETRY, JobState.DECLINED, are_images_kept=False) == gone
    assert refusal_for_job(Action.CANCEL, JobState.QUEUED, are_images_kept=False) is None
    for action in (Action.RETRY, Action.REPROCESS):
        study = replace(COMPLETE, jobs=(job(JobState.CANCELLED),))
        assert refusal_for_study(action, study) is None
        assert refusal_for_study(action, study, are_images_kept=False) == gone
    assert refusal_for_study(Action.DELETE, COMPLETE, are_images_kept=False) is None


def test_a_refusal_names_the_state_and_those_that_fit() -> None:
    assert refusal_for_job(Action.PRIORITY, JobState.DONE) == (
        "The job is done; priority is for jobs that are held or queued."
    )


@pytest.mark.parametrize(("action", "state"), list(product(Action, DeliveryState)))
def test_what_may_be_done_to_a_delivery(action: Action, state: DeliveryState) -> None:
    refusal = refusal_for_delivery(action, state)
    resent = state in {"queued", "sent", "confirmed", "failed"}
    assert (refusal is None) is (action is Action.RESEND and resent)


def test_only_what_is_confirmed_asks_before_it_is_sent_again() -> None:
    assert [state for state in DeliveryState if asks_before_resend(state)] == ["confirmed"]


@pytest.mark.parametrize(
    ("action", "study", "allowed"),
    [
        (Action.COMPLETE, RECEIVING, True),
        (Action.COMPLETE, replace(RECEIVING, pending_count=1), False),
        (Action.COMPLETE, COMPLETE, False),
        (
            Action.COMPLETE,
            replace(COMPLETE, decisions=(DecisionStanding(Decision.WAITING),)),
            True,
        ),
        (Action.REPROCESS, replace(COMPLETE, jobs=(DONE,)), True),
        (Action.REPROCESS, COMPLETE, False),
        (Action.REPROCESS, RECEIVING, False),
        (Action.REPROCESS, replace(COMPLETE, is_routed=False), False),
        (Action.DELETE, COMPLETE, True),
        (Action.DELETE, RECEIVING, False),
        (Action.DELETE, replace(COMPLETE, pending_count=1), False),
        (Action.DELETE, replace(COMPLETE, is_routed=False), False),
        (Action.DELETE, replace(COMPLETE, jobs=(job(JobState.RUNNING),)), False),
        (
            Action.DELETE,
            replace(COMPLETE, deliveries=(delivery(DeliveryState.QUEUED),)),
            False,
        ),
        (Action.RETRY, COMPLETE, False),
        (Action.RETRY, replace(COMPLETE, jobs=(job(JobState.FAILED), DONE)), True),
        (Action.CANCEL, replace(COMPLETE, jobs=(DONE,)), False),
        (Action.RESEND, COMPLETE, False),
        (Action.RESEND, replace(COMPLETE, deliveries=(CONFIRMED,)), True),
    ],
)
def test_what_may_be_done_to_a_study(action: Action, study: StudyStanding, allowed: bool) -> None:
    refusal = refusal_for_study(action, study)
    assert (refusal is None) is allowed
    assert refusal is None or refusal.endswith(".")


def test_a_study_that_is_held_is_not_deleted() -> None:
    assert refusal_for_study(Action.DELETE, COMPLETE, is_held=True) == (
        "The study is kept from being deleted; release it first."
    )


@pytest.mark.parametrize(("action", "state"), list(product(Action, ["held", "released"])))
def test_what_may_be_done_to_a_quarantined_object(action: Action, state: str) -> None:
    allowed = action in (Action.RELEASE, Action.DELETE) and state == "held"
    assert (refusal_for_quarantine(action, state) is None) is allowed


def test_every_action_has_its_rule_and_an_event_with_words() -> None:
    assert set(ACTIONS) == set(Action)
    assert all(rule.event in CATALOGUE for rule in ACTIONS.values())

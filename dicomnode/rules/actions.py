"""What a person may do to a study, job, delivery or quarantined object, and the answer if not.

One table for the command line and the pages: what does not fit the state is refused in words,
and what cannot be undone asks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dicomnode.rules.outcome import StudyStanding
from dicomnode.rules.states import (
    OPEN_DELIVERY_STATES,
    OPEN_JOB_STATES,
    Decision,
    DeliveryState,
    JobState,
    StudyState,
)


class Action(StrEnum):
    """A word of the command line, and of a button."""

    COMPLETE = "complete"
    RETRY = "retry"
    REPROCESS = "reprocess"
    CANCEL = "cancel"
    RESEND = "resend"
    PRIORITY = "priority"
    RELEASE = "release"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRule:
    """How an action is done: who may, whether it asks first, whether it wants a why, its event."""

    role: str
    asks: bool
    wants_why: bool
    event: str


ACTIONS: Mapping[Action, ActionRule] = MappingProxyType(
    {
        Action.COMPLETE: ActionRule(
            role="operator", asks=True, wants_why=False, event="study.completed_by_hand"
        ),
        Action.RETRY: ActionRule(role="operator", asks=False, wants_why=False, event="job.retried"),
        Action.REPROCESS: ActionRule(
            role="operator", asks=True, wants_why=True, event="study.reprocessed"
        ),
        Action.CANCEL: ActionRule(
            role="operator", asks=False, wants_why=False, event="job.cancelled_by_hand"
        ),
        Action.RESEND: ActionRule(
            role="operator", asks=False, wants_why=False, event="delivery.resent"
        ),
        Action.PRIORITY: ActionRule(
            role="operator", asks=False, wants_why=False, event="job.priority_set"
        ),
        Action.RELEASE: ActionRule(
            role="admin", asks=True, wants_why=True, event="quarantine.released"
        ),
        Action.DELETE: ActionRule(role="admin", asks=True, wants_why=False, event="study.deleted"),
    }
)

_JOB_STATES: Mapping[Action, frozenset[JobState]] = MappingProxyType(
    {
        Action.RETRY: frozenset(
            {JobState.FAILED, JobState.DECLINED, JobState.CANCELLED, JobState.HELD}
        ),
        Action.CANCEL: OPEN_JOB_STATES,
        Action.PRIORITY: frozenset({JobState.QUEUED, JobState.HELD}),
    }
)
_IMAGES_GONE = "Its images are not kept here any more; have the study sent again."
_RESENT_FROM = frozenset(
    {DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.CONFIRMED, DeliveryState.FAILED}
)


def refusal_for_job(action: Action, state: JobState, *, are_images_kept: bool = True) -> str | None:
    """Give why an action cannot be done to a job, or None where it can."""
    states = _JOB_STATES.get(action)
    if states is None:
        return f"A job knows no {action}."
    if state in states:
        return None if are_images_kept or action is not Action.RETRY else _IMAGES_GONE
    if state is JobState.SUPERSEDED:
        return "A newer job took this one's place; act on that one."
    return f"The job is {state}; {action} is for jobs that are {_either(states)}."


def refusal_for_delivery(action: Action, state: DeliveryState) -> str | None:
    """Give why an action cannot be done to a delivery, or None where it can."""
    if action is not Action.RESEND:
        return f"A delivery knows no {action}."
    if state in _RESENT_FROM:
        return None
    if state is DeliveryState.SENDING:
        return "The delivery is being sent right now; look again when it has ended."
    return "The delivery was withdrawn, because a newer result took its place; resend that one."


def asks_before_resend(state: DeliveryState) -> bool:
    """Tell whether sending again asks first: the peer said already that it keeps the objects."""
    return state is DeliveryState.CONFIRMED


def refusal_for_study(
    action: Action, study: StudyStanding, *, is_held: bool = False, are_images_kept: bool = True
) -> str | None:
    """Give why an action cannot be done to a study as a whole, or None where it can.

    Parameters
    ----------
    is_held
        Whether somebody keeps the study from being deleted.
    are_images_kept
        Whether its images are still here, for what analyses them again.
    """
    if action is Action.COMPLETE:
        return _refuse_complete(study)
    if action is Action.REPROCESS:
        return _refuse_reprocess(study, are_images_kept=are_images_kept)
    if action is Action.DELETE:
        return _refuse_delete(study, is_held)
    if action is Action.RESEND:
        return _of_any([refusal_for_delivery(action, d.state) for d in study.deliveries], "result")
    refusals = [
        refusal_for_job(action, job.state, are_images_kept=are_images_kept) for job in study.jobs
    ]
    return _of_any(refusals, "job")


def _refuse_reprocess(study: StudyStanding, *, are_images_kept: bool) -> str | None:
    if study.state is not StudyState.COMPLETE or not study.is_routed:
        return "The study is not complete yet; it is analysed when it is."
    if not study.jobs:
        return "The study has no job that could be run again."
    return None if are_images_kept else _IMAGES_GONE


def refusal_for_quarantine(action: Action, state: str) -> str | None:
    """Give why an action cannot be done to a quarantined object, or None where it can."""
    if action not in (Action.RELEASE, Action.DELETE):
        return f"A quarantined object knows no {action}."
    return None if state == "held" else f"It was {state} before."


def _refuse_complete(study: StudyStanding) -> str | None:
    if study.pending_count:
        return "Images that came again with other bytes are still being compared; try again soon."
    waits_for_series = any(d.decision is Decision.WAITING for d in study.decisions)
    if study.state is StudyState.RECEIVING or waits_for_series:
        return None
    return "The study is complete already."


def _refuse_delete(study: StudyStanding, is_held: bool) -> str | None:
    if is_held:
        return "The study is kept from being deleted; release it first."
    is_open = (
        study.state is StudyState.RECEIVING
        or study.pending_count > 0
        or not study.is_routed
        or any(job.state in OPEN_JOB_STATES for job in study.jobs)
        or any(d.state in OPEN_DELIVERY_STATES for d in study.deliveries)
    )
    return (
        "The study is not finished; cancel what runs, or wait until it ends." if is_open else None
    )


def _of_any(refusals: list[str | None], subject: str) -> str | None:
    """Give None where one can be acted on, else the newest's refusal."""
    if not refusals:
        return f"The study has no {subject} yet."
    return None if None in refusals else refusals[-1]


def _either(states: frozenset[JobState]) -> str:
    words = sorted(states)
    return ", ".join(words[:-1]) + " or " + words[-1]

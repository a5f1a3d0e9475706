"""How urgent a study's jobs and deliveries are."""

from __future__ import annotations

from dicomnode.rules.states import PRIORITY_RANK, Priority
from dicomnode.sdk.findings import Urgency


def most_urgent(*given: Priority | None) -> Priority:
    """Give the most urgent of some wishes; `Priority.NORMAL` where nobody has one."""
    wishes = [priority for priority in given if priority is not None]
    return min(wishes, key=PRIORITY_RANK.__getitem__, default=Priority.NORMAL)


def of_job(
    pipeline: Priority | None, called_ae_title: Priority | None, study: Priority | None
) -> Priority:
    """Give a new job's priority: the called AE title's wish stands before the pipeline's.

    A study that was raised, by hand or by a finding, raises its jobs and never lowers them.
    """
    own = called_ae_title or pipeline or Priority.NORMAL
    raised = study is not None and PRIORITY_RANK[study] < PRIORITY_RANK[Priority.NORMAL]
    return most_urgent(own, study) if raised else own


def after_finding(urgency: Urgency | None) -> Priority | None:
    """Give what a study's open jobs and deliveries are raised to by what a job found, or None.

    How urgent the job itself was says nothing about the study.
    """
    if urgency is Urgency.HIGHLY_SIGNIFICANT:
        return Priority.URGENT
    if urgency is Urgency.SIGNIFICANT:
        return Priority.NORMAL
    return None


def of_rank(rank: int) -> Priority:
    """Give the priority that a row's number stands for."""
    return next(priority for priority, number in PRIORITY_RANK.items() if number == rank)

"""Waiting until everything that was sent has come to an end, as the node's worklist tells it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from dicomnode.demo.processes import Workplace
from dicomnode.demo.screen import DemoError, Told
from dicomnode.rules.states import (
    FINAL_JOB_STATES,
    OPEN_DELIVERY_STATES,
    DeliveryState,
    JobState,
    StudyState,
)
from dicomnode.worklist import Worklist, story, studies
from dicomnode.worklist.deliveries import Delivery
from dicomnode.worklist.jobs import Job
from dicomnode.worklist.story import Story

_LOOK_S = 0.25
_LONGEST_S = 1200.0


def settled_stories(
    place: Workplace, study_instance_uids: Iterable[str], told: Told
) -> list[Story]:
    """Give the studies' stories once each job and each delivery of theirs is final.

    Raises
    ------
    DemoError
        A process ended, or it takes longer than 20 minutes.
    """
    wanted = sorted(study_instance_uids)
    deadline = time.monotonic() + _LONGEST_S
    with Worklist.open(place.worklist_url) as worklist:
        while True:
            stories = _stories(worklist, wanted)
            if len(stories) == len(wanted) and all(map(is_settled, stories)):
                return stories
            place.check()
            if time.monotonic() > deadline:
                raise DemoError(f"not finished after {_LONGEST_S:.0f} s: {_in_words(stories)}")
            told.progress(_in_words(stories))
            time.sleep(_LOOK_S)


def _stories(worklist: Worklist, wanted: Iterable[str]) -> list[Story]:
    with worklist.read() as tx:
        found = [studies.find(tx, uid) for uid in wanted]
        told = [story.of_study(tx, study.id, worklist.now()) for study in found if study]
    return [one for one in told if one is not None]


def is_settled(told: Story) -> bool:
    """Tell whether nothing of a study is on its way any more."""
    study = told.study
    is_routed = study.state is StudyState.COMPLETE and study.routed_generation >= study.generation
    return (
        is_routed
        and not told.pending_count
        and all(one.job.state in FINAL_JOB_STATES for one in told.jobs)
        and all(_is_final(one.delivery) for one in told.deliveries)
    )


def _is_final(delivery: Delivery) -> bool:
    if delivery.state is DeliveryState.SENT:
        return delivery.confirm_at is None
    return delivery.state not in OPEN_DELIVERY_STATES


def _in_words(stories: list[Story]) -> str:
    """Say what goes on now, the running job before all else."""
    every = [one.job for told in stories for one in told.jobs]
    running = [_running(job) for job in every if job.state is JobState.RUNNING]
    done = sum(job.state in FINAL_JOB_STATES for job in every)
    if running:
        return f"{', '.join(running)}; {done} of {len(every)} jobs done"
    if not every:
        return "waiting until the studies are complete"
    return f"{done} of {len(every)} jobs done, results on their way"


def _running(job: Job) -> str:
    return f"{job.pipeline}: {job.stage or 'starting'}, {job.progress} %"

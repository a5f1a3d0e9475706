"""How rows are told to people: sentences, clocks, names, and the colour group of a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

from dicomnode.rules.reasons import Group, Reason, by_itself, entry_of, sentence
from dicomnode.rules.sentences import age, clock_time, counted
from dicomnode.rules.states import JobState, Outcome
from dicomnode.worklist.story import JobStory
from dicomnode.worklist.studies import Study

OUTCOME_GROUPS: Mapping[Outcome, Group] = {
    Outcome.WAITING: Group.WAITING,
    Outcome.IN_PROGRESS: Group.RUNNING,
    Outcome.DONE: Group.DONE,
    Outcome.NO_ROUTE: Group.OFF,
    Outcome.NEEDS_ATTENTION: Group.ATTENTION,
}
_STATE_GROUPS: Mapping[str, Group] = {
    "held": Group.HELD,
    "running": Group.RUNNING,
    "sending": Group.RUNNING,
    "done": Group.DONE,
    "sent": Group.DONE,
    "confirmed": Group.DONE,
    "declined": Group.DECLINED,
    "failed": Group.ATTENTION,
    "cancelled": Group.OFF,
    "superseded": Group.OFF,
    "withdrawn": Group.OFF,
}


def group_of(state: str) -> Group:
    """Give the colour group of a job's or delivery's state."""
    return _STATE_GROUPS.get(state, Group.WAITING)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: the present, the time zone, and whether patients may be named."""

    now_ms: int
    zone: tzinfo = UTC
    with_names: bool = True

    def sentence(self, reason: Reason) -> str:
        """Give a reason as one sentence with ages and local times."""
        return sentence(reason, self.now_ms, self.zone)

    def by_itself(self, reason: Reason) -> str:
        """Give what happens without anybody acting."""
        return by_itself(reason, self.now_ms, self.zone)

    def clock(self, moment_ms: int) -> str:
        """Give a point in time as a person reads it today."""
        return clock_time(moment_ms, self.now_ms, self.zone)

    def age(self, moment_ms: int) -> str:
        """Give how long ago something was."""
        return age(max(0, self.now_ms - moment_ms) / 1000)


def person_name(raw: str) -> str:
    """Give a PN as "Family, Given", an ideographic group before the others (PS3.5 6.2)."""
    groups = raw.split("=")
    ordered = [*groups[1:2], *groups[:1], *groups[2:]]
    shown = []
    for group in ordered:
        family, *given = (part.strip() for part in group.split("^"))
        shown.append(", ".join(part for part in (family, " ".join(filter(None, given))) if part))
    return " = ".join(part for part in shown if part)


def group_of_reason(reason: Reason | None, outcome: Outcome) -> Group:
    """Give the colour group of a study: its outcome's, but held where its reason says so."""
    if reason is not None and entry_of(reason).group is Group.HELD:
        return Group.HELD
    return OUTCOME_GROUPS[outcome]


def stages_words(job_stages: Mapping[str, float] | None) -> str:
    """Give the stage times of a job in one bracket, or nothing."""
    if not job_stages:
        return ""
    total = sum(job_stages.values())
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in job_stages.items())
    return f"{total:.1f} s ({parts})"


def made_words(told: JobStory) -> str:
    """Give in a few words what a finished job came to."""
    job = told.job
    if job.state is not JobState.DONE:
        return ""
    findings, segments = job.finding_count or 0, job.segment_count or 0
    return f"{counted(findings, 'finding')}, {counted(segments, 'segment')}"


def images_words(study: Study) -> str:
    """Give how many images of a study are here, and of how many if a peer said so."""
    if study.expected_count is None:
        return counted(study.image_count, "image")
    return f"{study.image_count:,} of {counted(study.expected_count, 'image')}"

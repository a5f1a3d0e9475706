"""What came in, what became of it and how long that took: as table rows and as JSON data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dicomnode.demo.comparison import Verdict
from dicomnode.demo.received import Place, Received, why_no_result
from dicomnode.rules.reasons import sentence
from dicomnode.rules.sentences import counted
from dicomnode.rules.states import Decision
from dicomnode.worklist.story import DeliveryStory, Story

STAGES = ("load", "analyse", "encode", "check", "store")
_LONGEST_CELL = 78

Rows = list[tuple[str, ...]]


def way_table(stories: Sequence[Story], sets: Sequence[Received]) -> tuple[tuple[str, ...], Rows]:
    """What came in, which pipeline looked at it, where the result went, what it says."""
    heads = ("CAME IN", "PIPELINE", "JOB", "AT THE PACS", "REPORT")
    rows: Rows = []
    for told in stories:
        for one in _of(told, sets):
            rows.append((_series(told, one), one.pipeline, *_became(told, one)))
        rows += [
            (_came(told), route.pipeline, "not run", "-", _short(sentence(route.reason)))
            for route in told.routes
            if not told.jobs and route.decision is Decision.NO_ROUTE and route.reason
        ]
    return heads, rows


def time_table(stories: Sequence[Story], sets: Sequence[Received]) -> tuple[tuple[str, ...], Rows]:
    """Seconds of each stage, and from the study's last image until its results were confirmed."""
    heads = ("SECONDS", *STAGES, "deliver", "last image to confirmed")
    rows: Rows = []
    for told in stories:
        for one in _of(told, sets):
            times = one.story.job.stage_times or {}
            deliver_s = sum(map(_deliver_s, _deliveries(told, one)))
            whole = whole_s(told, one)
            cells = (*(times.get(stage) for stage in STAGES), deliver_s, whole)
            rows.append((f"{one.pipeline}, {told.study.modalities}", *map(_seconds, cells)))
    return heads, rows


def truth_table(verdict: Verdict) -> tuple[tuple[str, ...], Rows]:
    """What was drawn and what the received reports say."""
    heads = ("DRAWN", "TRUTH", "FOUND", "DIFFERENCE", "")
    rows: Rows = [
        (line.what, line.drawn, line.found, line.difference, "✓" if line.ok else "✕")
        for line in verdict.lines
    ]
    return heads, rows


def as_data(stories: Sequence[Story], sets: Sequence[Received]) -> list[dict[str, Any]]:
    """One entry for each job."""
    return [
        {
            "study_instance_uid": told.study.study_instance_uid,
            "modalities": told.study.modalities,
            "images": one.story.job.input_count,
            "pipeline": one.pipeline,
            "version": one.story.job.version,
            "state": str(one.story.job.state),
            "reason": why_no_result(one.story) or None,
            "summary": one.summary or None,
            "urgency": str(one.urgency) if one.urgency else None,
            "findings": [_place(place) for place in one.lesions],
            "organs": [_place(place) for place in one.organs],
            "objects": [path.name for path in one.paths],
            "missing": list(one.missing),
            "deliveries": [str(d.delivery.state) for d in _deliveries(told, one)],
            "stages_s": dict(one.story.job.stage_times or {}),
            "last_image_to_confirmed_s": whole_s(told, one),
        }
        for told in stories
        for one in _of(told, sets)
    ]


def whole_s(told: Story, one: Received) -> float | None:
    """Seconds from the study's last image until a job's results were confirmed; None if not."""
    ends = [entry.delivery.finished_at for entry in _deliveries(told, one)]
    known = [end for end in ends if end is not None]
    return (max(known) - told.study.last_received_at) / 1000 if known else None


def _of(told: Story, sets: Sequence[Received]) -> list[Received]:
    return [one for one in sets if any(one.story is job for job in told.jobs)]


def _deliveries(told: Story, one: Received) -> list[DeliveryStory]:
    return [d for d in told.deliveries if d.delivery.job_id == one.story.job.id]


def _deliver_s(entry: DeliveryStory) -> float:
    ended = entry.delivery.finished_at or entry.delivery.sent_at
    return 0.0 if ended is None else (ended - entry.delivery.created_at) / 1000


def _became(told: Story, one: Received) -> tuple[str, str, str]:
    kinds = [result.kind.upper() for result in one.story.results]
    states = sorted({str(entry.delivery.state) for entry in _deliveries(told, one)})
    where = f"{' + '.join(kinds)}: {', '.join(states)}" if kinds else "-"
    if one.missing:
        where = f"{len(one.missing)} of {len(kinds)} missing"
    words = one.summary or why_no_result(one.story)
    return str(one.story.job.state), where, _short(words)


def _series(told: Story, one: Received) -> str:
    return _images(told, one.story.job.input_count)


def _images(told: Story, count: int) -> str:
    return f"{told.study.modalities}, {counted(count, 'image')}"


def _came(told: Story) -> str:
    return _images(told, told.study.image_count)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_CELL else line[: _LONGEST_CELL - 1] + "…"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _place(place: Place) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 3)

    return {
        "label": place.label,
        "side": str(place.side) if place.side else None,
        "volume_ml": known(place.volume_ml),
        "long_axis_mm": known(place.long_mm),
        "short_axis_mm": known(place.short_mm),
    }

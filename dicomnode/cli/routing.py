"""``route explain``: each rule and each value that decided, for a study or for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dicomnode.cli.files import read_folder
from dicomnode.cli.installed import describe, rules_of
from dicomnode.cli.session import Session, command
from dicomnode.cli.studies import found_study
from dicomnode.cli.views import (
    reason_view,
)
from dicomnode.cli.words import (
    Reader,
)
from dicomnode.rules.reasons import Group
from dicomnode.rules.routing import PlannedJob, RouteDecision, SameAgain, Waiting
from dicomnode.rules.sentences import counted
from dicomnode.rules.states import JobState
from dicomnode.stages.route import decide_files, decide_study, zone_of
from dicomnode.worklist import series
from dicomnode.worklist.database import utc_ms

app = typer.Typer(help="Which pipelines want a study, and why.")


@app.callback()
def routes() -> None:
    """Which pipelines want a study, and why."""


@command(app)
def explain(
    session: Session,
    study_or_folder: Annotated[str, typer.Argument(help="A study's number or UID, or a folder.")],
) -> None:
    """Tell what would be decided about a study or a folder; nothing starts."""
    place = Path(study_or_folder)
    if place.exists() and not study_or_folder.isdigit():
        views = _of_files(session, place)
    else:
        views = _of_study(session, study_or_folder)
    if session.output.as_json:
        session.output.items(views)
        return
    if not views:
        session.output.say("No pipeline is installed.")
    for view in views:
        _show(session, view)


def _of_study(session: Session, given: str) -> list[dict[str, Any]]:
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        study = found_study(session, tx, given)
        decided = decide_study(tx, study, session.settings, reader.now_ms)
        numbers = {one.id: one.series_number for one in series.of_study(tx, study.id)}
    return [decision_view(one, numbers, reader) for one in decided]


def _of_files(session: Session, place: Path) -> list[dict[str, Any]]:
    settings = session.settings_or_defaults
    folder = read_folder(place)
    rules = rules_of(describe(settings), settings)
    reader = Reader(utc_ms(), zone_of(settings), session.with_names)
    views = []
    for study in folder.studies:
        decided = decide_files(study.headers, rules, settings, reader.now_ms)
        by_series = dict.fromkeys(header.series_instance_uid for header in study.headers)
        shown = {header.series_instance_uid: header.series_number for header in study.headers}
        numbers = {place: shown[uid] for place, uid in enumerate(by_series, start=1)}
        views += [decision_view(one, numbers, reader) for one in decided]
    return views


def decision_view(
    decision: RouteDecision, numbers: Mapping[int, int | None], reader: Reader
) -> dict[str, Any]:
    """Give one decision; series by the numbers that people know them by."""
    chosen: Sequence[Any] = ()
    if isinstance(decision, PlannedJob | SameAgain):
        chosen = decision.series
    return {
        "pipeline": decision.rule.name,
        "version": decision.rule.version,
        "runs": isinstance(decision, PlannedJob) and decision.state is not JobState.DECLINED,
        "waits": isinstance(decision, Waiting),
        "series": [numbers.get(one.id) for one in chosen],
        "images": sum(len(one.instances) for one in chosen),
        "mode": str(decision.mode) if isinstance(decision, PlannedJob) else None,
        "reason": reason_view(decision.reason, reader),
        "conditions": [tried.to_data() for tried in decision.trace],
    }


def _show(session: Session, view: Mapping[str, Any]) -> None:
    output = session.output
    name = f"{view['pipeline']} {view['version']}"
    if view["runs"]:
        numbers = ", ".join("–" if one is None else str(one) for one in view["series"])
        said = f"would run on series {numbers} ({counted(view['images'], 'image')})"
        if view["mode"] == "shadow":
            said += ", in shadow: nothing is sent"
        group = Group.DONE
    else:
        said = view["reason"]["sentence"] if view["reason"] else "does not run"
        group = Group.WAITING if view["waits"] else Group.OFF
    output.say(output.state(name, group).append(f"  {said}"))
    for tried in view["conditions"]:
        mark = "yes" if tried["ok"] else "no"
        found = tried["found"] or "nothing"
        output.say(Text(f"    {mark:<4}{tried['keyword']}: {found}, wanted {tried['wanted']}"))

"""``worklist list`` and ``worklist show``: where each study is, and why."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.text import Text
from sqlalchemy import Connection

from dicomnode.cli.output import WRONG_USE, Column
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    story_view,
    study_actions,
    study_view,
)
from dicomnode.cli.words import (
    Reader,
    group_of,
    group_of_reason,
    images_words,
    made_words,
    person_name,
    stages_words,
)
from dicomnode.config import Seconds
from dicomnode.errors import ConfigurationError
from dicomnode.rules.outcome import StudyStanding
from dicomnode.rules.sentences import counted
from dicomnode.rules.states import Outcome, StudyState
from dicomnode.telemetry import printable
from dicomnode.worklist import Worklist, search, story
from dicomnode.worklist import studies as study_rows
from dicomnode.worklist.search import OPEN_OUTCOMES, Filters, Page
from dicomnode.worklist.story import Story
from dicomnode.worklist.studies import Study

_STATES = {
    "receiving": Filters(state=StudyState.RECEIVING),
    "complete": Filters(state=StudyState.COMPLETE),
    "open": Filters(outcomes=OPEN_OUTCOMES),
    "waiting": Filters(outcomes=(Outcome.WAITING,)),
    "in-progress": Filters(outcomes=(Outcome.IN_PROGRESS,)),
    "attention": Filters(outcomes=(Outcome.NEEDS_ATTENTION,)),
    "done": Filters(outcomes=(Outcome.DONE,)),
    "no-route": Filters(outcomes=(Outcome.NO_ROUTE,)),
    "all": Filters(),
}
_DAY_MS = 86_400_000
_EVENTS_SHOWN = 8
_COLUMNS = (
    Column("STATE"),
    Column("ID", right=True),
    Column("PATIENT", drop_below=90),
    Column("PATIENT ID", drop_below=120),
    Column("STUDY", drop_below=80),
    Column("ACCESSION", drop_below=140),
    Column("IMAGES", drop_below=76, right=True),
    Column("FROM", drop_below=130),
    Column("AGE", drop_below=76, right=True),
)


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``worklist``."""
    command(app, "list")(list_studies)
    command(app, "show")(show)


def list_studies(  # noqa: PLR0913  the options of a command are its parameters
    session: Session,
    *,
    state: Annotated[
        str, typer.Option(help="receiving, complete, open, waiting, attention, done … or all.")
    ] = "",
    modality: Annotated[str | None, typer.Option(help="One modality, as CT.")] = None,
    peer: Annotated[str | None, typer.Option(help="Who sent it: a name of [peers.*].")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Studies with a job of this one.")] = None,
    reason: Annotated[str | None, typer.Option(help="A code, as delivery.peer_down.")] = None,
    since: Annotated[str | None, typer.Option(help="Received within, as 24h or 7d.")] = None,
    search_for: Annotated[
        str | None, typer.Option("--search", help="Beginning of a name, ID or accession; a UID.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on where a page ended: its next.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most studies to show.")] = 50,
) -> None:
    """List studies; without filters the open ones, and what came within a day."""
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        if search_for is not None:
            page = _searched(tx, search_for, after, limit)
        else:
            since_ms = None if since is None else reader.now_ms - _milliseconds(since)
            given = {"modality": modality, "peer": peer, "pipeline": pipeline, "reason": reason}
            wanted = _filters(state, {**given, "since_ms": since_ms}, reader.now_ms)
            page = search.list_studies(tx, wanted, after=_key(after), limit=limit)
        following = None if page.next_key is None else "-".join(map(str, page.next_key))
        if session.output.as_json:
            session.output.items([_listed(tx, one, reader) for one in page.studies], following)
            return
        _show_list(session, tx, page, reader, search_for)
        if following:
            session.output.hint(f"More: --after {following}")


def _filters(state: str, given: dict[str, object], now_ms: int) -> Filters:
    if state and state not in _STATES:
        raise ConfigurationError(f"--state {state}: give one of {', '.join(_STATES)}")
    base = _STATES.get(state, Filters())
    fields = {"outcomes": base.outcomes, "state": base.state, **given}
    if not state and not any(value is not None for value in given.values()):
        fields["open_since_ms"] = now_ms - _DAY_MS
    return Filters(**fields)  # type: ignore[arg-type]  # the names are those of the class


def _milliseconds(text: str) -> int:
    try:
        seconds: float = TypeAdapter(Seconds).validate_python(text)
    except ValidationError:
        raise ConfigurationError(
            f"--since {text}: give a number with s, min, h or d, as 24h; a hundred years at most"
        ) from None
    return round(seconds * 1000)


def _key(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    found = re.fullmatch(r"(\d{1,18})-(\d{1,18})", after)
    if found is None:
        raise ConfigurationError("--after takes what a page gave as its next, as 1795000000000-17")
    return int(found[1]), int(found[2])


def _searched(tx: Connection, typed: str, after: str | None, limit: int) -> Page:
    if after is not None and not _is_number(after):
        raise ConfigurationError("--after takes what a page gave as its next, here one number")
    after_id = None if after is None else int(after)
    found = search.find_studies(tx, typed, after_id=after_id, limit=limit)
    if _is_number(typed.strip()) and after_id is None:
        by_id = study_rows.get(tx, int(typed))
        found = [*([by_id] if by_id and by_id not in found else []), *found][:limit]
    return Page(tuple(found), None)


def _is_number(text: str) -> bool:
    """Tell whether a text is a number that a row may have: longer ones fit no column."""
    return text.isdecimal() and len(text) < 19


def _listed(tx: Connection, study: Study, reader: Reader) -> dict[str, object]:
    told = story.of_study(tx, study.id, reader.now_ms)
    assert told is not None, "it was listed in the same transaction"
    return study_view(study, reader, told, story.standing(tx, study.id))


def _show_list(
    session: Session, tx: Connection, page: Page, reader: Reader, searched: str | None
) -> None:
    output = session.output
    if not page.studies:
        output.say(_nothing(session, tx, searched))
        return
    rows: list[list[str | Text]] = []
    for study in page.studies:
        state = output.state(_state_word(study), group_of_reason(study.reason, study.outcome))
        rows.append([state, str(study.id), *_patient(study, reader), *_facts(study, reader)])
    output.study_table(_COLUMNS, rows, [_why(study, reader) for study in page.studies])
    counts = search.counts(tx)
    is_open = counts.waiting + counts.in_progress + counts.needs_attention
    oldest = counts.oldest_received_at
    told = f"{is_open} open {'study' if is_open == 1 else 'studies'}"
    told += f", the oldest {reader.age(oldest)}" if oldest is not None else ""
    output.hint(f"{told}. Why: dicomnode worklist show ID")


def _nothing(session: Session, tx: Connection, searched: str | None) -> str:
    if searched is not None:
        return "No study begins so."
    if study_rows.get(tx, 1) is None and not search.list_studies(tx, limit=1).studies:
        listen = session.settings.listen
        title = session.settings.node.ae_title
        return (
            f"Nothing received yet. Send a study to {title} at {listen.host}:{listen.port}, or run "
            "dicomnode demo."
        )
    return "No study matches."


def _state_word(study: Study) -> str:
    if study.state is StudyState.RECEIVING and study.outcome is Outcome.WAITING:
        return "receiving" if study.reason is None else "waiting"
    return str(study.outcome)


def _patient(study: Study, reader: Reader) -> tuple[str, str]:
    if not reader.with_names:
        return "", ""
    return person_name(study.patient_name), study.patient_id


def _facts(study: Study, reader: Reader) -> list[str]:
    what = " ".join(part for part in (study.modalities, study.study_description) if part)
    expected = "" if study.expected_count is None else f"/{study.expected_count}"
    return [
        what,
        study.accession_number if reader.with_names else "",
        f"{study.image_count}{expected}",
        study.peer,
        reader.age(study.last_received_at),
    ]


def _why(study: Study, reader: Reader) -> str:
    return "" if study.reason is None else reader.sentence(study.reason)


def found_study(session: Session, tx: Connection, given: str) -> Study:
    """Give the study of an id or a Study Instance UID; ends the command where there is none."""
    number = int(given) if _is_number(given) else None
    by_id = None if number is None else study_rows.get(tx, number)
    found = by_id or study_rows.find(tx, given)
    if found is None:
        raise refuse(session, f"There is no study {given}.", WRONG_USE)
    return found


def show(
    session: Session,
    study: Annotated[str, typer.Argument(help="Number or Study Instance UID.")],
    events: Annotated[
        bool, typer.Option("--events", help="Every event, the oldest first.")
    ] = False,
) -> None:
    """Show everything about one study, why it is as it is first."""
    with session.worklist() as worklist:
        told, standing, reader = _story(session, worklist, study)
    if session.output.as_json:
        session.output.document(story_view(told, reader, standing))
        return
    _show_head(session, told.study, reader)
    for reason in told.reasons:
        following = reader.by_itself(reason)
        arrow = f" → {following}" if following else ""
        session.output.say(f"  {reader.sentence(reason)}{arrow}")
    for job in told.jobs:
        _show_job(session, job, reader)
    _show_deliveries(session, told, reader)
    _show_series(session, told)
    _show_events(session, told, reader, everything=events)
    can = study_actions(told.study, standing)
    if can:
        session.output.hint(f"you can     {', '.join(can)}: dicomnode worklist … {told.study.id}")


def _story(
    session: Session, worklist: Worklist, given: str
) -> tuple[Story, StudyStanding | None, Reader]:
    reader = session.reader(worklist)
    with worklist.read() as tx:
        study = found_study(session, tx, given)
        told = story.of_study(tx, study.id, reader.now_ms)
        assert told is not None, "it was found in the same transaction"
        return told, story.standing(tx, study.id), reader


def _show_head(session: Session, study: Study, reader: Reader) -> None:
    name, patient_id = _patient(study, reader)
    parts = [
        name,
        patient_id,
        " ".join(part for part in (study.modalities, study.study_description) if part),
        reader.clock(study.last_received_at),
        f"from {study.peer}",
        study.accession_number if reader.with_names else "",
    ]
    session.output.say(f"{study.id}  " + " · ".join(printable(part) for part in parts if part))
    state = session.output.state(_state_word(study), group_of_reason(study.reason, study.outcome))
    session.output.say(state.append(f"   {images_words(study)}"))


def _show_job(session: Session, told: story.JobStory, reader: Reader) -> None:
    output, job = session.output, told.job
    line = Text("job         ", "dim").append(f"{printable(job.pipeline)} {job.version}  ", "bold")
    line.append_text(output.state(str(job.state), group_of(job.state)))
    for part in (made_words(told), stages_words(job.stage_times)):
        line.append(f"  {part}" if part else "")
    output.say(line)
    if job.reason is not None:
        output.say(f"              {reader.sentence(job.reason)}")
    for attempt in told.attempts:
        ended = "" if attempt.ended_at is None else f" to {reader.clock(attempt.ended_at)}"
        came_to = attempt.outcome or "runs"
        if attempt.reason is not None:
            came_to = reader.sentence(attempt.reason)
        said = f"try {attempt.number}, {reader.clock(attempt.started_at)}{ended}"
        output.hint(f"              {said}: {came_to}")
    for result in told.results:
        checks = result.checks
        output.hint(
            f"              {result.kind} {result.sop_instance_uid} "
            f"({result.byte_count} bytes, {checks.get('passed', '?')} checks)"
        )


def _show_deliveries(session: Session, told: Story, reader: Reader) -> None:
    for one in told.deliveries:
        delivery = one.delivery
        line = Text("delivery    ", "dim").append(f"{printable(delivery.peer)}  ", "bold")
        line.append_text(session.output.state(str(delivery.state), group_of(delivery.state)))
        session.output.say(line)
        if delivery.reason is not None:
            session.output.say(f"              {reader.sentence(delivery.reason)}")
        for status in delivery.statuses:
            answer = f"{status.words or 'answered'} ({status.status})" if status.status else "–"
            said = f', it said "{printable(status.comment)}"' if status.comment else ""
            session.output.hint(
                f"              {status.kind} {status.sop_instance_uid} {answer}{said}"
            )


def _show_series(session: Session, told: Story) -> None:
    for one in told.series:
        number = "–" if one.series_number is None else one.series_number
        what = " ".join(part for part in (one.modality, one.series_description) if part)
        role = "" if str(one.role) == "source" else f" ({one.role})"
        images = counted(one.image_count, "image")
        session.output.hint(f"series      {number} {what}, {images}{role}")


def _show_events(session: Session, told: Story, reader: Reader, *, everything: bool) -> None:
    shown = list(reversed(told.events if everything else told.events[:_EVENTS_SHOWN]))
    for event in shown:
        words = event.what if event.reason is None else reader.sentence(event.reason)
        session.output.hint(f"event       {reader.clock(event.at)} {words} ({event.actor})")
    if len(shown) < len(told.events):
        session.output.hint(f"            (all {len(told.events)}: --events)")

"""``worklist watch``: what happens, as it happens; one screen on a terminal, lines in a pipe."""

from __future__ import annotations

import json
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group as Stacked
from rich.live import Live
from rich.text import Text

from dicomnode.cli.output import Column, utc
from dicomnode.cli.session import Session, command
from dicomnode.cli.views import (
    event_view,
)
from dicomnode.cli.words import (
    group_of_reason,
)
from dicomnode.rules.reasons import entry_of
from dicomnode.worklist import Worklist, events, search
from dicomnode.worklist.search import OPEN_OUTCOMES, Filters, Order

_EACH_S = 2.0
_COLUMNS = (
    Column("STATE"),
    Column("ID", right=True),
    Column("IMAGES", drop_below=76, right=True),
    Column("AGE", drop_below=60, right=True),
    Column("WHY"),
)


def register(app: typer.Typer) -> None:
    """Add the command to the group ``worklist``."""
    command(app)(watch)


def watch(
    session: Session,
    seconds: Annotated[float | None, typer.Option(help="End after so long.", min=0)] = None,
    back: Annotated[int, typer.Option(help="Begin with so many past events.", min=0)] = 0,
) -> None:
    """Watch the open studies each 2 s (q ends); in a pipe one line for each event."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with session.worklist() as worklist:
        if session.output.is_terminal and sys.stdin.isatty():
            _screen(session, worklist, deadline)
        else:
            _lines(session, worklist, deadline, back)


def _lines(session: Session, worklist: Worklist, deadline: float | None, back: int) -> None:
    with worklist.read() as tx:
        seen = max(0, events.newest(tx) - back)
    while True:
        with worklist.read() as tx:
            new = events.after(tx, seen)
        reader = session.reader(worklist)
        for event in new:
            seen = event.id
            if session.output.as_json:
                view = {"version": 1, "at": utc(event.at), **event_view(event, reader)}
                sys.stdout.write(json.dumps(view) + "\n")
                sys.stdout.flush()
                continue
            words = event.what if event.reason is None else reader.sentence(event.reason)
            study = "–" if event.study_id is None else str(event.study_id)
            line = f"{reader.clock(event.at)} {study} {words}"
            group = None if event.reason is None else entry_of(event.reason).group
            session.output.say(line if group is None else session.output.state(line, group))
        if deadline is not None and time.monotonic() >= deadline:
            return
        if len(new) == 0:
            worklist.wait(_EACH_S)


def _screen(session: Session, worklist: Worklist, deadline: float | None) -> None:
    with _keys(), Live(console=session.output.console, auto_refresh=False) as live:
        while deadline is None or time.monotonic() < deadline:
            live.update(_drawn(session, worklist), refresh=True)
            if select.select([sys.stdin], [], [], _EACH_S)[0] and sys.stdin.read(1) == "q":
                return


@contextmanager
def _keys() -> Iterator[None]:
    """Have single keys heard without Enter while the block runs."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _drawn(session: Session, worklist: Worklist) -> Stacked:
    reader = session.reader(worklist)
    room = max(3, session.output.console.height - 3)
    with worklist.read() as tx:
        wanted = Filters(outcomes=OPEN_OUTCOMES)
        page = search.list_studies(tx, wanted, order=Order.EVENT, limit=room)
    rows: list[list[str | Text]] = []
    for study in page.studies:
        state = session.output.state(
            str(study.outcome), group_of_reason(study.reason, study.outcome)
        )
        why = "" if study.reason is None else reader.sentence(study.reason)
        age = reader.age(study.last_received_at)
        rows.append([state, str(study.id), str(study.image_count), age, why])
    head = Text(f"{reader.clock(reader.now_ms)}  {len(rows)} open; q ends", "dim")
    return Stacked(head, session.output.made_table(_COLUMNS, rows))

"""``pipeline list|new|suspend|resume|live|shadow``: the installed analyses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy import Connection

from dicomnode.cli.installed import describe, unswitched
from dicomnode.cli.output import WRONG_USE, Column
from dicomnode.cli.package import write_package
from dicomnode.cli.session import Session, command, database_file, refuse
from dicomnode.cli.views import (
    pipeline_view,
)
from dicomnode.config import PipelineRules, Settings
from dicomnode.rules.reasons import Group
from dicomnode.rules.states import Mode
from dicomnode.worklist import pipelines, studies
from dicomnode.worklist.events import Act
from dicomnode.worklist.pipelines import Pipeline

app = typer.Typer(help="Installed analyses.")

NameArgument = Annotated[str, typer.Argument(help="The pipeline's name.")]

_COLUMNS = (
    Column("PIPELINE"),
    Column("VERSION"),
    Column("STATE"),
    Column("MODE"),
    Column("PRIORITY", drop_below=70),
    Column("TAKES", drop_below=80),
)


@command(app, "list")
def list_pipelines(session: Session) -> None:
    """List the installed pipelines; broken ones say why."""
    settings = session.settings_or_defaults
    found = _known(session, settings) or [unswitched(one) for one in describe(settings)]
    if session.output.as_json:
        session.output.items([pipeline_view(one) for one in found])
        return
    if not found:
        session.output.say("No pipeline is installed. Start one with: dicomnode pipeline new NAME")
        return
    rows: list[list[str | Text]] = []
    for one in found:
        given = settings.pipelines.get(one.name, PipelineRules())
        word, group = _state(one, given)
        rows.append(
            [
                one.name,
                one.version,
                session.output.state(word, group),
                str(one.mode or given.mode),
                str(one.priority or given.priority),
                one.takes,
            ]
        )
    session.output.study_table(_COLUMNS, rows, [one.broken or "" for one in found])


def _known(session: Session, settings: Settings) -> list[Pipeline]:
    """Give what a running node described, with an admin's switches; empty before that."""
    file = database_file(settings)
    if file is not None and not file.is_file():
        return []
    with session.worklist() as worklist, worklist.read() as tx:
        return pipelines.all_of(tx)


def _state(pipeline: Pipeline, given: PipelineRules) -> tuple[str, Group]:
    if pipeline.broken is not None:
        return "broken", Group.ATTENTION
    if pipeline.suspended:
        return "suspended", Group.HELD
    return ("ready", Group.DONE) if given.enabled else ("switched off", Group.OFF)


@command(app)
def suspend(session: Session, name: NameArgument) -> None:
    """Start no job of a pipeline until it is resumed."""
    _switch(session, name, pipelines.suspend, "No job of {name} starts until it is resumed.")


@command(app)
def resume(session: Session, name: NameArgument) -> None:
    """Start jobs of a pipeline again."""
    _switch(session, name, pipelines.resume, "Jobs of {name} start again.")


@command(app)
def live(session: Session, name: NameArgument) -> None:
    """Deliver what a pipeline finds, from the next job on."""
    _switch(
        session,
        name,
        lambda tx, one, act: pipelines.set_mode(tx, one, Mode.LIVE, act),
        "{name} is live from the next job on.",
    )


@command(app)
def shadow(session: Session, name: NameArgument) -> None:
    """Run a pipeline and keep what it finds, and deliver nothing, from the next job on."""
    _switch(
        session,
        name,
        lambda tx, one, act: pipelines.set_mode(tx, one, Mode.SHADOW, act),
        "{name} runs in shadow from the next job on: nothing is sent.",
    )


def _switch(
    session: Session, name: str, do: Callable[[Connection, str, Act], bool], said: str
) -> None:
    with session.worklist() as worklist:
        act = session.act(worklist)
        with worklist.write() as tx:
            known = [one.name for one in pipelines.all_of(tx)]
            if not do(tx, name, act):
                there = ", ".join(known) or "none was described yet"
                raise refuse(
                    session, f"No pipeline is called {name}; there are: {there}.", WRONG_USE
                )
            studies.refresh_waiting(tx, studies.waiting_on(tx, pipeline=name), act.now_ms)
        with worklist.read() as tx:
            found = pipelines.get(tx, name)
    assert found is not None
    if session.output.as_json:
        session.output.items([pipeline_view(found)])
    else:
        session.output.say(said.format(name=name))


@command(app)
def new(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    out: Annotated[Path, typer.Option(help="Folder in which the package is made.")] = Path(),
) -> None:
    """Write a complete, installable package of a new pipeline, with its test."""
    folder = write_package(name, out)
    if session.output.as_json:
        session.output.items([{"pipeline": name, "folder": str(folder)}])
        return
    session.output.say(f"{folder} is written. Next:")
    session.output.say(f"  pip install -e {folder}")
    session.output.say(f"  pytest {folder}")
    session.output.say("  dicomnode pipeline list")

"""``init`` and ``check``: a configuration that explains itself, and the proof that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomnode.cli.checks import NO, every_check
from dicomnode.cli.example import example
from dicomnode.cli.output import FAILED
from dicomnode.cli.session import Session, command, refuse


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app)(init)
    command(app)(check)


def init(
    session: Session,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("dicomnode.toml"),
) -> None:
    """Write a commented configuration with every key and its default; never overwrites."""
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError:
        raise refuse(session, f"{out} is there already; nothing was written.") from None
    if session.output.as_json:
        session.output.items([{"file": str(out)}])
    else:
        session.output.say(f"{out} is written. Next: dicomnode check")


def check(session: Session) -> None:
    """Prove the configuration and all that it names, before anything starts."""
    lines = []
    for line in every_check(session.path, session.settings):
        lines.append(line)
        if not session.output.as_json:
            session.output.check(line.name, line.ok, line.sentence, line.fix)
    if session.output.as_json:
        session.output.items([line.to_data() for line in lines])
    if any(line.ok == NO for line in lines):
        raise typer.Exit(FAILED)

"""``demo``: one chest CT and one radiograph through a whole node of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomnode import demo as demo_room
from dicomnode.cli.output import FAILED
from dicomnode.cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(demo)


def demo(
    session: Session,
    data: Annotated[
        Path | None, typer.Option(exists=True, help="Send these DICOM files, not phantoms.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and objects.")] = Path("demo-out"),
) -> None:
    """Show the node at work on this machine: send, analyse, check, deliver, compare."""
    if not demo_room.run(data, out, session.output):
        raise typer.Exit(FAILED)

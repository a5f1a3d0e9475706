"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomnode import __version__
from dicomnode.cli import (
    actions,
    checking,
    database,
    demonstration,
    peers,
    pipelines,
    processes,
    quarantine,
    routing,
    running,
    studies,
    support,
    watching,
)

app = typer.Typer(
    name="dicomnode",
    help="A DICOM node beside a PACS. Research use only; not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicomnode {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A DICOM node beside a PACS. Research use only; not a medical device."""


worklist_app = typer.Typer(help="Studies: where each is, why it waits, and what to do about it.")
for module in (studies, watching, actions):
    module.register(worklist_app)
for module in (checking, processes, demonstration, running, support):
    module.register(app)

app.add_typer(worklist_app, name="worklist", no_args_is_help=True)
app.add_typer(quarantine.app, name="quarantine", no_args_is_help=True)
app.add_typer(routing.app, name="route", no_args_is_help=True)
app.add_typer(peers.app, name="peer", no_args_is_help=True)
app.add_typer(pipelines.app, name="pipeline", no_args_is_help=True)
app.add_typer(database.app, name="db", no_args_is_help=True)

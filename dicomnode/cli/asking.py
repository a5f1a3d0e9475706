"""Questions before what cannot be undone: a yes, a reason, or a count that is typed."""

from __future__ import annotations

import sys

import typer

from dicomnode.cli.output import WRONG_USE
from dicomnode.cli.session import Session, refuse


def agree(session: Session, question: str, *, yes: bool) -> None:
    """Ask a question; ends the command unless the answer is yes.

    Where nobody can answer, ``--yes`` has to be given.
    """
    if yes:
        return
    _demand_person(session, question)
    if not typer.confirm(question, err=True):
        raise refuse(session, "Nothing was changed.")


def agree_by_count(session: Session, question: str, count: int, *, yes: bool) -> None:
    """Ask to type a count; ends the command where it is another."""
    if yes:
        return
    _demand_person(session, question)
    typed = typer.prompt(f"{question} Type {count}", err=True)
    if str(typed).strip() != str(count):
        raise refuse(session, "Nothing was changed.")


def _demand_person(session: Session, question: str) -> None:
    if session.output.as_json or sys.stdin.closed:
        raise refuse(session, f"{question} Answer with --yes.", WRONG_USE)

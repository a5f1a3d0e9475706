"""``quarantine list|show|release|delete``: what came in and could not be taken."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from sqlalchemy import Connection

from dicomnode.cli.asking import agree, agree_by_count
from dicomnode.cli.output import FAILED, WRONG_USE, Column
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    quarantine_view,
)
from dicomnode.cli.words import (
    person_name,
)
from dicomnode.errors import ConfigurationError
from dicomnode.rules.actions import Action, refusal_for_quarantine
from dicomnode.rules.reasons import Reason
from dicomnode.rules.sentences import size
from dicomnode.worklist import quarantine, release
from dicomnode.worklist.quarantine import Quarantined

app = typer.Typer(help="What came in and could not be taken, and why.")

NumberArgument = Annotated[int, typer.Argument(help="Number in the list.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

# What a column of numbers holds; the driver raises over a larger one.
_LARGEST = 2**63 - 1
_COLUMNS = (
    Column("ID", right=True),
    Column("AGE", right=True, drop_below=70),
    Column("FROM"),
    Column("WHAT", drop_below=70),
    Column("SIZE", right=True, drop_below=90),
    Column("STUDY", right=True, drop_below=100),
)


@command(app, "list")
def list_quarantine(
    session: Session,
    why: Annotated[str | None, typer.Option(help="A code, as quarantine.unreadable.")] = None,
    state: Annotated[str, typer.Option(help="held, released or deleted.")] = quarantine.HELD,
    after: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """List what is set aside, the newest first."""
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        found = quarantine.listed(tx, why=why, state=state, after=_key(after), limit=limit)
    following = f"{found[-1].at}-{found[-1].id}" if len(found) == limit else None
    if session.output.as_json:
        session.output.items([quarantine_view(one, reader) for one in found], following)
        return
    if not found:
        session.output.say("Nothing is set aside.")
        return
    rows = [
        [
            str(one.id),
            reader.age(one.at),
            one.peer or one.calling_ae_title or "–",
            str((one.arrival or {}).get("modality") or "unknown"),
            size(one.byte_count),
            "" if one.study_id is None else str(one.study_id),
        ]
        for one in found
    ]
    session.output.study_table(_COLUMNS, rows, [reader.sentence(one.reason) for one in found])
    if following:
        session.output.hint(f"More: --after {following}")


def _key(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    found = re.fullmatch(r"(\d{1,18})-(\d{1,18})", after)
    if found is None:
        raise ConfigurationError("--after takes what a page gave as its next")
    return int(found[1]), int(found[2])


def _found(session: Session, tx: Connection, number: int) -> Quarantined:
    found = quarantine.get(tx, number) if 0 <= number <= _LARGEST else None
    if found is None:
        raise refuse(session, f"Nothing is set aside under {number}.", WRONG_USE)
    return found


@command(app)
def show(session: Session, number: NumberArgument) -> None:
    """Show what is known about one thing set aside; no pixels."""
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        found = _found(session, tx, number)
    view = quarantine_view(found, reader)
    if session.output.as_json:
        session.output.document(view)
        return
    session.output.say(f"{found.id}  {reader.sentence(found.reason)}")
    patient = view.get("patient") or {}
    told = {
        "state": found.state,
        "came": reader.clock(found.at),
        "from": f"{found.peer or '–'} ({found.calling_ae_title})",
        "size": size(found.byte_count),
        "patient": " · ".join(
            part for part in (person_name(patient.get("name") or ""), patient.get("id")) if part
        ),
        "modality": view["modality"],
        "SOP instance": found.sop_instance_uid,
        "study": found.study_instance_uid,
    }
    for name, value in told.items():
        if value:
            session.output.say(f"  {name:<14}{value}")
    if found.state == quarantine.HELD:
        session.output.hint(f"you can: dicomnode quarantine release|delete {found.id}")


def _demand(session: Session, found: Quarantined, action: Action) -> None:
    refusal = refusal_for_quarantine(action, found.state)
    if refusal is not None:
        raise refuse(session, refusal)


@command(app, "release")
def release_one(
    session: Session,
    number: NumberArgument,
    why: Annotated[str, typer.Option(help="Why; kept with the event. No names.")],
    yes: YesOption = False,
) -> None:
    """Take something set aside into its study after all."""
    with session.worklist() as worklist:
        with worklist.read() as tx:
            found = _found(session, tx, number)
        _demand(session, found, Action.RELEASE)
        study = f"study {found.study_id}" if found.study_id else "its study"
        agree(session, f"Release 1 image into {study}?", yes=yes)
        storage = session.storage(worklist)
        with worklist.write() as tx:
            taken = release.release(tx, number, session.act(worklist, why))
        if taken is None:
            raise refuse(session, "Somebody settled it meanwhile; look again.")
        if isinstance(taken, Reason):
            reason = session.reader(worklist).sentence(taken)
            raise refuse(session, f"It cannot be taken in. {reason}")
        # Where the file that stands there is gone, the next start puts this one in its place.
        stands = taken.standing is None or storage.kept(taken.standing).is_file()
        if not taken.keeps_file and stands and found.path is not None:
            storage.delete_kept(found.path)
    done = taken.kind.value != "quarantined"
    said = f"Released into study {taken.study_id}." if done else "It was set aside once more."
    _tell(session, found.id, said, done=done)


@command(app)
def delete(session: Session, number: NumberArgument, yes: YesOption = False) -> None:
    """Delete something set aside, with its file."""
    with session.worklist() as worklist:
        with worklist.read() as tx:
            found = _found(session, tx, number)
        _demand(session, found, Action.DELETE)
        agree_by_count(session, "Delete 1 object here? There is no undo.", 1, yes=yes)
        storage = session.storage(worklist)
        with worklist.write() as tx:
            gone = quarantine.delete(tx, number, session.act(worklist))
        if gone is None:
            raise refuse(session, "Somebody settled it meanwhile; look again.")
        if gone.path is not None:
            storage.delete_kept(gone.path)
    _tell(session, found.id, "Deleted.", done=True)


def _tell(session: Session, number: int, sentence: str, *, done: bool) -> None:
    if session.output.as_json:
        session.output.items([{"id": number, "done": done, "sentence": sentence}])
    else:
        session.output.say(f"{number}  {sentence}")
    if not done:
        raise typer.Exit(FAILED)

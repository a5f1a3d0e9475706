"""``peer list|echo|suspend|resume``: the systems that we talk to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy import Connection

from dicomnode.cli.output import WRONG_USE, Column
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    peer_view,
)
from dicomnode.errors import PeerError
from dicomnode.rules.reasons import Group, Reason
from dicomnode.stages.remotes import remote_of
from dicomnode.worklist import deliveries, events, peers, studies
from dicomnode.worklist.events import Act

app = typer.Typer(help="Systems that send to us or get our results.")

NameArgument = Annotated[str, typer.Argument(help="Name of [peers.*].")]

_COLUMNS = (
    Column("PEER"),
    Column("STATE"),
    Column("ROLE", drop_below=60),
    Column("ADDRESS", drop_below=80),
    Column("LAST IN", drop_below=90),
    Column("LAST OUT", drop_below=90),
    Column("WAIT", right=True),
)


@command(app, "list")
def list_peers(session: Session) -> None:
    """List the peers of the configuration, and how each is."""
    settings = session.settings
    with session.worklist() as worklist, worklist.read() as tx:
        reader = session.reader(worklist)
        found = {name: peers.get(tx, name) for name in settings.peers}
        waiting = {name: deliveries.waiting_count(tx, name) for name in settings.peers}
    if session.output.as_json:
        session.output.items([peer_view(one, reader, waiting[name]) for name, one in found.items()])
        return
    if not found:
        session.output.say("No peer. Add one to the configuration: [peers.pacs].")
        return
    rows: list[list[str | Text]] = []
    sentences: list[str] = []
    for name, one in found.items():
        given = settings.peers[name]
        word, group = _state(one)
        roles = (("from", given.receives_from), ("to", given.sends_to), ("counts", given.counts))
        moments = (one.last_in_at, one.last_out_at)
        address = f"{given.host}:{given.port}" if given.host else "–"
        rows.append(
            [
                name,
                session.output.state(word, group),
                ", ".join(role for role, is_so in roles if is_so),
                address,
                *("–" if at is None else reader.clock(at) for at in moments),
                str(waiting[name]),
            ]
        )
        sentences.append("" if one.reason is None else reader.sentence(one.reason))
    session.output.study_table(_COLUMNS, rows, sentences)


def _state(peer: peers.Peer) -> tuple[str, Group]:
    if peer.suspended:
        return "suspended", Group.HELD
    return ("down", Group.HELD) if peer.down else ("up", Group.DONE)


def _demand_name(session: Session, name: str) -> None:
    if name not in session.settings.peers:
        known = ", ".join(session.settings.peers) or "none"
        raise refuse(session, f"No peer is called {name}; there are: {known}.", WRONG_USE)


@command(app)
def echo(session: Session, name: NameArgument) -> None:
    """Ask a peer by C-ECHO whether it answers; exit 3 where it does not."""
    from dicomnode.network import client  # noqa: PLC0415  pynetdicom loads only for who calls a peer

    _demand_name(session, name)
    peer = session.settings.peers[name]
    if not (peer.host and peer.port):
        raise refuse(session, f"{name} has no host and port to call.", WRONG_USE)
    remote = remote_of(peer, session.settings.node.ae_title)
    try:
        took_ms = client.echo(remote)
    except PeerError as fault:
        raise type(fault)(f"{name} ({peer.host}:{peer.port}): {fault}") from fault
    with session.worklist() as worklist:
        act = session.act(worklist)
        with worklist.write() as tx:
            peers.echoed(tx, name, act.now_ms)
            events.add(tx, Reason("peer.echoed", {"peer": name}), act)
    if session.output.as_json:
        session.output.items([{"peer": name, "answers": True, "took_ms": round(took_ms, 1)}])
    else:
        session.output.say(f"{name} answers in {took_ms:.0f} ms.")


@command(app)
def suspend(session: Session, name: NameArgument) -> None:
    """Send nothing to a peer until it is resumed."""
    _switch(session, name, peers.suspend, "Nothing is sent to {name} until it is resumed.")


@command(app)
def resume(session: Session, name: NameArgument) -> None:
    """Send to a peer again, at once."""
    _switch(session, name, peers.resume, "{name} is sent to again.")


def _switch(
    session: Session, name: str, do: Callable[[Connection, str, Act], None], said: str
) -> None:
    _demand_name(session, name)
    with session.worklist() as worklist:
        act = session.act(worklist)
        with worklist.write() as tx:
            do(tx, name, act)
            studies.refresh_waiting(tx, studies.waiting_on(tx, peer=name), act.now_ms)
        with worklist.read() as tx:
            view = peer_view(peers.get(tx, name), session.reader(worklist))
    if session.output.as_json:
        session.output.items([view])
    else:
        session.output.say(said.format(name=name))

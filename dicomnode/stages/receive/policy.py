"""Who may open an association: closed by default, decided by AE titles and address, in words.

Pure: what a caller says goes in, a peer's name or a reason comes out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dicomnode.config import Listen, Node, Peer
from dicomnode.rules.reasons import Reason
from dicomnode.telemetry import printable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# PS3.5 6.2: an AE title has at most 16 characters; a pattern of ours stands for at most that many.
_LONGEST_AE_TITLE = 16


@dataclass(frozen=True, slots=True)
class _Title:
    pattern: re.Pattern[str]
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """A peer that may send to us: its AE titles (patterns) and the networks that it calls from."""

    name: str
    titles: tuple[_Title, ...]
    networks: tuple[Network, ...]

    @classmethod
    def of_peer(cls, name: str, peer: Peer) -> Caller:
        """Give the caller that a peer of the configuration is."""
        return cls(
            name,
            tuple(_title(text) for text in peer.ae_title),
            tuple(ipaddress.ip_network(text, strict=False) for text in peer.addresses),
        )

    def knows(self, calling_ae_title: str, *, plain: bool) -> bool:
        """Whether an AE title is one of this peer's, written plainly or by a pattern."""
        return any(
            title.is_plain is plain and title.pattern.fullmatch(calling_ae_title)
            for title in self.titles
        )

    def calls_from(self, address: str) -> bool:
        """Whether the address lies in one of the peer's networks; without networks, any does."""
        found = _address(address)
        return not self.networks or (
            found is not None and any(found in network for network in self.networks)
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one configuration."""

    callers: tuple[Caller, ...]
    called_ae_titles: frozenset[str]

    @classmethod
    def of_settings(cls, node: Node, listen: Listen, peers: Mapping[str, Peer]) -> Admission:
        """Give the rules that the configuration makes."""
        return cls(
            tuple(Caller.of_peer(name, peer) for name, peer in peers.items() if peer.receives_from),
            frozenset({node.ae_title, *(extra.title for extra in listen.ae_titles)}),
        )

    def decide(self, calling_ae_title: str, called_ae_title: str, address: str) -> str | Reason:
        """Give the name of the peer that calls, or why nobody of that name may.

        An AE title written plainly goes before one that a pattern matches; of several, the first
        whose address fits.
        """
        named = [
            caller
            for plain in (True, False)
            for caller in self.callers
            if caller.knows(calling_ae_title, plain=plain)
        ]
        said = {"calling": shown(calling_ae_title), "address": shown(address)}
        if not named:
            return Reason("association.refused_calling", said)
        fitting = next((caller for caller in named if caller.calls_from(address)), None)
        if fitting is None:
            return Reason("association.refused_address", said)
        if called_ae_title not in self.called_ae_titles:
            called = {"called": shown(called_ae_title)}
            return Reason("association.refused_called", {**said, **called})
        return fitting.name


def shown(text: str) -> str:
    """Give an AE title or address of a stranger as it may stand in a row, a page and a log."""
    return printable(text, 64) or "-"


def _title(text: str) -> _Title:
    words = re.escape(text.strip()).replace(r"\*", ".*").replace(r"\?", ".")
    bounded = rf"(?=.{{1,{_LONGEST_AE_TITLE}}}$){words}"
    return _Title(re.compile(bounded, re.DOTALL), not set(text) & set("*?"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found

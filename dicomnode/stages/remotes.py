"""Peers of the configuration as addresses that the network room can call."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial

from dicomnode.config import Peer, Settings
from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network import tls
from dicomnode.network.connect import Remote
from dicomnode.rules.reasons import Parameter, Reason


def remote_of(peer: Peer, our_ae_title: str) -> Remote:
    """Give how to call a peer that has a host and a port.

    Its certificate files are read when it is called: one that cannot be used makes this peer
    unreachable and no other.
    """
    assert peer.port is not None, "the configuration demands a port of every peer that is called"
    context: Callable[[], ssl.SSLContext] | None = None
    if peer.tls is not None:
        files = tls.Certificates(cert=peer.tls.cert, key=peer.tls.key, ca=peer.tls.ca)
        context = partial(tls.client_context, files)
    return Remote(
        host=peer.host,
        port=peer.port,
        called_ae_title=peer.ae_title[0],
        calling_ae_title=our_ae_title,
        timeout_s=peer.timeout_s,
        tls=context,
    )


def callable_peers(settings: Settings) -> Mapping[str, Peer]:
    """Give the peers that have an address to call, by name."""
    return {name: peer for name, peer in settings.peers.items() if peer.host and peer.port}


def why_down(
    name: str, remote: Remote, fault: PeerUnreachableError | PeerRefusedError, waiting: int
) -> Reason:
    """Give why a peer as a whole takes nothing; ``waiting`` deliveries stand before it."""
    # The error's last part is the cause; what stands before it names the peer once more.
    cause = str(fault).rsplit(": ", 1)[-1]
    if isinstance(fault, PeerRefusedError):
        return Reason("delivery.connection_refused", {"peer": name, "cause": cause})
    told: dict[str, Parameter] = {
        "peer": name,
        "host": remote.host,
        "port": remote.port,
        "cause": cause,
        "n": waiting,
    }
    return Reason("delivery.peer_down", told)

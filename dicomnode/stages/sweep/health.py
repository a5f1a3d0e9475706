"""Who lives: peers, asked by C-ECHO, and the node's own processes, by their heartbeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network import client
from dicomnode.network.connect import Remote
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.stages.remotes import why_down
from dicomnode.worklist import deliveries, events, peers, processes, studies
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act

# An echo is small: who does not answer in this time does not answer.
_ECHO_TIMEOUT_S = 10.0
# A process beats every few seconds; a machine that swaps may be late.
SILENCE_MS = 60_000


def echo_peers(worklist: Worklist, remotes: Mapping[str, Remote]) -> int:
    """Ask every peer whether it answers, and write down what changed; give how many are down."""
    return sum(not _echo(worklist, name, remote) for name, remote in remotes.items())


def _echo(worklist: Worklist, name: str, remote: Remote) -> bool:
    quick = dataclasses.replace(remote, timeout_s=min(remote.timeout_s, _ECHO_TIMEOUT_S))
    fault: PeerUnreachableError | PeerRefusedError | None = None
    try:
        client.echo(quick)
    except (PeerUnreachableError, PeerRefusedError) as raised:
        fault = raised
    now_ms = worklist.now()
    with worklist.write() as tx:
        was_down = peers.get(tx, name).down
        if fault is None:
            peers.echoed(tx, name, now_ms)
        elif not was_down:
            # One that is known to be down is tried by its back-off: an echo does not lengthen it.
            reason = why_down(name, remote, fault, deliveries.waiting_count(tx, name))
            peers.failed(tx, name, reason, now_ms)
    if was_down is (fault is None):
        # In a transaction of its own: it locks many studies, sorted, and may hold no other lock.
        with worklist.write() as tx:
            studies.refresh_waiting(tx, studies.waiting_on(tx, peer=name))
    return fault is None


def bury_processes(worklist: Worklist, now_ms: int) -> int:
    """Write down processes that fell silent without saying that they end; give how many.

    Their leases run out by themselves, or were freed by whoever watched them.
    """
    with worklist.read() as tx:
        silent = processes.silent(tx, now_ms - SILENCE_MS)
    for process in silent:
        with worklist.write() as tx:
            if processes.end(tx, process.id, now_ms):
                told: dict[str, Parameter] = {
                    "process": process.name,
                    "since_at": process.heartbeat_at,
                }
                events.add(tx, Reason("node.process_down", told), Act(now_ms=now_ms))
    return len(silent)

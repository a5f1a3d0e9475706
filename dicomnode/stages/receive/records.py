"""The rows that tell an admin who called: one for each association, few for a flood."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection

from dicomnode.errors import DatabaseUnavailableError
from dicomnode.network.door import AssociationEnd, AssociationRequest, Cut, CutOff, ProposedContext
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import AssociationState
from dicomnode.stages.receive.policy import shown
from dicomnode.telemetry import logger
from dicomnode.worklist import associations, peers
from dicomnode.worklist.associations import NewAssociation
from dicomnode.worklist.database import Worklist

# Refusals that are written down: a burst, then one for each of these seconds.
_BURST = 60
_SECONDS_EACH = 1.0
_LONGEST_BACKLOG = 100

# What is kept of a proposal: of a caller whom we know nearly all, of a stranger enough to tell by.
_MOST_CONTEXTS = 128
_MOST_SYNTAXES = 64
_MOST_SYNTAXES_OF_STRANGERS = 4


class Allowance:
    """How many refusals may be written down: a scanner's mistake is seen, a flood fills nothing."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use one up, if there is one."""
        with self._lock:
            now = time.monotonic()
            self._left = min(_BURST, self._left + (now - self._at) / _SECONDS_EACH)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


@dataclass(frozen=True, slots=True)
class Progress:
    """What an association of ``peer`` brought so far."""

    peer: str
    objects: int
    refused: int
    byte_count: int


class Records:
    """Writes associations down.

    Parameters
    ----------
    worklist
        Where the rows are.
    process_id
        Row of the process that receives.
    """

    def __init__(self, worklist: Worklist, process_id: int | None) -> None:
        self._worklist, self._process_id = worklist, process_id
        self._allowance = Allowance()
        # Connections that were closed before they asked for anything are written down later: the
        # thread that accepts connections waits for no database.
        self._turned_away: queue.Queue[tuple[str, Reason]] = queue.Queue(_LONGEST_BACKLOG)

    def open_one(self, request: AssociationRequest, peer: str) -> int:
        """Write down an association that is being accepted; give its row."""
        now_ms = self._worklist.now()
        new = self._new(request, peer)
        with self._worklist.write() as tx:
            return associations.open_one(tx, new, now_ms)

    def refused(self, request: AssociationRequest, reason: Reason) -> None:
        """Write down an association that was refused, within the allowance."""
        if not self._allowance.take():
            return
        logger("receive").warning("association_refused", code=reason.code, **reason.parameters)
        now_ms = self._worklist.now()
        new = self._new(request, None, reason)
        with self._worklist.write() as tx:
            associations.open_one(tx, new, now_ms)

    def turned_away(self, address: str, reason: Reason) -> None:
        """Remember a connection that was closed before it asked; never waits."""
        try:
            self._turned_away.put_nowait((address, reason))
        except queue.Full:
            return

    def write_turned_away(self) -> None:
        """Write down what `turned_away` remembers, within the allowance."""
        while True:
            try:
                address, reason = self._turned_away.get_nowait()
            except queue.Empty:
                return
            self.refused(AssociationRequest("", "", address, False, ()), reason)

    def progress(self, association_id: int, progress: Progress) -> None:
        """Bring the counts of an open association up to date."""
        now_ms = self._worklist.now()
        with self._worklist.write() as tx:
            _write(tx, association_id, progress, now_ms)

    def close(
        self, association_id: int, state: AssociationState, reason: Reason, progress: Progress
    ) -> None:
        """Write down how an association ended."""
        now_ms = self._worklist.now()

        def write(tx: Connection) -> None:
            _write(tx, association_id, progress, now_ms)
            associations.close(tx, association_id, state, now_ms, reason)

        try:
            self._worklist.transact(write)
        except DatabaseUnavailableError:
            # The row stays open; the next start of a receiver marks it lost.
            logger("receive").error("association_end_not_written", association=association_id)

    def _new(
        self, request: AssociationRequest, peer: str | None, refusal: Reason | None = None
    ) -> NewAssociation:
        return NewAssociation(
            process_id=self._process_id,
            peer=peer,
            calling_ae_title=shown(request.calling_ae_title)[:16],
            called_ae_title=shown(request.called_ae_title)[:16],
            address=shown(request.address),
            contexts=contexts_as_data(
                request.contexts,
                _MOST_SYNTAXES if refusal is None else _MOST_SYNTAXES_OF_STRANGERS,
            ),
            refused=refusal,
        )


def _write(tx: Connection, association_id: int, progress: Progress, now_ms: int) -> None:
    associations.progress(
        tx,
        association_id,
        objects=progress.objects,
        refused=progress.refused,
        byte_count=progress.byte_count,
        now_ms=now_ms,
    )
    if progress.objects:
        peers.seen_in(tx, progress.peer, now_ms)


def contexts_as_data(
    contexts: Sequence[ProposedContext], most_syntaxes: int
) -> list[dict[str, object]]:
    """Give contexts as JSON data, nothing in it as long or as strange as a peer likes.

    ``left_out`` is how many of a context's transfer syntaxes, or in a last entry of its own how
    many contexts, were proposed and not kept.
    """
    told = [_context_as_data(context, most_syntaxes) for context in contexts[:_MOST_CONTEXTS]]
    left_out = len(contexts) - len(told)
    return [*told, {"left_out": left_out}] if left_out else told


def _context_as_data(context: ProposedContext, most_syntaxes: int) -> dict[str, object]:
    proposed = context.transfer_syntaxes
    told: dict[str, object] = {
        "abstract_syntax": shown(context.abstract_syntax),
        "proposed": [shown(syntax) for syntax in proposed[:most_syntaxes]],
        "accepted": shown(context.accepted) if context.accepted else None,
        "cause": context.cause,
    }
    left_out = len(proposed) - most_syntaxes
    return {**told, "left_out": left_out} if left_out > 0 else told


def end_in_words(
    end: AssociationEnd, calling: str, address: str, peer: str, count: int
) -> tuple[AssociationState, Reason]:
    """Give the state and the reason of an association that ended."""
    if end.is_released:
        return AssociationState.CLOSED, Reason("association.closed", {"peer": peer, "n": count})
    if end.cut_off is None:
        return AssociationState.ABORTED, Reason("association.cut", {"peer": peer, "n": count})
    return AssociationState.ABORTED, cut_in_words(end.cut_off, calling, address)


# Each cause's sentence and the parameters that it has.
_CUTS: Mapping[Cut, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        Cut.SILENT: ("association.silent", ("calling", "address", "limit_s")),
        Cut.IDLE: ("association.silent", ("calling", "address", "limit_s")),
        Cut.OVERSIZED: ("association.oversized", ("address", "need_bytes", "limit_bytes")),
        Cut.MALFORMED: ("association.malformed", ("address",)),
        Cut.TLS: ("association.refused_tls", ("address",)),
        Cut.LIMIT: ("association.busy", ("calling", "n", "max")),
        Cut.LIMIT_ADDRESS: ("association.busy_address", ("address", "n", "max")),
        Cut.DRAINING: ("association.draining", ("calling",)),
        Cut.FAILED: ("association.lost", ()),
    }
)


def cut_in_words(cut_off: CutOff, calling: str, address: str) -> Reason:
    """Give the reason for which we closed a connection."""
    code, names = _CUTS[cut_off.cut]
    size, limit = cut_off.size, cut_off.limit
    found: Mapping[str, str | float] = {
        "calling": calling,
        "address": address,
        "limit_s": limit,
        "need_bytes": size,
        "limit_bytes": limit,
        "n": size,
        "max": limit,
    }
    return Reason(code, {name: found[name] for name in names})

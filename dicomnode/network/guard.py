"""The guard that pynetdicom lacks: bounds on what a socket may bring, how fast, and how many.

Without it a peer that announces a PDU of 4 GB is given the memory, one that falls silent inside a
PDU holds a thread and a place for ever, and a hundred idle connections shut everybody else out.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dicomnode.network.door import Cut, CutOff
from dicomnode.network.library import LARGEST_EARLY_PDU, PDU_SLACK

# A PDU may take longer than the silence limit as long as it comes faster than this.
_SLOWEST_BYTES_PER_S = 4096


# PS3.8 9.3.2.2: presentation context ids are odd, 1 to 255.
_MOST_CONTEXTS = 128
# Some 60 transfer syntaxes were ever defined.
_MOST_SYNTAXES = 128
# PS3.8 D.3.3: what is negotiated besides is said once, or once for each SOP class.
_MOST_USER_ITEMS = 1024
# PS3.8 9.3.2: what stands before the first item of an A-ASSOCIATE-RQ, its header included
_FIXED_BYTES = 74
_CONTEXT_ITEM, _USER_ITEM = 0x20, 0x50


class ProposalError(Exception):
    """An A-ASSOCIATE-RQ proposes more than any caller has to."""


def bound_proposal(pdu: bytes) -> None:
    """Look how much an A-ASSOCIATE-RQ proposes, before it is taken apart.

    12,000 contexts in one PDU keep pynetdicom busy for a second, and whoever connects may send it.

    Raises
    ------
    ProposalError
        When it is more than the standard has room for, or its lengths lie.
    """
    whole = memoryview(pdu)
    # Besides the contexts: one application context, one item of user information.
    for kind, body in _items(whole[_FIXED_BYTES:], _MOST_CONTEXTS + 2):
        if kind == _CONTEXT_ITEM:
            deque(_items(body[4:], 1 + _MOST_SYNTAXES), maxlen=0)
        elif kind == _USER_ITEM:
            deque(_items(body, _MOST_USER_ITEMS), maxlen=0)


def _items(body: memoryview, most: int) -> Iterator[tuple[int, memoryview]]:
    """Give type and body of each item (PS3.8 9.3.2.1 to 9.3.2.3)."""
    for _ in range(most):
        if not body:
            return
        end = 4 + int.from_bytes(body[2:4], "big")
        if end > len(body):
            raise ProposalError("an item is longer than what holds it")
        yield body[0], body[4:end]
        body = body[end:]
    if body:
        raise ProposalError("more is proposed than may be")


class GuardedSocket(AssociationSocket):
    """A connected socket whose every read and write has an end.

    Parameters
    ----------
    assoc
        The association that it serves.
    connected
        The connected socket, already wrapped in TLS where that is used.
    silence_s
        Longest wait for the next byte of a PDU, or for room to send one.
    maximum_pdu
        Largest PDU that was offered to the peer, bytes.
    """

    def __init__(
        self, assoc: Association, connected: socket.socket, *, silence_s: float, maximum_pdu: int
    ) -> None:
        # An answer held back by Nagle's algorithm until the peer's delayed ACK costs 44 ms.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(silence_s)
        super().__init__(assoc, client_socket=connected)
        self._silence_s = silence_s
        self._maximum_pdu = maximum_pdu
        self.cut_off: CutOff | None = None
        self.last_progress = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether there is something to read; unlike select, for any file number."""
        connected = self.socket
        if connected is None or not self._is_connected:
            return False
        if isinstance(connected, ssl.SSLSocket) and connected.pending():
            return True
        poll = select.poll()
        try:
            poll.register(connected, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed, PS3.8 9.2
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read ``nr_bytes``; fewer only if the peer closed.

        Raises
        ------
        OSError
            When more is announced than may come, or the peer is silent or too slow.
        """
        established = self.assoc.is_established
        limit = self._maximum_pdu + PDU_SLACK if established else LARGEST_EARLY_PDU
        if nr_bytes > limit:
            self.cut_off = CutOff(Cut.OVERSIZED, nr_bytes, limit)
            raise OSError("a PDU is longer than may come")
        connected = self.socket
        if connected is None:
            raise OSError("the connection is closed")
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        deadline = time.monotonic() + self._silence_s + nr_bytes / _SLOWEST_BYTES_PER_S
        received = 0
        try:
            while received < nr_bytes:
                count = connected.recv_into(view[received:])
                if not count:
                    return buffer[:received]
                received += count
                self.last_progress = time.monotonic()
                if self.last_progress > deadline and received < nr_bytes:
                    break
            else:
                return buffer
        except TimeoutError:
            self.cut_off = CutOff(Cut.SILENT, limit=self._silence_s)
            raise
        self.cut_off = CutOff(Cut.SILENT, limit=self._silence_s)
        raise TimeoutError("a PDU comes too slowly")

    def send(self, bytestream: bytes) -> None:
        """Send all of ``bytestream``, or end the connection."""
        connected = self.socket
        if connected is None:
            self.event_queue.put("Evt17")  # transport connection closed, PS3.8 9.2
            return
        view = memoryview(bytestream)
        try:
            while view:
                view = view[connected.send(view) :]
                self.last_progress = time.monotonic()
        except OSError as fault:
            if isinstance(fault, TimeoutError):
                self.cut_off = self.cut_off or CutOff(Cut.SILENT, limit=self._silence_s)
            self.event_queue.put("Evt17")  # transport connection closed, PS3.8 9.2


class ConnectionLimits:
    """How many connections are open, in all and by address; each counts from its first byte on.

    ``slack`` places beyond the limit are for callers that are told in words to come later.
    """

    def __init__(self, total: int, per_address: int, slack: int = 32) -> None:
        self._total, self._per_address, self._slack = total, per_address, slack
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def set_limits(self, total: int, per_address: int) -> None:
        """Use other limits from the next connection on."""
        with self._lock:
            self._total, self._per_address = total, per_address

    def admit(self, address: str) -> CutOff | None:
        """Count a connection in, or tell which limit it is over."""
        with self._lock:
            count = self._open.total()
            if count >= self._total + self._slack:
                return CutOff(Cut.LIMIT, count, self._total)
            if self._open[address] >= self._per_address:
                return CutOff(Cut.LIMIT_ADDRESS, self._open[address], self._per_address)
            self._open[address] += 1
            return None

    def leave(self, address: str) -> None:
        """Count a connection out."""
        with self._lock:
            self._open[address] -= 1
            if self._open[address] <= 0:
                del self._open[address]

    @property
    def is_full(self) -> bool:
        """Whether a further association, though connected, has to come later."""
        with self._lock:
            return self._open.total() > self._total

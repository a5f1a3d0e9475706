"""A DICOM server for Verification and Storage: who listens, counts and ends associations."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import _STORAGE_CLASSES
from pynetdicom.transport import AssociationServer

from dicomnode.network import library  # sets pynetdicom's switches
from dicomnode.network.door import Cut, CutOff, Door, ServerSettings
from dicomnode.network.guard import ConnectionLimits
from dicomnode.network.incoming import IncomingAssociation
from dicomnode.telemetry import logger

assert library

_BACKLOG = 256
_POLL_S = 0.1
# An association that rests is cut at once when the server drains; one at work, between objects.
_RESTED_S = 1.0

VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A.4


def storage_classes() -> tuple[str, ...]:
    """Every storage SOP class that the library knows (PS3.4 B.5)."""
    return tuple(sorted(_STORAGE_CLASSES.values()))


class ListeningServer(AssociationServer):
    """The listening socket: accepts, counts, and starts a thread for each connection."""

    request_queue_size = _BACKLOG

    def __init__(self, settings: ServerSettings, door: Door, limits: ConnectionLimits) -> None:
        self.settings, self.door, self._limits = settings, door, limits
        entity = ApplicationEntity(settings.ae_title)
        # The door decides and the limits count, so that every refusal is recorded.
        entity.require_called_aet = False
        entity.maximum_associations = sys.maxsize
        contexts = _presentation_contexts(settings)
        super().__init__(entity, (settings.host, settings.port), settings.ae_title, contexts)
        self._associations: set[IncomingAssociation] = set()
        self._lock = threading.Lock()

    def use(self, settings: ServerSettings) -> None:
        """Use other settings, but the address, from the next connection on."""
        self.contexts = _presentation_contexts(settings)
        self.settings = settings
        self._limits.set_limits(settings.maximum_associations, settings.associations_per_address)

    def get_request(self) -> tuple[socket.socket, tuple[Any, ...]]:
        """Accept a connection; a TLS handshake belongs to the association's own thread."""
        assert self.socket is not None
        connected, address = self.socket.accept()
        connected.setblocking(True)
        return connected, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether there is room for a connection."""
        address = str(client_address[0])
        cut_off = self._limits.admit(address)
        if cut_off is not None:
            self.door.turned_away(address, cut_off)
        return cut_off is None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the association's thread."""
        try:
            association = IncomingAssociation(self, request, client_address)
        except BaseException:
            self._limits.leave(str(client_address[0]))
            raise
        # Before it starts: one that ends at once is forgotten after it was counted.
        with self._lock:
            self._associations.add(association)
        try:
            association.start()
        except BaseException:
            self.forget(association)
            association.abandon()
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; the others are served on."""
        logger("network").exception("connection_failed")

    def forget(self, association: IncomingAssociation) -> None:
        """Count an ended association out."""
        with self._lock:
            self._associations.discard(association)
        self._limits.leave(association.address)

    def associations(self) -> tuple[IncomingAssociation, ...]:
        """Every connection that is open now."""
        with self._lock:
            return tuple(self._associations)

    def stop_listening(self) -> None:
        """Close the listening socket; open associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def _presentation_contexts(settings: ServerSettings) -> list[PresentationContext]:
    return [build_context(syntax, list(transfer)) for syntax, transfer in settings.contexts]


class Server:
    """The DICOM door of one process.

    Parameters
    ----------
    settings
        Address, limits, and what is negotiated.
    door
        Who decides about callers and takes their objects.

    Raises
    ------
    OSError
        From `start`, when the address cannot be listened on.
    """

    def __init__(self, settings: ServerSettings, door: Door) -> None:
        self._settings, self._door = settings, door
        self._limits = ConnectionLimits(
            settings.maximum_associations, settings.associations_per_address
        )
        self._listening: ListeningServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and serve, in threads of their own."""
        self._listening = ListeningServer(self._settings, self._door, self._limits)
        self._thread = threading.Thread(
            target=self._listening.serve_forever, args=(_POLL_S,), name="accept", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on (what port 0 became)."""
        assert self._listening is not None
        return int(self._listening.server_address[1])

    @property
    def is_full(self) -> bool:
        """Whether a caller should be asked to come later."""
        return self._limits.is_full

    def reload(self, settings: ServerSettings) -> None:
        """Use other settings, but host and port, from the next connection on."""
        self._settings = settings
        if self._listening is not None:
            self._listening.use(settings)

    def drain(self, limit_s: float) -> None:
        """Take no more callers; let objects on their way in be finished, for at most ``limit_s``.

        An association that has rested for a second is aborted: its sender comes again.
        """
        listening = self._listening
        if listening is None:
            return
        listening.stop_listening()
        deadline = time.monotonic() + limit_s
        resting_since: dict[IncomingAssociation, float] = {}
        while (open_now := listening.associations()) and time.monotonic() < deadline:
            for association in open_now:
                now = time.monotonic()
                if not association.is_resting:
                    resting_since.pop(association, None)
                elif now - resting_since.setdefault(association, now) > _RESTED_S:
                    association.cut(CutOff(Cut.DRAINING))
            time.sleep(0.05)
        self._end(listening)

    def stop(self) -> None:
        """End now: abort what is open, close the listening socket, join every thread."""
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.stop_listening()
            self._end(self._listening)

    def _end(self, listening: ListeningServer) -> None:
        for association in listening.associations():
            association.cut(CutOff(Cut.DRAINING))
        for association in listening.associations():
            if association.ident is not None:
                association.join(self._settings.silence_s + 5)
        if self._thread is not None:
            self._thread.join()
        self._listening, self._thread = None, None

"""An association that we open: every wait has an end, and every failure its words.

pynetdicom's own client can block for ever on a peer that froze, and tells a refused connection, a
wrong name and a broken certificate apart only in its log.
"""

from __future__ import annotations

import queue
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from dicomnode.errors import ConfigurationError, PeerRefusedError, PeerUnreachableError
from dicomnode.network import library  # sets pynetdicom's switches
from dicomnode.network.guard import GuardedSocket

assert library

_LOOK_S = 0.25
# PS3.8 9.3.2.2: a context's id is an odd number of one byte.
MOST_CONTEXTS = 128

# PS3.8 table 9-21: (source, reason) of an A-ASSOCIATE-RJ in words.
_REJECTIONS = {
    (1, 2): "it does not know the DICOM application context",
    (1, 3): "it does not know our AE title",
    (1, 7): "that is not its AE title",
    (2, 2): "it does not speak this version of the protocol",
    (3, 1): "it is too busy",
    (3, 2): "too many connections are open there",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer to call, and how.

    ``timeout_s`` bounds each wait: for the connection, the answer to an association request, room
    to send and the answer to a message. A slow transfer that goes on is not cut by it. ``tls``
    makes the context of one connection: a renewed certificate is used without a restart.
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float = 30.0
    maximum_pdu: int = 131072
    tls: Callable[[], ssl.SSLContext] | None = None


class _ConnectedSocket(GuardedSocket):
    """A socket that was connected before pynetdicom asks for it."""

    def __init__(self, assoc: Association, connected: socket.socket, remote: Remote) -> None:
        super().__init__(
            assoc, connected, silence_s=remote.timeout_s, maximum_pdu=remote.maximum_pdu
        )
        # The constructor announced an incoming connection; this one goes out.
        with suppress(queue.Empty):
            self.event_queue.get_nowait()
        self.tls_args = None

    def connect(self, primitive: T_CONNECT) -> None:
        """Confirm the connection that stands (PS3.8 9.2.3)."""
        assert self.socket is not None
        self.assoc.requestor.address_info = AddressInformation.from_tuple(self.socket.getsockname())
        primitive.result = "Evt2"
        self.provider_queue.put(primitive)
        self._ready.set()


class _PatientProvider(DIMSEServiceProvider):
    """A DIMSE provider whose wait for an answer starts when the last byte has been sent."""

    guarded: GuardedSocket

    def get_msg(self, block: bool = False) -> Any:
        """Give the next message; (None, None) when the peer was silent for the timeout.

        Only who waits for an answer takes one. pynetdicom's own loop looks without waiting, is
        paused by a flag that it may not have seen yet, and then drops the answer as unexpected:
        the second of two requests in a row was lost so.
        """
        if not block:
            return None, None
        started = time.monotonic()
        while True:
            try:
                return self.msg_queue.get(timeout=_LOOK_S)
            except queue.Empty:
                since = max(started, self.guarded.last_progress)
                if time.monotonic() - since > (self.dimse_timeout or 0.0):
                    return None, None


class _CallingEntity(ApplicationEntity):
    """The application entity that calls one peer on a socket of ours."""

    def __init__(self, remote: Remote, connected: socket.socket) -> None:
        super().__init__(remote.calling_ae_title)
        self._remote, self._connected = remote, connected
        self.acse_timeout = remote.timeout_s
        self.dimse_timeout = remote.timeout_s
        # Idle is not counted on our side: we release as soon as we are done.
        self.network_timeout = None

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: Any
    ) -> AssociationSocket:
        guarded = _ConnectedSocket(assoc, self._connected, self._remote)
        provider = _PatientProvider(assoc)
        provider.guarded = guarded
        assoc.dimse = provider
        return guarded


def contexts_of(classes: Mapping[str, Sequence[str]]) -> list[PresentationContext]:
    """Give one context for each SOP class and transfer syntax.

    Of several transfer syntaxes in one context a peer picks the one that it likes: it would hide
    that it takes the one in which the file lies.
    """
    contexts = [
        build_context(sop_class, syntax)
        for sop_class, syntaxes in classes.items()
        for syntax in syntaxes
    ]
    if len(contexts) > MOST_CONTEXTS:
        raise ValueError("an association holds at most 128 presentation contexts")
    return contexts


@contextmanager
def associate(remote: Remote, classes: Mapping[str, Sequence[str]]) -> Iterator[Association]:
    """Open an association and release it at the end.

    Parameters
    ----------
    remote
        Whom to call.
    classes
        Transfer syntaxes by SOP class.

    Raises
    ------
    PeerUnreachableError
        When no connection comes about, or it breaks before the association stands.
    PeerRefusedError
        When the peer rejects the association, or takes none of the contexts.
    """
    contexts = contexts_of(classes)
    connected = _connect(remote)
    started = time.monotonic()
    try:
        association = _CallingEntity(remote, connected).associate(
            remote.host if _is_literal(remote.host) else "127.0.0.1",
            remote.port,
            contexts=contexts,
            ae_title=remote.called_ae_title,
            max_pdu=remote.maximum_pdu,
        )
        if not association.is_established:
            raise _refusal(association, remote, time.monotonic() - started)
        try:
            yield association
        finally:
            _release(association)
    finally:
        with suppress(OSError):
            connected.close()


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _connect(remote: Remote) -> socket.socket:
    where = f"{remote.host}:{remote.port}"
    context = _context(remote)
    try:
        connected = socket.create_connection((remote.host, remote.port), remote.timeout_s)
    except TimeoutError as fault:
        raise PeerUnreachableError(f"{where} does not answer in {remote.timeout_s:g} s") from fault
    except socket.gaierror as fault:
        raise PeerUnreachableError(f"the name {remote.host} is not known") from fault
    except ConnectionRefusedError as fault:
        raise PeerUnreachableError(f"nothing listens at {where}") from fault
    except OSError as fault:
        raise PeerUnreachableError(f"{where} cannot be reached ({fault.strerror})") from fault
    if context is None:
        return connected
    try:
        return context.wrap_socket(connected, server_hostname=remote.host)
    except ssl.SSLCertVerificationError as fault:
        connected.close()
        raise PeerUnreachableError(
            f"the certificate of {where} is not valid ({fault.verify_message})"
        ) from fault
    except (OSError, ssl.SSLError) as fault:
        connected.close()
        raise PeerUnreachableError(f"TLS with {where} does not come about") from fault


def _context(remote: Remote) -> ssl.SSLContext | None:
    """Give the TLS context of one connection; files that cannot be used stop this peer alone."""
    try:
        return None if remote.tls is None else remote.tls()
    except ConfigurationError as fault:
        raise PeerUnreachableError(f"no TLS with {remote.host}:{remote.port}: {fault}") from fault


def _refusal(association: Association, remote: Remote, waited_s: float) -> Exception:
    response = association.acceptor.primitive
    if association.is_rejected and response is not None:
        key = (response.result_source or 0, response.diagnostic or 0)
        words = _REJECTIONS.get(key, "it gives no reason")
        return PeerRefusedError(f"{remote.called_ae_title} refuses the association: {words}")
    if response is not None and response.result == 0:
        return PeerRefusedError(
            f"{remote.called_ae_title} takes nothing of what we offer on this association"
        )
    is_silent = waited_s >= remote.timeout_s
    how = f"gives no answer in {remote.timeout_s:g} s" if is_silent else "closed the connection"
    return PeerUnreachableError(
        f"{remote.host}:{remote.port} {how} before the association was established"
    )


def _release(association: Association) -> None:
    if association.is_established:
        association.release()
    if association.is_alive():
        association.abort()
        association.join(_LOOK_S * 4)

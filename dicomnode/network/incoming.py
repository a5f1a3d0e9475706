"""One incoming association: pynetdicom's negotiation and states, our data path and limits."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
from typing import TYPE_CHECKING, Any, Protocol, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.transport import AddressInformation

from dicomnode.network.commands import CommandField, encode_response
from dicomnode.network.door import (
    Answer,
    Arrived,
    AssociationEnd,
    AssociationHandler,
    AssociationRequest,
    Cut,
    CutOff,
    Destination,
    ProposedContext,
    Refuse,
    Rejection,
    StoreCommand,
)
from dicomnode.network.guard import GuardedSocket
from dicomnode.network.messages import MessageAssembler, Request
from dicomnode.network.upper_layer import WaitingProvider
from dicomnode.telemetry import logger

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.pdu_primitives import A_ASSOCIATE

    from dicomnode.network.door import Door, ServerSettings

_PROCESSING_FAILURE = Answer(0x0110, "processing failure")  # PS3.7 C.5.10
_OTHER_CLASS = Answer(0x0122, "the SOP Class is not that of the context")  # PS3.7 C.5.25
_SUCCESS = 0x0000
_COUNTER = itertools.count(1)
# PS3.8 table 9-18
_CONTEXT_REFUSALS = {
    1: "refused by the user",
    2: "no reason given",
    3: "the SOP class is not taken",
    4: "none of the transfer syntaxes is taken",
}


class Listening(Protocol):
    """What an association knows of the server that accepted it."""

    ae: ApplicationEntity
    contexts: list[PresentationContext]
    door: Door
    server_address: tuple[str, int] | tuple[str, int, int, int]
    settings: ServerSettings

    def forget(self, association: IncomingAssociation) -> None:
        """Count an ended association out."""


class IncomingAssociation(Association):
    """An association that a peer opens; the thread that serves it."""

    def __init__(
        self, server: Listening, connected: socket.socket, address: tuple[Any, ...]
    ) -> None:
        super().__init__(server.ae, "acceptor")
        settings = server.settings
        self.name = f"association-{next(_COUNTER)}"
        self._listening = server
        self._settings = settings
        self._connected = connected
        self.address = str(address[0])
        self._handler: AssociationHandler | None = None
        self._cut_off: CutOff | None = None
        self._guarded: GuardedSocket | None = None
        self._messages = MessageAssembler(
            self, self._arriving, self.note, settings.maximum_object_bytes
        )
        self._upper_layer = WaitingProvider(self, self._messages.announce)
        self.dimse, self.dul = self._messages, self._upper_layer
        # The timers are the new upper layer's: set again what pynetdicom's constructor had set.
        self.acse_timeout = settings.request_s
        self.network_timeout = settings.idle_s
        self.acceptor.maximum_length = settings.maximum_pdu
        self.acceptor.ae_title = settings.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        self.acceptor.implementation_version_name = self.ae.implementation_version_name
        # Shared, not copied as pynetdicom does: negotiation only reads them.
        self.acceptor.supported_contexts = server.contexts
        self.requestor.address_info = AddressInformation.from_tuple(address)
        self.bind(evt.EVT_REQUESTED, self._on_requested)

    def _bind_defaults(self) -> None:
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def note(self, cut_off: CutOff) -> None:
        """Remember why we end the association; the first cause counts."""
        self._cut_off = self._cut_off or cut_off

    def run_reactor(self) -> None:
        """Serve the association from its first byte to its end (this thread)."""
        try:
            if self._secure():
                self._guarded = GuardedSocket(
                    self,
                    self._connected,
                    silence_s=self._settings.silence_s,
                    maximum_pdu=self._settings.maximum_pdu,
                )
                self.set_socket(self._guarded)
                super().run_reactor()
        except Exception:  # noqa: BLE001  top of this thread
            logger("network").exception("association_failed")
            self.note(CutOff(Cut.FAILED))
        finally:
            self._finish()

    def _secure(self) -> bool:
        if self._settings.tls is None:
            return True
        # Here, not in the accept loop: a client that is silent in its handshake holds only itself.
        self._connected.settimeout(self._settings.request_s)
        try:
            context = self._settings.tls()
            self._connected = context.wrap_socket(self._connected, server_side=True)
        except (OSError, ssl.SSLError) as fault:
            self.note(CutOff(Cut.TLS, words=_tls_words(fault)))
            return False
        return True

    def _on_requested(self, _event: evt.Event) -> None:
        primitive = cast("A_ASSOCIATE", self.requestor.primitive)
        request = AssociationRequest(
            calling_ae_title=str(primitive.calling_ae_title).strip(),
            called_ae_title=str(primitive.called_ae_title).strip(),
            address=self.address,
            is_tls=self._settings.tls is not None,
            contexts=_negotiated(self),
        )
        try:
            verdict = self._listening.door.requested(request)
        except Exception:  # noqa: BLE001  no caller may be let in, or left hanging, by a fault here
            logger("network").exception("request_failed")
            verdict = Refuse(Rejection.CONGESTION)
        if isinstance(verdict, Refuse):
            self.acse.send_reject(*verdict.rejection.value)
            self.kill()
        else:
            self._handler = verdict

    def _use_handler(self) -> AssociationHandler:
        assert self._handler is not None  # set before an association is accepted
        return self._handler

    def _arriving(self, command: StoreCommand, abstract_syntax: str) -> Destination | Answer:
        if command.sop_class_uid != abstract_syntax:
            return self._refuse(_OTHER_CLASS)
        try:
            return self._use_handler().arriving(command)
        except Exception:  # noqa: BLE001  the upper layer's thread must live to answer
            logger("network").exception("arrival_failed")
            return self._refuse(_PROCESSING_FAILURE)

    def _refuse(self, answer: Answer) -> Answer:
        try:
            self._use_handler().refused(answer)
        except Exception:  # noqa: BLE001  the sender is answered, whether this is counted or not
            logger("network").exception("refusal_failed")
        return answer

    def _serve_request(
        self,
        msg: Request,  # type: ignore[override]  # what our provider of messages hands out
        context_id: int,
    ) -> None:
        answer = Answer(_SUCCESS)
        if msg.command.field == CommandField.C_STORE_RQ:
            answer = self._store(msg.outcome)
        self._messages.send_response(
            context_id, encode_response(msg.command, answer.status, answer.comment)
        )
        self._upper_layer.restart_idle_timer()

    def _store(self, outcome: Arrived | Answer | None) -> Answer:
        if not isinstance(outcome, Arrived):
            return outcome or _PROCESSING_FAILURE
        try:
            return self._use_handler().stored(outcome)
        except Exception:  # noqa: BLE001  a fault of ours must not look like success, nor hang
            logger("network").exception("storing_failed")
            return self._refuse(_PROCESSING_FAILURE)
        finally:
            with contextlib.suppress(OSError):
                outcome.path.unlink(missing_ok=True)

    def cut(self, cut_off: CutOff) -> None:
        """Abort the association from another thread, without waiting for its end."""
        self.note(cut_off)
        if self.is_established:
            self.abort(block=False)
        else:
            with contextlib.suppress(OSError):
                self._connected.shutdown(socket.SHUT_RDWR)

    @property
    def is_resting(self) -> bool:
        """Whether nothing is on its way in and no answer is owed."""
        return self._messages.is_resting

    def abandon(self) -> None:
        """Give back what an association holds whose thread never started."""
        self._upper_layer.close_bell()

    def _finish(self) -> None:
        # Whatever cannot be cleaned up: its row is closed, and its place is given back.
        try:
            self._let_go()
        except Exception:  # noqa: BLE001  top of this thread
            logger("network").exception("clean_up_failed")
        try:
            self._tell_end(self._ended_by())
        except Exception:  # noqa: BLE001  top of this thread
            logger("network").exception("end_failed")
        finally:
            self._listening.forget(self)

    def _let_go(self) -> None:
        self.dul.kill_dul()
        if self.dul.is_alive():
            self.dul.join()
        self._upper_layer.close_bell()
        try:
            self._messages.discard()
        finally:
            with contextlib.suppress(OSError):
                self._connected.close()

    def _ended_by(self) -> CutOff | None:
        guarded = self._guarded
        cut_off = self._cut_off or (guarded.cut_off if guarded is not None else None)
        if cut_off is None and self._upper_layer.was_idle:
            return CutOff(Cut.IDLE, limit=self._settings.idle_s)
        if cut_off is None and self._upper_layer.had_invalid_pdu:
            return CutOff(Cut.MALFORMED)
        return cut_off

    def _tell_end(self, cut_off: CutOff | None) -> None:
        if self._handler is not None:
            self._handler.ended(AssociationEnd(self.is_released, cut_off))
        elif not self.is_rejected and cut_off is not None:
            self._listening.door.turned_away(self.address, cut_off)


def _negotiated(association: Association) -> tuple[ProposedContext, ...]:
    """Give what is proposed with what will be answered: the library's own rule, asked first."""
    primitive = cast("A_ASSOCIATE", association.requestor.primitive)
    proposed = primitive.presentation_context_definition_list
    outcomes, _ = negotiate_as_acceptor(proposed, association.acceptor.supported_contexts)
    by_id = {outcome.context_id: outcome for outcome in outcomes}
    return tuple(_outcome(context, by_id.get(context.context_id)) for context in proposed)


def _outcome(context: PresentationContext, outcome: PresentationContext | None) -> ProposedContext:
    is_accepted = outcome is not None and outcome.result == 0
    return ProposedContext(
        cast("int", context.context_id),
        str(context.abstract_syntax),
        tuple(str(syntax) for syntax in context.transfer_syntax),
        accepted=str(outcome.transfer_syntax[0]) if outcome is not None and is_accepted else "",
        cause="" if is_accepted else _cause(outcome),
    )


def _cause(outcome: PresentationContext | None) -> str:
    return _CONTEXT_REFUSALS.get((outcome.result if outcome is not None else None) or 0, "refused")


def _tls_words(fault: OSError) -> str:
    if isinstance(fault, TimeoutError):
        return "the handshake was not finished in time"
    if isinstance(fault, ssl.SSLError) and fault.reason:
        return fault.reason.lower().replace("_", " ")
    return "the connection broke in the handshake"

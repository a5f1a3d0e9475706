"""P-DATA fragments put together into requests; data sets stream to a file, never to memory.

Takes the place of pynetdicom's DIMSE provider on the server's side: that one holds whole objects,
or writes them where and as it likes, and leaves half of one behind when a peer aborts.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicomnode.network.arrival import ArrivalFile, DroppedArrival
from dicomnode.network.commands import (
    LARGEST_COMMAND,
    Command,
    CommandField,
    MalformedError,
    parse_command,
)
from dicomnode.network.door import Answer, Arrived, Cut, CutOff, Destination, StoreCommand

# PS3.8 E.2: the message control header's two bits.
_IS_COMMAND = 0b01
_IS_LAST = 0b10

# How long the association's thread waits for a message before it looks at its timers.
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """A whole C-STORE-RQ or C-ECHO-RQ, ready to be served.

    ``outcome`` is what arrived of a C-STORE-RQ, or the answer that stood before its data came.
    """

    context_id: int
    command: Command
    outcome: Arrived | Answer | None = None


class OversizedError(MalformedError):
    """An object is larger than what is taken."""


class MessageAssembler(DIMSEServiceProvider):
    """The DIMSE provider of one incoming association.

    Parameters
    ----------
    assoc
        The association.
    arriving
        Asked once per C-STORE-RQ, before its first data byte; told the context's abstract syntax.
    cut
        Told why the association has to be aborted.
    maximum_object_bytes
        Largest data set.
    """

    def __init__(
        self,
        assoc: Association,
        arriving: Callable[[StoreCommand, str], Destination | Answer],
        cut: Callable[[CutOff], None],
        maximum_object_bytes: int,
    ) -> None:
        super().__init__(assoc)
        self._arriving, self._cut = arriving, cut
        self._maximum_object_bytes = maximum_object_bytes
        self._requests: queue.Queue[Any] = queue.Queue()
        self.msg_queue = self._requests
        self._context_id = 0
        self._encoded_command = bytearray()
        self._command: Command | None = None
        self._arrival: ArrivalFile | DroppedArrival | None = None
        self._answer: Answer | None = None
        self._has_unanswered = False
        self._is_broken = False

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next fragments (the upper layer's thread)."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                if not self._is_broken:
                    self._take(context_id, memoryview(fragment))
        except MalformedError as fault:
            self._is_broken = True
            self.discard()
            size = self._maximum_object_bytes
            self._cut(
                CutOff(Cut.OVERSIZED, size + 1, size)
                if isinstance(fault, OversizedError)
                else CutOff(Cut.MALFORMED, words=str(fault))
            )
            self.dul.event_queue.put("Evt19")  # invalid PDU: A-ABORT, PS3.8 9.2

    def _take(self, context_id: int, fragment: memoryview) -> None:
        if not fragment:
            raise MalformedError("a fragment has no message control header")
        control, body = fragment[0], fragment[1:]
        is_last = bool(control & _IS_LAST)
        if control & _IS_COMMAND:
            self._take_command(context_id, body, is_last=is_last)
        else:
            self._take_data(context_id, body, is_last=is_last)

    def _take_command(self, context_id: int, body: memoryview, *, is_last: bool) -> None:
        if self._arrival is not None:
            raise MalformedError("a command came in the middle of a data set")
        if self._encoded_command and context_id != self._context_id:
            raise MalformedError("a command came in parts on two contexts")
        self._context_id = context_id
        self._encoded_command += body
        if len(self._encoded_command) > LARGEST_COMMAND:
            raise MalformedError("a command set is larger than any can be")
        if is_last:
            command = parse_command(bytes(self._encoded_command))
            self._encoded_command.clear()
            self._begin(command)

    def _begin(self, command: Command) -> None:
        if command.field == CommandField.C_CANCEL_RQ:
            return  # nothing that we serve can be cancelled
        # PS3.7 D.3.3.3: without a negotiated window one operation at a time. A sender that goes on
        # without our answers would fill the disk with what nobody has looked at.
        if self._has_unanswered:
            raise MalformedError("a request came before the last one was answered")
        context = self.assoc._accepted_cx.get(self._context_id)
        if context is None:
            raise MalformedError("a message came on a context that was not accepted")
        is_store = command.field == CommandField.C_STORE_RQ
        if not is_store and command.field != CommandField.C_ECHO_RQ:
            raise MalformedError(f"no service here answers command {command.field:#06x}")
        if is_store != command.has_data_set:
            raise MalformedError("a data set is missing, or came where none belongs")
        self._has_unanswered = True
        if not is_store:
            self._requests.put((self._context_id, Request(self._context_id, command)))
            return
        self._command = command
        store = StoreCommand(
            command.sop_class_uid, command.sop_instance_uid, str(context.transfer_syntax[0])
        )
        verdict = self._arriving(store, str(context.abstract_syntax))
        if isinstance(verdict, Answer):
            self._answer, self._arrival = verdict, DroppedArrival()
        else:
            self._answer, self._arrival = None, ArrivalFile(store, verdict)

    def _take_data(self, context_id: int, body: memoryview, *, is_last: bool) -> None:
        arrival, command = self._arrival, self._command
        if arrival is None or command is None:
            raise MalformedError("data came without a command")
        if context_id != self._context_id:
            raise MalformedError("data came on another context than its command")
        if arrival.byte_count + len(body) > self._maximum_object_bytes:
            raise OversizedError("an object is larger than what is taken")
        arrival.append(body)
        if is_last:
            outcome = arrival.finish() if isinstance(arrival, ArrivalFile) else self._answer
            self._arrival = self._command = self._answer = None
            self._requests.put((context_id, Request(context_id, command, outcome)))

    def get_msg(self, block: bool = False) -> Any:
        """Give the next request, or (None, None) when it is time to look at timers and ends."""
        try:
            return self._requests.get(timeout=self.dimse_timeout if block else _LOOK_S)
        except queue.Empty:
            return None, None

    def announce(self) -> None:
        """Wake `get_msg`: a release or an abort lies in the upper layer's queue."""
        self._requests.put((None, None))

    @property
    def is_resting(self) -> bool:
        """Whether no object is on its way and no answer is owed."""
        return not self._has_unanswered

    def send_response(self, context_id: int, encoded: bytes) -> None:
        """Answer the last request; its command set fits one PDU of any peer."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.append(
            (context_id, bytes([_IS_COMMAND | _IS_LAST]) + encoded)
        )
        # Before the peer can see the answer: its next request may be here a moment later.
        self._has_unanswered = False
        self.dul.send_pdu(primitive)

    def discard(self) -> None:
        """Leave nothing of an unfinished or unserved object behind."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.discard()
        while True:
            try:
                _, request = self._requests.get_nowait()
            except queue.Empty:
                return
            if isinstance(request, Request) and isinstance(request.outcome, Arrived):
                with contextlib.suppress(OSError):
                    request.outcome.path.unlink(missing_ok=True)

"""pynetdicom's upper layer (PS3.8 9.2), waiting instead of sleeping.

The library looks at its socket and its queues every millisecond, from two threads: 300 idle
associations cost most of a core, and every object three milliseconds. Here both threads wait: the
upper layer's for the socket or for something to send, the association's for a message.
"""

from __future__ import annotations

import os
import queue
import select
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.timer import Timer

from dicomnode.network.guard import bound_proposal
from dicomnode.telemetry import logger

# Timers are looked at this often when nothing happens.
_LOOK_MS = 1000
_A_ASSOCIATE_RQ = 1  # PS3.8 9.3.2: its PDU type


class MonotonicTimer(Timer):
    """A timer that a step of the machine's clock cannot expire or hold back."""

    @property
    def expired(self) -> bool:
        """Whether more than the timeout has passed since the start."""
        return self.timeout is not None and self._start_time is not None and self.remaining < 0

    @property
    def remaining(self) -> float:
        """Seconds that are left; 1 if it never expires."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        end = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout - (end - self._start_time))

    def start(self) -> None:
        """Start from zero."""
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        """Hold."""
        self._end_time = time.monotonic()


class AnnouncingQueue(queue.Queue[Any]):
    """A queue that calls somebody after each put."""

    def __init__(self, announce: Callable[[], None]) -> None:
        super().__init__()
        self._announce = announce

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item and say so."""
        super().put(item, block, timeout)
        self._announce()


class _EventQueue(queue.Queue[str]):
    """The state machine's events; remembers that a PDU was invalid (Evt19, PS3.8 9.2)."""

    had_invalid_pdu = False

    def put(self, item: str, block: bool = True, timeout: float | None = None) -> None:
        """Add an event."""
        self.had_invalid_pdu = self.had_invalid_pdu or item == "Evt19"
        super().put(item, block, timeout)


class WaitingProvider(DULServiceProvider):
    """An upper layer whose thread waits for its socket, or for a primitive to send.

    ``announce_user`` is called when something lies in ``to_user_queue``.
    """

    def __init__(self, assoc: Association, announce_user: Callable[[], None]) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0.0
        self.was_idle = False
        self._events = self.event_queue = _EventQueue()
        self._idle_timer = MonotonicTimer(60)
        self.artim_timer = MonotonicTimer(30)
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = threading.Lock()
        self.to_provider_queue = AnnouncingQueue(self._ring)
        self.to_user_queue = AnnouncingQueue(announce_user)

    def _ring(self) -> None:
        with self._bell_lock:
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def run_reactor(self) -> None:
        """Run until the connection is closed; a fault of ours ends this association alone."""
        try:
            super().run_reactor()
        except Exception:  # noqa: BLE001  top of this thread: what a peer sent must end here
            logger("network").exception("upper_layer_failed")
            if self.socket is not None:
                self.socket.close()
        finally:
            self._kill_thread = True
            self.close_bell()
            # Nothing comes any more: an association that waits for its request need not.
            self.to_user_queue.put(None)

    @property
    def had_invalid_pdu(self) -> bool:
        """Whether the peer sent something that is no PDU, or not one that may come."""
        return self._events.had_invalid_pdu

    def restart_idle_timer(self) -> None:
        """Count the time that we took for an answer not as the peer's silence."""
        self._idle_timer.restart()

    def close_bell(self) -> None:
        """Give the bell's file number back; for an upper layer whose thread has ended."""
        with self._bell_lock:
            bell, self._bell = self._bell, None
            if bell is not None:
                os.close(bell)

    def idle_timer_expired(self) -> bool:
        """Whether the peer rested too long between two messages."""
        self.was_idle = bool(super().idle_timer_expired())
        return self.was_idle

    def kill_dul(self) -> None:
        """Let the thread end."""
        self._kill_thread = True
        self._ring()

    def stop_dul(self) -> bool:
        """Let the thread end if the connection is closed; tell whether it has."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        # What is raised here makes the PDU an invalid one (Evt19).
        if bytestream[0] == _A_ASSOCIATE_RQ:
            bound_proposal(bytes(bytestream))
        return cast("tuple[Any, str]", super()._decode_pdu(bytestream))

    def _is_transport_event(self) -> bool:
        # Sta13 closes the socket as soon as nothing more comes: there is nothing to wait for.
        if self.state_machine.current_state != "Sta13" and self.event_queue.empty():
            self._wait()
        return bool(super()._is_transport_event())

    def _wait(self) -> None:
        connected = self.socket.socket if self.socket is not None else None
        if isinstance(connected, ssl.SSLSocket) and connected.pending():
            return
        poll = select.poll()
        bell = self._bell
        if bell is None:
            return
        poll.register(bell, select.POLLIN)
        if connected is not None and connected.fileno() >= 0:
            poll.register(connected, select.POLLIN)
        for number, _ in poll.poll(_LOOK_MS):
            if number == bell:
                os.eventfd_read(bell)

"""Every private name of pynetdicom that the node relies on, and what it relies on it for.

A release of the library that changes one of them fails here, by name, not in a hospital.
"""

from __future__ import annotations

import inspect
import queue
import threading

import pynetdicom
import pytest
from pynetdicom import _config, evt
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.sop_class import _STORAGE_CLASSES
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationServer, AssociationSocket

from dicomnode.network import library


def association() -> Association:
    return Association(ApplicationEntity("NODE"), "acceptor")


def test_the_library_is_the_version_that_was_read() -> None:
    assert pynetdicom.__version__.startswith("3.0.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_HANDLER_LEVEL", "none"),
        ("LOG_REQUEST_IDENTIFIERS", False),
        ("LOG_RESPONSE_IDENTIFIERS", False),
        ("STORE_SEND_CHUNKED_DATASET", True),
    ],
)
def test_a_switch_exists_and_is_set(name: str, value: object) -> None:
    assert library
    assert getattr(_config, name) == value


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Association, "_serve_request", ["self", "msg", "context_id"]),
        (Association, "_bind_defaults", ["self"]),
        (Association, "run_reactor", ["self"]),
        (ApplicationEntity, "_create_socket", ["self", "assoc", "address", "tls_args"]),
        (DIMSEServiceProvider, "receive_primitive", ["self", "primitive"]),
        (DIMSEServiceProvider, "get_msg", ["self", "block"]),
        (DULServiceProvider, "_is_transport_event", ["self"]),
        (DULServiceProvider, "_decode_pdu", ["self", "bytestream"]),
        (DULServiceProvider, "run_reactor", ["self"]),
        (DULServiceProvider, "stop_dul", ["self"]),
        (DULServiceProvider, "kill_dul", ["self"]),
        (DULServiceProvider, "idle_timer_expired", ["self"]),
        (AssociationSocket, "recv", ["self", "nr_bytes"]),
        (AssociationSocket, "send", ["self", "bytestream"]),
        (AssociationSocket, "connect", ["self", "primitive"]),
        (ACSE, "send_reject", ["self", "result", "source", "diagnostic"]),
        (AssociationServer, "get_request", ["self"]),
        (AssociationServer, "process_request", ["self", "request", "client_address"]),
        (Timer, "start", ["self"]),
        (Timer, "stop", ["self"]),
    ],
)
def test_a_method_that_is_replaced_still_has_its_parameters(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_the_upper_layer_has_the_queues_flags_and_timers_that_are_replaced() -> None:
    upper_layer = association().dul
    assert isinstance(upper_layer.to_provider_queue, queue.Queue)
    assert isinstance(upper_layer.to_user_queue, queue.Queue)
    assert isinstance(upper_layer.event_queue, queue.Queue)
    assert isinstance(upper_layer._idle_timer, Timer)
    assert isinstance(upper_layer.artim_timer, Timer)
    assert isinstance(upper_layer, threading.Thread)
    assert upper_layer._run_loop_delay == 0.001
    assert upper_layer._kill_thread is False


def test_an_association_has_the_parts_that_are_replaced() -> None:
    one = association()
    assert isinstance(one.dimse, DIMSEServiceProvider)
    assert isinstance(one.dimse.msg_queue, queue.Queue)
    assert one._accepted_cx == {}
    assert one._server is None


def test_a_timer_keeps_its_times_where_ours_looks_for_them() -> None:
    timer = Timer(5)
    assert (timer._start_time, timer._end_time) == (None, None)


def test_a_connected_socket_announces_itself_and_keeps_its_state() -> None:
    source = inspect.getsource(AssociationSocket.__init__)
    assert 'self.event_queue.put("Evt5")' in source
    assert "self._is_connected = True" in source
    assert "self._ready.set()" in source


def test_negotiation_only_reads_the_contexts_that_are_shared() -> None:
    source = inspect.getsource(ACSE._negotiate_as_acceptor)
    assert "self.acceptor.supported_contexts" in source
    assert "supported_contexts =" not in source


def test_a_closed_connection_and_an_invalid_pdu_are_known_in_every_state_of_transfer() -> None:
    for state in ("Sta2", "Sta3", "Sta6", "Sta13"):
        assert ("Evt17", state) in TRANSITION_TABLE
    assert TRANSITION_TABLE["Evt19", "Sta6"] == "AA-8"


def test_the_table_of_storage_classes_is_a_table_of_uids() -> None:
    assert len(_STORAGE_CLASSES) > 150
    assert all(uid.startswith("1.2.840.10008.") for uid in _STORAGE_CLASSES.values())


def test_intervention_events_have_default_handlers() -> None:
    assert all(callable(evt.get_default_handler(event)) for event in evt._INTERVENTION_EVENTS)

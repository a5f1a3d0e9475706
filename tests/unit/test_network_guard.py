"""What the server survives: every attack here held a thread, memory or a place before the guard."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicomnode.network.arrival import ArrivalFile
from dicomnode.network.door import Answer, Cut, Destination, Refuse, Rejection, StoreCommand
from dicomnode.network.guard import ConnectionLimits
from dicomnode.network.incoming import IncomingAssociation
from dicomnode.network.messages import MessageAssembler
from tests.dcmtk import wait_for
from tests.network_data import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    CLOSED,
    CT,
    EXPLICIT,
    P_DATA,
    NotingDoor,
    associate_rq,
    connected,
    opened,
    pdata,
    read_pdu,
    serving,
    store_rq,
)

LAST_COMMAND, DATA, LAST_DATA = 3, 0, 2


@pytest.fixture
def door(tmp_path: Path) -> NotingDoor:
    return NotingDoor(tmp_path)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def leftovers(door: NotingDoor) -> list[Path]:
    return list(door.folder.glob("*.part"))


def test_an_announced_pdu_of_four_gigabytes_is_closed_at_once(door: NotingDoor) -> None:
    before = rss_mb()
    with serving(door) as server, connected(server) as connection:
        started = time.monotonic()
        connection.sendall(struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(1000))
        assert read_pdu(connection)[0] == CLOSED
        assert time.monotonic() - started < 2
        wait_for(lambda: door.away)
    assert door.away[0][1].cut is Cut.OVERSIZED
    assert rss_mb() - before < 20


def test_after_establishment_a_pdu_may_be_as_large_as_was_offered(door: NotingDoor) -> None:
    with serving(door, maximum_pdu=16384) as server, connected(server) as connection:
        opened(connection)
        connection.sendall(struct.pack(">BxL", 4, 16384 + 1025) + bytes(100))
        assert read_pdu(connection)[0] == CLOSED
        wait_for(lambda: door.ends)
    cut_off = door.ends[0].cut_off
    assert cut_off is not None
    assert (cut_off.cut, cut_off.limit) == (Cut.OVERSIZED, 16384 + 1024)


def test_silence_inside_a_pdu_is_closed(door: NotingDoor) -> None:
    with serving(door, silence_s=0.5) as server, connected(server) as connection:
        started = time.monotonic()
        connection.sendall(associate_rq()[:100])
        assert read_pdu(connection)[0] == CLOSED
        assert time.monotonic() - started < 3
        wait_for(lambda: door.away)
    assert door.away[0][1].cut is Cut.SILENT


def test_a_trickle_inside_a_pdu_is_closed(door: NotingDoor) -> None:
    with serving(door, silence_s=0.5) as server, connected(server) as connection:
        opened(connection)
        connection.sendall(struct.pack(">BxL", 4, 1000))
        with contextlib.suppress(ConnectionError):
            wait_for(lambda: connection.send(b"x") and door.ends, what="the end")
        wait_for(lambda: door.ends)
    cut_off = door.ends[0].cut_off
    assert cut_off is not None
    assert cut_off.cut is Cut.SILENT


def test_a_peer_that_rests_between_messages_longer_than_the_silence_limit_lives(
    door: NotingDoor,
) -> None:
    with serving(door, silence_s=0.3) as server, connected(server) as connection:
        opened(connection)
        time.sleep(1.0)
        connection.sendall(pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA))
        assert read_pdu(connection)[0] == P_DATA


def test_a_peer_that_rests_longer_than_the_idle_limit_is_aborted(door: NotingDoor) -> None:
    with serving(door, idle_s=0.5) as server, connected(server) as connection:
        opened(connection)
        assert read_pdu(connection)[0] == A_ABORT
        wait_for(lambda: door.ends)
    cut_off = door.ends[0].cut_off
    assert cut_off is not None
    assert cut_off.cut is Cut.IDLE


def test_an_answer_that_takes_longer_than_the_idle_limit_ends_nothing(door: NotingDoor) -> None:
    door.slow = threading.Event()
    with serving(door, idle_s=0.6) as server, connected(server) as connection:
        opened(connection)
        message = pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA)
        connection.sendall(message)
        threading.Timer(1.2, door.slow.set).start()
        assert read_pdu(connection)[0] == P_DATA
        connection.sendall(message)
        assert read_pdu(connection)[0] == P_DATA


def test_a_connection_that_says_nothing_is_closed(door: NotingDoor) -> None:
    with serving(door, request_s=0.5) as server, connected(server) as connection:
        assert read_pdu(connection)[0] == CLOSED


def test_silent_connections_of_one_address_leave_room_for_others(door: NotingDoor) -> None:
    with serving(door, associations_per_address=4) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        try:
            wait_for(lambda: len(door.away) == 16)
            assert {cut_off.cut for _, cut_off in door.away} == {Cut.LIMIT_ADDRESS}
            own = [thread for thread in threading.enumerate() if "association-" in thread.name]
            assert len(own) == 4
        finally:
            for connection in silent:
                connection.close()


def test_places_are_given_back(door: NotingDoor) -> None:
    with serving(door, associations_per_address=2) as server:
        for _ in range(10):
            with connected(server) as connection:
                opened(connection)
            wait_for(lambda: not server._limits._open, what="the place given back")
    assert not door.away


def test_limits_count_by_address_and_in_all() -> None:
    limits = ConnectionLimits(total=2, per_address=2, slack=1)

    assert limits.admit("10.0.0.1") is None
    assert limits.admit("10.0.0.1") is None
    too_many = limits.admit("10.0.0.1")
    assert too_many is not None
    assert too_many.cut is Cut.LIMIT_ADDRESS
    assert not limits.is_full
    assert limits.admit("10.0.0.2") is None
    assert limits.is_full
    beyond = limits.admit("10.0.0.3")
    assert beyond is not None
    assert beyond.cut is Cut.LIMIT
    limits.leave("10.0.0.1")
    assert limits.admit("10.0.0.3") is None


def test_an_endless_data_set_is_aborted_at_the_limit_and_leaves_nothing(door: NotingDoor) -> None:
    with (
        serving(door, maximum_object_bytes=100_000) as server,
        connected(server) as connection,
    ):
        opened(connection)
        connection.sendall(pdata(store_rq(), LAST_COMMAND))
        for _ in range(11):
            connection.sendall(pdata(bytes(10_000), DATA))
        assert read_pdu(connection)[0] in (A_ABORT, CLOSED)
        wait_for(lambda: door.ends)
    cut_off = door.ends[0].cut_off
    assert cut_off is not None
    assert cut_off.cut is Cut.OVERSIZED
    assert not leftovers(door)


@pytest.mark.parametrize("rude", [True, False])
def test_a_transfer_broken_in_the_middle_leaves_nothing(door: NotingDoor, rude: bool) -> None:
    with serving(door) as server:
        with connected(server) as connection:
            opened(connection)
            connection.sendall(pdata(store_rq(), LAST_COMMAND) + pdata(bytes(9000), DATA))
            wait_for(lambda: leftovers(door))
            if not rude:
                connection.sendall(struct.pack(">BxL4x", 7, 4))
        wait_for(lambda: door.ends)
        assert not leftovers(door)
    assert not door.ends[0].is_released
    assert door.ends[0].cut_off is None


MALFORMED = {
    "data before a command": pdata(b"abcd", LAST_DATA),
    "a command in a data set": pdata(store_rq(), LAST_COMMAND)
    + pdata(b"abcd", DATA)
    + pdata(store_rq(), LAST_COMMAND),
    "a command set that is none": pdata(b"\xff" * 40, LAST_COMMAND),
    "an endless command set": b"".join(pdata(bytes(8000), 1) for _ in range(9)),
    "an unknown context": pdata(store_rq(), LAST_COMMAND, context_id=3),
    "data on another context": pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", DATA, context_id=3),
    "an unknown service": pdata(
        store_rq().replace(b"\0\1\2\0\0\0\1\0", b"\0\1\2\0\0\0\x20\0"), LAST_COMMAND
    ),
    "a length that lies": struct.pack(">BxLLBB", 4, 10, 500, 1, 3) + b"abcd",
    "a fragment of no length": struct.pack(">BxLLB", 4, 5, 1, 1),
    "an unknown PDU": struct.pack(">BxL", 99, 4) + b"abcd",
    "another accept": struct.pack(">BxL", 2, 4) + b"abcd",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_not_dicom_ends_its_own_association_only(door: NotingDoor, what: str) -> None:
    with serving(door) as server, connected(server) as good:
        opened(good)
        with connected(server) as bad:
            opened(bad)
            bad.sendall(MALFORMED[what])
            assert read_pdu(bad)[0] in (A_ABORT, CLOSED)
        wait_for(lambda: len(door.ends) == 1)
        good.sendall(pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA))
        assert read_pdu(good)[0] == P_DATA
    assert not leftovers(door)


def test_a_request_before_the_last_answer_is_aborted(door: NotingDoor) -> None:
    door.slow = threading.Event()
    with serving(door) as server, connected(server) as connection:
        opened(connection)
        message = pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA)
        connection.sendall(message * 3)
        wait_for(lambda: len(door.commands) == 1)
        time.sleep(0.3)
        door.slow.set()
        kinds = [read_pdu(connection)[0] for _ in range(2)]
        assert A_ABORT in kinds or CLOSED in kinds
        wait_for(lambda: door.ends)
    assert len(door.commands) == 1
    assert not leftovers(door)


def test_fragments_in_any_number_make_the_same_object(door: NotingDoor) -> None:
    content = bytes(range(256)) * 40
    with serving(door) as server, connected(server) as connection:
        opened(connection)
        command = store_rq()
        connection.sendall(b"".join(pdata(command[i : i + 9], 1) for i in range(0, 90, 9)))
        connection.sendall(pdata(command[90:], LAST_COMMAND))
        connection.sendall(b"".join(pdata(content[i : i + 100], 0) for i in range(0, 10200, 100)))
        connection.sendall(pdata(content[10200:], LAST_DATA))
        assert read_pdu(connection)[0] == P_DATA
    assert door.kept[0].read_bytes() == b"HEADER" + content


def test_a_file_that_cannot_be_written_costs_an_answer_not_the_association(
    door: NotingDoor, tmp_path: Path
) -> None:
    door.folder = tmp_path / "absent"
    with serving(door) as server, connected(server) as connection:
        opened(connection)
        message = pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA)
        for _ in range(2):
            connection.sendall(message)
            assert read_pdu(connection)[0] == P_DATA
    assert all(isinstance(arrived.fault, FileNotFoundError) for arrived in door.arrived)
    assert len(door.arrived) == 2


@pytest.mark.parametrize("fault", [errno.EROFS, errno.EIO])
def test_a_file_that_cannot_be_deleted_costs_neither_the_answer_nor_the_place(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def read_only(_path: Path, missing_ok: bool = False) -> None:
        raise OSError(fault, os.strerror(fault))

    door.answer = Answer(0xA700, "no room left")
    with serving(door) as server:
        with monkeypatch.context() as patched, connected(server) as connection:
            patched.setattr(Path, "unlink", read_only)
            opened(connection)
            message = pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA)
            for _ in range(2):
                connection.sendall(message)
                kind, body = read_pdu(connection)
                assert kind == P_DATA
                assert b"\0\0\0\x09\x02\0\0\0\0\xa7" in body
            connection.sendall(pdata(store_rq(), LAST_COMMAND) + pdata(bytes(9000), DATA))
            wait_for(lambda: len(door.commands) == 3)
            connection.close()
            wait_for(lambda: door.ends)
        wait_for(lambda: not server._limits._open, what="the place given back")


def test_a_file_that_cannot_be_closed_is_a_fault_and_its_number_is_used_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = StoreCommand(CT, "1.2.3", EXPLICIT)
    file = ArrivalFile(command, Destination(tmp_path / "x.part", b"HEADER"))
    closed: list[int] = []
    close = os.close

    def full(handle: int) -> None:
        closed.append(handle)
        close(handle)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patched:
        patched.setattr("dicomnode.network.arrival.os.close", full)
        arrived = file.finish()
        file.discard()

    assert len(closed) == 1
    assert arrived.fault is not None
    assert arrived.fault.errno == errno.EDQUOT
    assert not list(tmp_path.iterdir())


def test_a_clean_up_that_fails_ends_the_association_all_the_same(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_messages: MessageAssembler) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(MessageAssembler, "discard", broken)
    with serving(door) as server:
        with connected(server) as connection:
            opened(connection)
        wait_for(lambda: door.ends)
        wait_for(lambda: not server._limits._open, what="the place given back")


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def no_thread(_association: IncomingAssociation) -> None:
        raise RuntimeError("can't start new thread")

    with serving(door) as server:
        before = files()
        with monkeypatch.context() as patched:
            patched.setattr(IncomingAssociation, "start", no_thread)
            for _ in range(5):
                with connected(server) as connection:
                    assert read_pdu(connection)[0] == CLOSED
        assert server._listening is not None
        wait_for(lambda: not server._limits._open, what="the place given back")
        assert not server._listening.associations()
        wait_for(lambda: files() == before, what="the files given back")
        with connected(server) as connection:
            opened(connection)
        wait_for(lambda: door.ends)
        server.drain(2)


def test_what_the_server_refuses_by_itself_is_told_to_the_door(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_arrived: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(door, "stored", broken)
    mr = b"1.2.840.10008.5.1.4.1.1.4"
    with serving(door) as server, connected(server) as connection:
        opened(connection)
        for command in (store_rq(sop_class_uid=mr), store_rq()):
            connection.sendall(pdata(command, LAST_COMMAND) + pdata(b"abcd", LAST_DATA))
            assert read_pdu(connection)[0] == P_DATA
    assert [answer.status for answer in door.refusals] == [0x0122, 0x0110]


@pytest.mark.parametrize("of", [{}, {"contexts": 128, "syntaxes": 60, "roles": 128}])
def test_a_proposal_as_large_as_the_standard_allows_is_answered(
    door: NotingDoor, of: dict[str, int]
) -> None:
    with serving(door) as server, connected(server) as connection:
        connection.sendall(associate_rq(**of))
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC


TOO_MUCH = {
    "contexts": associate_rq(contexts=129),
    "a megabyte of contexts": associate_rq(contexts=15_000),
    "transfer syntaxes": associate_rq(syntaxes=2_000),
    "user information": associate_rq(roles=1_500),
    "a length that lies": associate_rq()[:-1] + b"\xff\xff",
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_proposal_beyond_bounds_is_never_taken_apart(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    taken_apart: list[int] = []
    decode = A_ASSOCIATE_RQ.decode

    def noted(pdu: A_ASSOCIATE_RQ, whole: bytes) -> None:
        taken_apart.append(len(whole))
        decode(pdu, whole)

    monkeypatch.setattr(A_ASSOCIATE_RQ, "decode", noted)
    whole = TOO_MUCH[what]
    with serving(door) as server, connected(server) as connection:
        connection.sendall(struct.pack(">BxL", 1, len(whole) - 6) + whole[6:])
        assert read_pdu(connection)[0] in (A_ABORT, CLOSED)
        wait_for(lambda: door.away)
    assert door.away[0][1].cut is Cut.MALFORMED
    assert not taken_apart


def test_a_refused_caller_is_told_and_noted(door: NotingDoor) -> None:
    door.refusal = Refuse(Rejection.CALLING_NOT_RECOGNISED)
    with serving(door) as server, connected(server) as connection:
        connection.sendall(associate_rq(calling=b"../../etc"))
        kind, body = read_pdu(connection)
    assert (kind, tuple(body[1:])) == (A_ASSOCIATE_RJ, (1, 1, 3))
    assert door.requests[0].calling_ae_title == "../../etc"
    assert not door.ends


def test_a_door_that_fails_lets_nobody_in(
    door: NotingDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_request: object) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(door, "requested", broken)
    with serving(door) as server, connected(server) as connection:
        connection.sendall(associate_rq())
        kind, body = read_pdu(connection)
    assert (kind, tuple(body[1:])) == (A_ASSOCIATE_RJ, (2, 3, 1))


def test_what_was_proposed_and_accepted_is_told(door: NotingDoor) -> None:
    with serving(door) as server, connected(server) as connection:
        opened(connection)
    context = door.requests[0].contexts[0]
    assert (context.abstract_syntax, context.accepted) == (
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.2",
    )


def test_draining_lets_an_object_on_its_way_be_finished(door: NotingDoor) -> None:
    door.slow = threading.Event()
    with serving(door) as server, connected(server) as working, connected(server) as resting:
        opened(working)
        opened(resting)
        working.sendall(pdata(store_rq(), LAST_COMMAND) + pdata(b"abcd", LAST_DATA))
        wait_for(lambda: door.commands)
        drain = threading.Thread(target=server.drain, args=(15,))
        drain.start()
        assert read_pdu(resting)[0] == A_ABORT
        assert not door.arrived
        door.slow.set()
        assert read_pdu(working)[0] == P_DATA
        drain.join(15)
    assert len(door.arrived) == 1
    assert len(door.ends) == 2


def test_stopping_ends_everything(door: NotingDoor) -> None:
    with serving(door) as server, connected(server) as connection:
        opened(connection)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        assert read_pdu(connection)[0] in (A_ABORT, CLOSED)
    assert len(door.ends) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("association-")]


def test_many_resting_associations_cost_next_to_nothing(door: NotingDoor) -> None:
    with serving(door, associations_per_address=100, maximum_associations=100) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        try:
            for connection in connections:
                opened(connection)
            before = time.process_time()
            time.sleep(1.5)
            assert time.process_time() - before < 0.45
        finally:
            for connection in connections:
                connection.close()


def test_many_short_connections_leave_no_memory_behind(door: NotingDoor) -> None:
    with serving(door) as server:

        def knock(times: int) -> None:
            for _ in range(times):
                with connected(server) as connection:
                    connection.sendall(b"\x01\0")
            wait_for(lambda: not server._limits._open)

        knock(100)
        before = rss_mb()
        knock(600)
        assert rss_mb() - before < 12

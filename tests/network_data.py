"""A door that notes what it is told, a server behind it, and PDUs written by hand (PS3.8 9.3)."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicomnode.network.door import (
    Answer,
    Arrived,
    AssociationEnd,
    AssociationRequest,
    CutOff,
    Destination,
    Refuse,
    ServerSettings,
    StoreCommand,
)
from dicomnode.network.server import VERIFICATION, Server, storage_classes

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
_COUNTER = itertools.count()


@dataclass
class NotingDoor:
    """Lets everybody in (or refuses all), keeps every object in ``folder``, notes everything."""

    folder: Path
    refusal: Refuse | None = None
    answer: Answer = field(default_factory=lambda: Answer(0x0000))
    slow: threading.Event | None = None
    requests: list[AssociationRequest] = field(default_factory=list)
    commands: list[StoreCommand] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    refusals: list[Answer] = field(default_factory=list)
    ends: list[AssociationEnd] = field(default_factory=list)
    away: list[tuple[str, CutOff]] = field(default_factory=list)

    def requested(self, request: AssociationRequest) -> NotingDoor | Refuse:
        self.requests.append(request)
        return self.refusal or self

    def turned_away(self, address: str, cut_off: CutOff) -> None:
        self.away.append((address, cut_off))

    def arriving(self, command: StoreCommand) -> Destination | Answer:
        self.commands.append(command)
        return Destination(self.folder / f"{next(_COUNTER)}.part", b"HEADER")

    def refused(self, answer: Answer) -> None:
        self.refusals.append(answer)

    def stored(self, arrived: Arrived) -> Answer:
        if self.slow is not None:
            self.slow.wait(20)
        self.arrived.append(arrived)
        if arrived.fault is None and self.answer.is_success:
            self.kept.append(arrived.path.rename(arrived.path.with_suffix(".dcm")))
        return self.answer

    def ended(self, end: AssociationEnd) -> None:
        self.ends.append(end)


def settings(**changes: object) -> ServerSettings:
    """Settings of a server on any free port, with short waits."""
    plain = ServerSettings(
        ae_title="DICOMNODE",
        host="127.0.0.1",
        port=0,
        contexts=tuple((name, (EXPLICIT, IMPLICIT)) for name in (VERIFICATION, *storage_classes())),
        silence_s=1.0,
        request_s=2.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test names the fields it means


@contextmanager
def serving(door: NotingDoor, **changes: object) -> Iterator[Server]:
    """A server behind a door."""
    server = Server(settings(**changes), door)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    """A bare connection to the server."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        yield connection


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    calling: bytes = b"SCANNER",
    called: bytes = b"DICOMNODE",
    *,
    contexts: int = 1,
    syntaxes: int = 1,
    roles: int = 0,
) -> bytes:
    """An A-ASSOCIATE-RQ; each context, ids 1, 3, 5…, is CT Image Storage in Implicit VR."""
    proposed = _item(0x30, CT.encode()) + _item(0x40, IMPLICIT.encode()) * syntaxes
    context = b"".join(
        _item(0x20, bytes((2 * number + 1 & 0xFF, 0, 0, 0)) + proposed)
        for number in range(contexts)
    )
    role = _item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\0\1")
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3.4") + role * roles
    body = (
        struct.pack(">H2x", 1)
        + called.ljust(16)
        + calling.ljust(16)
        + bytes(32)
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + context
        + _item(0x50, user)
    )
    return struct.pack(">BxL", 1, len(body)) + body


def pdata(fragment: bytes, control: int, context_id: int = 1) -> bytes:
    """A P-DATA-TF PDU with one fragment."""
    value = struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment
    return struct.pack(">BxL", 4, len(value)) + value


def store_rq(sop_instance_uid: bytes = b"1.2.3", sop_class_uid: bytes = CT.encode()) -> bytes:
    """The command set of a C-STORE-RQ."""
    elements = [
        (0x0002, sop_class_uid + b"\0" * (len(sop_class_uid) % 2)),
        (0x0100, struct.pack("<H", 0x0001)),
        (0x0110, struct.pack("<H", 7)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0)),
        (0x1000, sop_instance_uid + b"\0" * (len(sop_instance_uid) % 2)),
    ]
    body = b"".join(struct.pack("<HHL", 0, tag, len(v)) + v for tag, v in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """The next PDU: its type and what follows its header; type 0 when the connection is closed."""
    connection.settimeout(10)
    try:
        header = _read(connection, 6)
        return header[0], _read(connection, int.from_bytes(header[2:], "big"))
    except (ConnectionError, EOFError):
        return 0, b""


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA, A_ABORT, CLOSED = 2, 3, 4, 7, 0


def opened(connection: socket.socket) -> None:
    """Open an association by hand."""
    connection.sendall(associate_rq())
    kind, _ = read_pdu(connection)
    assert kind == A_ASSOCIATE_AC

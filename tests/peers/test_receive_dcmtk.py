"""Real senders, DCMTK's dcmsend and storescu, against the receiver with its database and folder."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicomnode.config import Peer, Tls
from dicomnode.errors import StorageError
from dicomnode.rules.reasons import sentence
from dicomnode.rules.states import AssociationState
from dicomnode.stages.receive.dimse import Receiver
from tests import dcmtk
from tests.certificates import authority, signed
from tests.data import ct_series, encoded, enhanced_ct, save, save_all, structured_report
from tests.network_data import (
    A_ABORT,
    A_ASSOCIATE_RJ,
    CLOSED,
    associate_rq,
    pdata,
    read_pdu,
    store_rq,
)
from tests.receive_data import SCANNER, ReceivingNode, data_set, settings, sqlite_node

pytestmark = pytest.mark.peer


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ReceivingNode]:
    with sqlite_node(tmp_path / "node") as made:
        yield made


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return save_all(ct_series(slices=12), tmp_path_factory.mktemp("series"))


def digests(paths: list[Path]) -> list[str]:
    return sorted(hashlib.sha256(data_set(path)).hexdigest() for path in paths)


@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_a_series_arrives_byte_by_byte(
    node: ReceivingNode, series: list[Path], program: str
) -> None:
    with node.receiving() as receiver:
        sent = dcmtk.send(receiver.port, series, program_name=program)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    kept = [node.storage.kept(name) for name in node.files()]
    assert digests(kept) == digests(series)
    assert sorted(row[2] for row in node.rows()) == digests(series)
    assert not node.arrivals()
    (found,) = node.associations()
    assert (found.state, found.object_count, found.peer) == (AssociationState.CLOSED, 12, "ct")
    assert found.byte_count == sum(len(data_set(path)) for path in series)
    assert found.contexts[0]["accepted"] == "1.2.840.10008.1.2.1"
    assert found.reason is not None
    assert sentence(found.reason) == "Closed by ct after 12 objects."


@pytest.mark.parametrize(
    ("syntax", "option"),
    [
        (ImplicitVRLittleEndian, "-xi"),
        (ExplicitVRBigEndian, "-xb"),
        (JPEG2000Lossless, "-xv"),
        (RLELossless, "-xr"),
    ],
)
def test_an_object_is_kept_in_the_transfer_syntax_in_which_it_came(
    node: ReceivingNode, tmp_path: Path, syntax: str, option: str
) -> None:
    path = save(encoded(ct_series(slices=1)[0], syntax), tmp_path / "image.dcm")
    with node.receiving() as receiver:
        sent = dcmtk.send(receiver.port, [path], option, program_name="storescu")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    (name,) = node.files()
    assert node.data_set(name) == data_set(path)


def test_objects_of_several_classes_come_on_one_association(
    node: ReceivingNode, tmp_path: Path
) -> None:
    several = [ct_series(slices=1)[0], enhanced_ct(), structured_report()]
    paths = save_all(several, tmp_path / "several")
    with node.receiving() as receiver:
        assert dcmtk.send(receiver.port, paths).returncode == 0
    assert digests([node.storage.kept(name) for name in node.files()]) == digests(paths)


def test_eight_senders_of_the_same_object_make_one_row_and_one_file(
    node: ReceivingNode, series: list[Path]
) -> None:
    with node.receiving() as receiver:
        codes: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: codes.append(dcmtk.send(receiver.port, series[:3]).returncode)
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == [0] * 8
    assert len(node.rows()) == len(node.files()) == 3
    assert len(node.associations()) == 8


@pytest.mark.parametrize(
    ("calling", "called", "peer", "code"),
    [
        ("STRANGER", "DICOMNODE", SCANNER, "association.refused_calling"),
        ("SCANNER", "OTHER", SCANNER, "association.refused_called"),
        (
            "SCANNER",
            "DICOMNODE",
            SCANNER.model_copy(update={"addresses": ("10.9.8.0/24",)}),
            "association.refused_address",
        ),
    ],
)
def test_a_caller_that_may_not_come_in_is_refused_and_written_down(
    node: ReceivingNode, series: list[Path], calling: str, called: str, peer: Peer, code: str
) -> None:
    with node.receiving(settings({"ct": peer})) as receiver:
        sent = dcmtk.send(receiver.port, series[:1], calling=calling, called=called)
    assert sent.returncode != 0
    (found,) = node.associations()
    assert not found.accepted
    assert found.reason is not None
    assert found.reason.code == code
    assert calling in sentence(found.reason)
    assert not node.files()


def test_below_the_floor_of_free_space_callers_are_asked_to_come_later(
    node: ReceivingNode, series: list[Path]
) -> None:
    with node.receiving(settings(free=1.0)) as receiver:
        sent = dcmtk.send(receiver.port, series[:1])
        assert sent.returncode != 0
        receiver.reload(settings(free=0.0))
        dcmtk.wait_for(
            lambda: dcmtk.send(receiver.port, series[:1]).returncode == 0, what="room again"
        )
    refused = node.associations()[-1]
    assert refused.reason is not None
    assert refused.reason.code == "quarantine.no_room"


def test_changed_peers_are_in_force_without_a_restart(
    node: ReceivingNode, series: list[Path]
) -> None:
    with node.receiving(settings({"mr": Peer(ae_title=("MR",), receives_from=True)})) as receiver:
        assert dcmtk.send(receiver.port, series[:1]).returncode != 0
        receiver.reload(settings())
        assert dcmtk.send(receiver.port, series[:1]).returncode == 0


def test_a_sender_killed_in_the_middle_leaves_nothing_half(
    node: ReceivingNode, tmp_path: Path
) -> None:
    large = ct_series(slices=1)[0]
    large.Rows, large.Columns = 8192, 8192
    large.PixelData = bytes(8192 * 8192 * 2)
    path = save(large, tmp_path / "large.dcm")
    with node.receiving() as receiver:
        process = dcmtk.start(
            "storescu", "-aet", "SCANNER", "-aec", "DICOMNODE", "127.0.0.1", receiver.port, path
        )
        dcmtk.wait_for(
            lambda: any(part.stat().st_size > 10_000_000 for part in node.arrivals()),
            what="a file on its way",
        )
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        dcmtk.wait_for(
            lambda: node.associations()[0].state is AssociationState.ABORTED, what="the end"
        )
        assert not node.arrivals()
    assert not node.files()
    reason = node.associations()[0].reason
    assert reason is not None
    assert reason.code == "association.cut"


def test_a_large_object_costs_no_memory(node: ReceivingNode, tmp_path: Path) -> None:
    large = ct_series(slices=1)[0]
    large.Rows, large.Columns = 10240, 10240
    large.PixelData = bytes(10240 * 10240 * 2)
    path = save(large, tmp_path / "large.dcm")
    del large
    with node.receiving() as receiver:
        before = peak_mb()
        assert dcmtk.send(receiver.port, [path]).returncode == 0
        assert peak_mb() - before < 60
    assert len(node.rows()) == 1


def peak_mb() -> float:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if "VmHWM" in line)


@pytest.mark.parametrize("uid", [b"../../../tmp/evil", b"/etc/passwd", b"1.2\n3", b"<script>"])
def test_an_unusable_uid_is_refused_and_leads_nowhere(node: ReceivingNode, uid: bytes) -> None:
    with (
        node.receiving() as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as connection,
    ):
        connection.sendall(associate_rq())
        assert read_pdu(connection)[0] == 2
        connection.sendall(pdata(store_rq(uid), 3) + pdata(b"abcd", 2))
        kind, body = read_pdu(connection)
        assert kind == 4
        assert b"\0\0\x00\x09\x02\0\0\0\x00\xa9" in body  # (0000,0900) Status A900
    (found,) = node.quarantined()
    assert found.why == "quarantine.bad_uid"
    assert not node.files()
    assert not node.arrivals()


def test_an_unreadable_object_is_refused_and_set_aside(node: ReceivingNode) -> None:
    with (
        node.receiving() as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as connection,
    ):
        connection.sendall(associate_rq())
        assert read_pdu(connection)[0] == 2
        connection.sendall(pdata(store_rq(), 3) + pdata(b"no data set at all", 2))
        kind, body = read_pdu(connection)
        assert kind == 4
        assert b"\0\0\x00\x09\x02\0\0\0\x00\xc0" in body  # (0000,0900) Status C000
    (found,) = node.quarantined()
    assert (found.why, found.path) == ("quarantine.unreadable", node.files()[0])


def test_a_second_receiver_on_the_folder_does_not_start(node: ReceivingNode) -> None:
    with node.receiving():
        second = Receiver(node.worklist, node.storage, settings())
        with pytest.raises(StorageError, match="another receiver"):
            second.start()


def test_a_restart_marks_what_a_dead_receiver_left_open_as_lost(
    node: ReceivingNode, series: list[Path]
) -> None:
    with (
        node.receiving() as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as connection,
    ):
        connection.sendall(associate_rq())
        assert read_pdu(connection)[0] == 2
        receiver._records.close = lambda *_: None  # type: ignore[method-assign]  # as if killed
    assert node.associations()[0].state is AssociationState.OPEN
    with node.receiving() as receiver:
        assert node.associations()[0].state is AssociationState.LOST
        assert dcmtk.send(receiver.port, series[:1]).returncode == 0


def test_a_flood_of_strangers_fills_no_table(node: ReceivingNode) -> None:
    with node.receiving() as receiver:
        for _ in range(90):
            with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
                connection.sendall(associate_rq(calling=b"STRANGER"))
                assert read_pdu(connection)[0] in (3, CLOSED)
    assert 0 < len(node.associations()) < 75


@pytest.mark.parametrize("title", [b"A\n\x1b[2J", b"\xff\xfe", b"..\\..", b"${x}", b"<script>"])
def test_a_strange_ae_title_is_refused_and_written_down_clean(
    node: ReceivingNode, title: bytes
) -> None:
    with node.receiving() as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            connection.sendall(associate_rq(calling=title))
            assert read_pdu(connection)[0] in (A_ASSOCIATE_RJ, A_ABORT, CLOSED)
        dcmtk.wait_for(lambda: receiver.step() or node.associations(), what="the row")
    (found,) = node.associations()
    assert not found.accepted
    assert found.calling_ae_title.isprintable()
    assert found.reason is not None
    assert sentence(found.reason).isprintable()


def test_counts_of_an_open_association_are_seen_while_it_is_open(
    node: ReceivingNode, series: list[Path]
) -> None:
    stop = threading.Event()
    receiver = Receiver(node.worklist, node.storage, settings())
    thread = threading.Thread(target=receiver.run, args=(stop,))
    thread.start()
    try:
        dcmtk.wait_for(lambda: receiver._server is not None, what="the door open")
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            connection.sendall(associate_rq())
            assert read_pdu(connection)[0] == 2
            connection.sendall(pdata(store_rq(), 3) + pdata(b"no data set", 2))
            assert read_pdu(connection)[0] == 4
            dcmtk.wait_for(lambda: node.associations()[0].refused_count == 1, what="the count")
            assert node.associations()[0].state is AssociationState.OPEN
            started = time.monotonic()
            stop.set()
            thread.join(20)
            assert time.monotonic() - started < 6
    finally:
        stop.set()
        thread.join(40)
    reason = node.associations()[0].reason
    assert reason is not None
    assert reason.code == "association.draining"


def test_tls_lets_in_who_has_a_certificate_and_nobody_else(
    node: ReceivingNode, series: list[Path], tmp_path: Path
) -> None:
    ca, rogue = authority(tmp_path, "ca"), authority(tmp_path, "rogue")
    ours, scanner = signed(tmp_path, "ours", ca), signed(tmp_path, "scanner", ca)
    stranger = signed(tmp_path, "stranger", rogue)
    tls = Tls(cert=ours.cert, key=ours.key, ca=ours.ca)
    with node.receiving(settings(tls=tls, silence="1s")) as receiver:

        def echo(*options: str | Path) -> int:
            names = ("-to", 3, "-aet", "SCANNER", "-aec", "DICOMNODE")
            return dcmtk.run(
                "echoscu", *options, *names, "127.0.0.1", receiver.port, timeout_s=30
            ).returncode

        # A client that connects and says nothing holds up nobody's handshake.
        with socket.create_connection(("127.0.0.1", receiver.port)):
            assert echo("+tls", scanner.key, scanner.cert, "+cf", ca) == 0
        assert echo("+tls", stranger.key, stranger.cert, "+cf", ca) != 0
        assert echo("+tla", "+cf", ca) != 0
        assert echo("+tls", scanner.key, scanner.cert, "+cf", rogue) != 0
        assert echo() != 0
        sent = dcmtk.send(
            receiver.port,
            series[:2],
            "+tls",
            str(scanner.key),
            str(scanner.cert),
            "+cf",
            str(ca),
            program_name="storescu",
        )
        assert sent.returncode == 0
    assert len(node.files()) == 2
    codes = {row.reason.code for row in node.associations() if row.reason is not None}
    assert "association.refused_tls" in codes

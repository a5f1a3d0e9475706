"""What we ask of a real peer: DCMTK's storescp, willing, refusing, slow, aborting and frozen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.dicom.files import data_set_offset
from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network import client
from dicomnode.network.client import Outgoing, Told
from dicomnode.network.connect import Remote
from dicomnode.network.tls import client_context
from tests import dcmtk
from tests.certificates import authority, signed
from tests.data import ct_series, save_all

pytestmark = pytest.mark.peer

CT = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def remote(port: int, **changes: object) -> Remote:
    plain = {"host": "127.0.0.1", "port": port, "called_ae_title": "PACS"}
    return Remote(**{**plain, "calling_ae_title": "DICOMNODE", "timeout_s": 3.0, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Outgoing]:
    folder = tmp_path_factory.mktemp("series")
    return outgoing(save_all(ct_series(slices=4), folder))


def outgoing(paths: Sequence[Path]) -> list[Outgoing]:
    found = []
    for path in sorted(paths):
        head = dcmread(path, stop_before_pixels=True)
        meta = head.file_meta
        found.append(
            Outgoing(path, head.SOPClassUID, head.SOPInstanceUID, str(meta.TransferSyntaxUID))
        )
    return found


def data_set(path: Path) -> bytes:
    return path.read_bytes()[data_set_offset(path)[0] :]


def test_files_arrive_byte_by_byte_in_the_given_order(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    seen: list[int] = []
    with dcmtk.storescp(tmp_path / "in", "+B") as (port, _):
        outcomes = client.store(remote(port), files, lambda index, _: seen.append(index))

    assert [outcome.status for outcome in outcomes] == [0] * 4
    assert all(outcome.is_stored for outcome in outcomes)
    assert seen == [0, 1, 2, 3]
    received = {
        dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID: path
        for path in (tmp_path / "in").iterdir()
    }
    for file in files:
        assert data_set(received[file.sop_instance_uid]) == data_set(file.path)


def test_a_peer_that_takes_only_implicit_vr_gets_the_same_content(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    with dcmtk.storescp(tmp_path / "in", "+xi") as (port, _):
        outcomes = client.store(remote(port), files[:1])

    assert outcomes[0].status == 0
    (path,) = (tmp_path / "in").iterdir()
    received, sent = dcmread(path), dcmread(files[0].path)
    assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert received.PixelData == sent.PixelData
    assert received == sent


def test_echo_gives_the_time_that_the_answer_took(tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path) as (port, _):
        assert 0 < client.echo(remote(port)) < 3000


def test_what_a_peer_accepts_is_told_class_by_class(tmp_path: Path) -> None:
    syntaxes = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
    private = "1.2.3.4.5"
    with dcmtk.storescp(tmp_path, "+xi") as (port, _):
        found = client.accepted_contexts(remote(port), {SEGMENTATION: syntaxes, private: syntaxes})
    assert found == {SEGMENTATION: (str(ImplicitVRLittleEndian),), private: ()}


def test_a_refusing_peer_is_told_apart_from_an_absent_one(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    with (
        dcmtk.storescp(tmp_path, "--refuse") as (port, _),
        pytest.raises(PeerRefusedError, match="PACS refuses the association"),
    ):
        client.store(remote(port), files)
    with pytest.raises(PeerUnreachableError, match="nothing listens"):
        client.store(remote(dcmtk.free_port()), files)


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(PeerUnreachableError, match="not known"):
        client.echo(remote(104, host="no-such-host.invalid"))


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after"])
def test_an_aborting_peer_leaves_the_rest_unsent(
    tmp_path: Path, files: list[Outgoing], option: str
) -> None:
    with dcmtk.storescp(tmp_path, option) as (port, _):
        outcomes = client.store(remote(port), files)

    assert not any(outcome.status == 0 for outcome in outcomes[1:])
    assert outcomes[0].told in (Told.NO_ANSWER, Told.ANSWERED)
    assert {outcome.told for outcome in outcomes[1:]} <= {Told.NO_ANSWER, Told.NOT_SENT}


def test_a_peer_slower_than_the_timeout_is_given_up(tmp_path: Path, files: list[Outgoing]) -> None:
    started = time.monotonic()
    with dcmtk.storescp(tmp_path, "--sleep-during", 20) as (port, _):
        outcomes = client.store(remote(port, timeout_s=1.5), files[:2])
    assert time.monotonic() - started < 12
    assert [outcome.told for outcome in outcomes] == [Told.NO_ANSWER, Told.NOT_SENT]


def test_a_peer_that_froze_before_the_association_never_hangs_us(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    with dcmtk.storescp(tmp_path) as (port, process):
        os.kill(process.pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(PeerUnreachableError, match=r"gives no answer in 1.5 s"):
            client.store(remote(port, timeout_s=1.5), files)
        assert time.monotonic() - started < 8


def test_a_peer_that_freezes_in_the_middle_of_a_large_object_never_hangs_us(
    tmp_path: Path,
) -> None:
    large = ct_series(slices=1)[0]
    large.Rows, large.Columns = 4096, 4096
    large.PixelData = bytes(4096 * 4096 * 2)
    files = outgoing(save_all([large], tmp_path / "out"))
    # Without --fork the stopped process is the one that receives.
    port = dcmtk.free_port()
    folder = tmp_path / "in"
    folder.mkdir()
    process = dcmtk.start("storescp", "--output-directory", folder, port)
    try:
        dcmtk.wait_for(lambda: dcmtk.listens(port))
        frozen_at: list[float] = []

        def freeze(_index: int, _outcome: object) -> None:
            os.kill(process.pid, signal.SIGSTOP)
            frozen_at.append(time.monotonic())

        outcomes = client.store(remote(port, timeout_s=1.5), files * 2, freeze)
        assert [outcome.told for outcome in outcomes] == [Told.ANSWERED, Told.NO_ANSWER]
        assert time.monotonic() - frozen_at[0] < 12
    finally:
        process.kill()
        process.wait(timeout=10)


def test_a_class_that_a_peer_does_not_take_is_not_sent_and_the_others_are(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    strange = Outgoing(files[0].path, "1.2.3.4.5", "1.2.3", files[0].transfer_syntax_uid)
    with dcmtk.storescp(tmp_path) as (port, _):
        outcomes = client.store(remote(port), [strange, files[0]])
    assert [outcome.told for outcome in outcomes] == [Told.NOT_NEGOTIATED, Told.ANSWERED]


def test_tls_goes_both_ways_and_a_wrong_authority_is_told(
    tmp_path: Path, files: list[Outgoing]
) -> None:
    ca, rogue = authority(tmp_path, "ca"), authority(tmp_path, "rogue")
    pacs, ours = signed(tmp_path, "pacs", ca), signed(tmp_path, "ours", ca)
    stranger = signed(tmp_path, "stranger", rogue)
    options = ("+tls", pacs.key, pacs.cert, "+cf", ca, "-rc")
    with dcmtk.storescp(tmp_path / "in", *options) as (port, _):
        outcomes = client.store(remote(port, tls=lambda: client_context(ours)), files[:1])
        assert outcomes[0].status == 0
        with pytest.raises(PeerUnreachableError, match="certificate"):
            client.echo(remote(port, tls=lambda: client_context(stranger)))
        with pytest.raises(PeerUnreachableError):
            client.echo(remote(port))

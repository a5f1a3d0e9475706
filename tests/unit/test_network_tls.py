"""Certificate files: proved in words, and read anew for each connection."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicomnode.config import Peer
from dicomnode.errors import ConfigurationError, PeerUnreachableError
from dicomnode.network import client
from dicomnode.network.tls import Certificates, client_context, server_context
from dicomnode.stages.remotes import remote_of
from tests.certificates import authority, signed
from tests.dcmtk import free_port


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    return signed(folder, "node", authority(folder, "ca"))


@pytest.mark.parametrize("context", [client_context, server_context])
def test_the_file_that_cannot_be_read_is_named(context: object, good: Certificates) -> None:
    absent = good.cert.with_name("absent.key")
    with pytest.raises(ConfigurationError, match=r"absent\.key cannot be read \(No such file"):
        context(Certificates(good.cert, absent, good.ca))  # type: ignore[operator]


def test_a_key_of_another_certificate_is_told(good: Certificates) -> None:
    other = good.ca.with_suffix(".key")
    with pytest.raises(ConfigurationError, match="cannot be used together") as found:
        client_context(Certificates(good.cert, other, good.ca))
    assert "KEY_VALUES_MISMATCH" in str(found.value)


def test_certificates_are_read_anew_for_each_call(tmp_path: Path, good: Certificates) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    peer = Peer.model_validate(
        {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "tls": files}
    )
    remote = remote_of(peer, "DICOMNODE")
    with pytest.raises(PeerUnreachableError, match=r"cert\.pem cannot be read"):
        client.echo(remote)
    for name, path in files.items():
        shutil.copyfile(getattr(good, name), path)
    with pytest.raises(PeerUnreachableError, match="nothing listens"):
        client.echo(remote)

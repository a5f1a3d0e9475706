"""A webhook: signed, bounded, and never redirected."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dicomnode.errors import PeerUnreachableError
from dicomnode.network.webhook import SIGNATURE_HEADER, is_success, post


class Listener(HTTPServer):
    status = 200
    seen: list[tuple[str, dict[str, str], bytes]]


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener(("127.0.0.1", 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(listener: Listener) -> str:
    return f"http://127.0.0.1:{listener.server_port}/hook?a=b"


def test_the_body_is_signed_and_the_signature_can_be_recomputed(listener: Listener) -> None:
    assert post(url(listener), {"what": "job.failed", "n": 1}, secret=b"key") == 200

    path, headers, body = listener.seen[0]
    assert path == "/hook?a=b"
    assert json.loads(body) == {"what": "job.failed", "n": 1}
    expected = hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE_HEADER] == f"sha256={expected}"


def test_without_a_secret_nothing_pretends_to_be_signed(listener: Listener) -> None:
    post(url(listener), {}, secret=b"")
    assert SIGNATURE_HEADER not in listener.seen[0][1]


def test_a_redirect_is_told_and_not_followed(listener: Listener) -> None:
    listener.status = 302
    status = post(url(listener), {}, secret=b"key")
    assert status == 302
    assert not is_success(status)
    assert len(listener.seen) == 1


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(PeerUnreachableError):
            post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, secret=b"", timeout_s=0.5)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/", "http:///x", "x"])
def test_only_web_addresses_are_called(address: str) -> None:
    with pytest.raises(ValueError, match="http"):
        post(address, {}, secret=b"")

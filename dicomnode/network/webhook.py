"""A signed JSON message to a web address: no redirects, bounded waits, only a status is read."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from dicomnode.errors import PeerUnreachableError

SIGNATURE_HEADER = "X-Dicomnode-Signature"
_SUCCESS = range(200, 300)


def signature(secret: bytes, body: bytes) -> str:
    """Give the value of the signature header: HMAC-SHA256 of the body's bytes."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def post(url: str, message: Mapping[str, object], *, secret: bytes, timeout_s: float = 10.0) -> int:
    """Send ``message`` as JSON and give the HTTP status; a redirect is an answer like any other.

    Parameters
    ----------
    url
        ``http://`` or ``https://``.
    message
        What to say; keys are written in sorted order, so that the same message has the same bytes.
    secret
        Key of the signature; empty: not signed.
    timeout_s
        Longest wait for each step.

    Raises
    ------
    PeerUnreachableError
        When no answer comes.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook needs an http or https address")
    body = json.dumps(message, sort_keys=True, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "dicomnode"}
    if secret:
        headers[SIGNATURE_HEADER] = signature(secret, body)
    path = parts.path or "/"
    if parts.query:
        path += "?" + parts.query
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as fault:
        raise PeerUnreachableError(
            f"{parts.hostname} does not answer ({type(fault).__name__})"
        ) from fault
    finally:
        connection.close()


def is_success(status: int) -> bool:
    """Tell whether an HTTP status says that the message was taken."""
    return status in _SUCCESS

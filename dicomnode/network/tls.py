"""TLS contexts for both sides of DICOM over TLS: mutual, TLS 1.2 or later (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dicomnode.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Certificates:
    """Our certificate and key, and the authorities whose certificates we accept; PEM files."""

    cert: Path
    key: Path
    ca: Path


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Give the context of the listening side: a client without a valid certificate is refused.

    Raises
    ------
    ConfigurationError
        When a file is absent, unreadable, or the key does not belong to the certificate.
    """
    context = _context(ssl.Purpose.CLIENT_AUTH, certificates)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificates: Certificates) -> ssl.SSLContext:
    """Give the context of the calling side: the peer's certificate must carry its host name.

    Raises
    ------
    ConfigurationError
        When a file is absent, unreadable, or the key does not belong to the certificate.
    """
    return _context(ssl.Purpose.SERVER_AUTH, certificates)


def _context(purpose: ssl.Purpose, certificates: Certificates) -> ssl.SSLContext:
    for path in (certificates.cert, certificates.key, certificates.ca):
        try:
            path.open("rb").close()
        except OSError as fault:
            raise ConfigurationError(f"TLS: {path} cannot be read ({fault.strerror})") from fault
    try:
        context = ssl.create_default_context(purpose, cafile=certificates.ca)
        # With an empty password a locked key is a fault; without one OpenSSL asks at the terminal.
        context.load_cert_chain(certificates.cert, certificates.key, password="")
    except (OSError, ssl.SSLError) as fault:
        files = ", ".join(str(path) for path in (certificates.cert, certificates.key))
        said = getattr(fault, "reason", None) or fault.strerror or type(fault).__name__
        raise ConfigurationError(
            f"TLS: {files} and {certificates.ca} cannot be used together ({said})"
        ) from fault
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

"""Certificates for tests of TLS, made by openssl: an authority, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dicomnode.network.tls import Certificates


def _openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def authority(folder: Path, name: str) -> Path:
    """Make a certificate authority; its key lies beside the certificate."""
    certificate = folder / f"{name}.pem"
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign",
        "-keyout", folder / f"{name}.key", "-out", certificate,
    )  # fmt: skip
    return certificate


def signed(folder: Path, name: str, ca: Path, host: str = "127.0.0.1") -> Certificates:
    """Make a certificate for ``host`` that the authority signed."""
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    kind = "IP" if host[0].isdigit() else "DNS"
    extensions.write_text(f"subjectAltName={kind}:{host}\n", encoding="ascii")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key,
        "-out", request,
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca.with_suffix(".key"),
        "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", certificate,
    )  # fmt: skip
    return Certificates(certificate, key, ca)

"""The DCMTK programs that tests talk to: run with given arguments, waited for with a bound."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# Without it DCMTK answers and asks 44 ms late: Nagle's algorithm against a delayed ACK.
_ENVIRONMENT = {"TCP_NODELAY": "1"}


def program(name: str) -> str:
    """Path of a program; the test skips where it is absent, and fails under CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed: run `make peers`")
    return found


def run(
    name: str, *arguments: str | int | Path, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and give what it said."""
    return subprocess.run(
        [program(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        env={**os.environ, **_ENVIRONMENT},
        check=False,
    )


def start(name: str, *arguments: str | int | Path) -> subprocess.Popen[bytes]:
    """Start a program and leave it running."""
    return subprocess.Popen(
        [program(name), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )


def free_port() -> int:
    """Give a TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    condition: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition"
) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true in {timeout_s:g} s")
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether somebody listens on a local port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def storescp(
    folder: Path, *options: str | int | Path, port: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a storage peer that writes to ``folder``; give its port and its process."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    process = start("storescp", "--fork", *options, "--output-directory", folder, port)
    try:
        wait_for(lambda: listens(port), what="storescp listening")
        yield port, process
    finally:
        process.kill()
        process.wait(timeout=10)


def send(
    port: int,
    files: Sequence[Path],
    *options: str | int,
    program_name: str = "dcmsend",
    called: str = "DICOMNODE",
    calling: str = "SCANNER",
) -> subprocess.CompletedProcess[str]:
    """Send files with dcmsend or storescu."""
    return run(
        program_name, "-v", "-aet", calling, "-aec", called, *options, "127.0.0.1", port, *files
    )


def environment() -> Mapping[str, str]:
    """What tests set for DCMTK, for those that start it in their own way."""
    return dict(_ENVIRONMENT)

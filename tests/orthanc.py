"""An Orthanc of the test's own: a real PACS with C-STORE, C-FIND and a REST interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dcmtk import free_port, listens, wait_for

_PLACES = ("Orthanc", "/usr/sbin/Orthanc")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its DICOM port and its REST address."""

    dicom_port: int
    http_port: int

    def get(self, path: str) -> Any:
        """Give an answer of the REST interface; bytes where it is no JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError:
            return content

    def files(self) -> dict[str, bytes]:
        """Every instance that it holds, as the file it gives out, by SOP Instance UID."""
        found = {}
        for instance in self.get("/instances"):
            tags = self.get(f"/instances/{instance}")["MainDicomTags"]
            found[tags["SOPInstanceUID"]] = self.get(f"/instances/{instance}/file")
        return found


def _program() -> str:
    found = next((place for name in _PLACES if (place := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Orthanc is not installed")
        pytest.skip("Orthanc is not installed: run `make peers`")
    return found


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Orthanc]:
    """Run an Orthanc that keeps its files below ``folder`` and takes from anybody."""
    port = options.get("DicomPort") or free_port()
    program, made = _program(), Orthanc(port, free_port())
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": "PACS",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAet": "PACS",
        "DicomPort": made.dicom_port,
        "HttpPort": made.http_port,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "Plugins": [],
        **options,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    process = subprocess.Popen(
        [program, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(
            lambda: listens(made.dicom_port) and listens(made.http_port),
            timeout_s=30,
            what="Orthanc listening",
        )
        yield made
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)

"""A real Orthanc as the PACS of a test: on ports of its own, with an empty folder, and its REST."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.dcmtk import environment, free_port, wait_for

AE_TITLE = "ORTHANC"
_START_S = 60.0


def orthanc_program() -> str:
    """Path of Orthanc; the test skips where it is absent, and fails under CI."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Orthanc is not installed")
        pytest.skip("Orthanc is not installed: run `make peers`")
    return found


@dataclass
class Orthanc:
    """A running Orthanc; ``node_port`` is where it sends to what it calls ``node``."""

    folder: Path
    node_port: int
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    forwards: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on what its folder holds already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration()), encoding="utf-8")
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [orthanc_program(), str(configuration)],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment()},
                start_new_session=True,
            )
        wait_for(self._answers, _START_S, "Orthanc answering")

    def stop(self) -> None:
        """End it; a frozen one too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def get(self, path: str) -> Any:
        """Give the JSON behind a path."""
        return json.loads(self.download(path))

    def download(self, path: str) -> bytes:
        """Give the bytes behind a path."""
        with urllib.request.urlopen(f"{self._url}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: object) -> Any:
        """Post JSON and give the JSON that is answered."""
        return self._post_text(path, json.dumps(body))

    def _post_text(self, path: str, body: str) -> Any:
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", body.encode(), kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def instances(self, study_instance_uid: str | None = None) -> dict[str, str]:
        """Give Orthanc's id of each instance by SOP Instance UID, of one study or of all."""
        found = {}
        for one in self._listed("instances", study_instance_uid):
            sop_instance_uid = one["MainDicomTags"]["SOPInstanceUID"]
            assert sop_instance_uid not in found, "the PACS holds a SOP Instance UID twice"
            found[sop_instance_uid] = one["ID"]
        return found

    def series(self, study_instance_uid: str) -> list[Mapping[str, Any]]:
        """Give a study's series."""
        return self._listed("series", study_instance_uid)

    def file(self, instance: str) -> bytes:
        """Give an instance's file as it was stored."""
        return self.download(f"/instances/{instance}/file")

    def send_to_node(self, *instances: str) -> None:
        """Have instances sent to the node; returns when they are."""
        body = {"Resources": list(instances), "Synchronous": True}
        self.post("/modalities/node/store", body)

    def _listed(self, what: str, study_instance_uid: str | None) -> list[Mapping[str, Any]]:
        if study_instance_uid is None:
            return list(self.get(f"/{what}?expand"))
        found = self._post_text("/tools/lookup", study_instance_uid)
        known = [one["Path"] for one in found if one["Type"] == "Study"]
        return [member for path in known for member in self.get(f"{path}/{what}")]

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"Orthanc ended with status {self.process.returncode}")
        try:
            self.get("/system")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _configuration(self) -> Mapping[str, object]:
        scripts = []
        if self.forwards:
            script = self.folder / "forward.lua"
            script.write_text(_FORWARD, encoding="utf-8")
            scripts.append(str(script))
        return {
            "Name": "PACS",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "DicomAet": AE_TITLE,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomCheckCalledAet": False,
            "DicomScpTimeout": 120,
            "StorageCompression": False,
            "OverwriteInstances": False,
            "DicomModalities": {"node": ["DICOMNODE", "127.0.0.1", self.node_port]},
            "LuaScripts": scripts,
        }


_FORWARD = """\
function OnStoredInstance(instanceId, tags, metadata, origin)
   SendToModality(instanceId, 'node')
end
"""


@contextmanager
def running_orthanc(folder: Path, node_port: int, *, forwards: bool = False) -> Iterator[Orthanc]:
    """Run an Orthanc for as long as the block runs."""
    orthanc = Orthanc(folder, node_port, forwards=forwards)
    try:
        orthanc.start()
        yield orthanc
    finally:
        orthanc.stop()

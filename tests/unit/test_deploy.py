"""What installs and runs the node passes the linters and parsers of its own kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode import config

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
UNIT = DEPLOY / "systemd" / "dicomnode.service"
# Exposure of a unit by `systemd-analyze security`; below 2 counts as well confined.
MOST_EXPOSURE = 2.0


def ran(*command: str | Path, folder: Path = REPOSITORY) -> str:
    """Run a program; give what it wrote where it ended well."""
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def linter(name: str) -> Path:
    """Give a linter of the development extra, beside this interpreter."""
    found = Path(sys.executable).with_name(name)
    assert found.exists(), f"{name} is missing; install with: pip install -e '.[dev]'"
    return found


@pytest.fixture
def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is missing; deploy/peers.sh installs it")
        pytest.skip("systemd-analyze is not installed")
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/dicomnode/bin/dicomnode", sys.executable)
    path = tmp_path / UNIT.name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_dockerfile_passes_hadolint() -> None:
    ran(linter("hadolint"), DEPLOY / "Dockerfile")


def test_the_dockerfile_only_calls_the_installer() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    steps = re.findall(r"^RUN (.*)$", text, re.M)
    assert all("install.sh" in step or "useradd" in step for step in steps)
    assert {"cpu", "cuda"} <= set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.M))


def test_what_the_image_is_made_of_is_let_through_to_the_builder() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copies = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.M
    )
    assert {f"!{name}" for line in copies for name in line.split()} == {
        line for line in ignored if line.startswith("!")
    }


def test_yaml_is_well_formed() -> None:
    ran(linter("yamllint"), "--strict", "-c", DEPLOY / ".yamllint.yaml", DEPLOY)


def test_the_compose_file_is_of_the_specification() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    ran(linter("check-jsonschema"), *schema, DEPLOY / "compose.yaml")


def test_every_file_that_compose_mounts_is_there() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    mounted = re.findall(r"- (\./\S+?):", text)
    assert mounted
    assert all((DEPLOY / name).is_file() for name in mounted)


def test_shell_scripts_pass_shellcheck() -> None:
    ran(linter("shellcheck"), *sorted(DEPLOY.glob("*.sh")), REPOSITORY / ".ci" / "run")


def test_shell_scripts_can_be_called() -> None:
    assert all(os.access(path, os.X_OK) for path in DEPLOY.glob("*.sh"))


def test_the_unit_is_understood(systemd_analyze: str, unit: Path) -> None:
    ran(systemd_analyze, "verify", unit)


def test_the_unit_is_well_confined(systemd_analyze: str, unit: Path) -> None:
    said = ran(systemd_analyze, "security", "--offline=true", "--no-pager", unit)
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) < MOST_EXPOSURE


def test_the_node_of_the_compose_file_is_configured(tmp_path: Path) -> None:
    settings = config.load(DEPLOY / "compose" / "dicomnode.toml", anchor=tmp_path)
    archive = json.loads((DEPLOY / "compose" / "orthanc.json").read_text(encoding="utf-8"))
    pacs = settings.peers["pacs"]
    assert (pacs.ae_title, pacs.port) == ((archive["DicomAet"],), archive["DicomPort"])
    node = archive["DicomModalities"]["node"]
    assert node == [settings.node.ae_title, "node", settings.listen.port]

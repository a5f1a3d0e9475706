"""A node's folder for tests of the command line: a configuration, a worklist, studies in it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dicomnode.cli.app import app
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import JobState
from dicomnode.worklist import Worklist, ends
from tests.worklist_data import claim, finish, make_job, whole_study

CONFIGURATION = """\
[node]
ae_title = "TESTNODE"

[listen]
host = "127.0.0.1"
port = {port}

[peers.ct2]
ae_title = "CT2"
receives_from = true

[peers.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
sends_to = true
timeout = "2s"
"""


@dataclass(frozen=True)
class Node:
    """A folder with a configuration, and the command line called on it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "dicomnode.toml"

    @property
    def database(self) -> Path:
        return self.folder / "var" / "worklist.db"

    @contextmanager
    def worklist(self) -> Iterator[Worklist]:
        with Worklist.open(f"sqlite:///{self.database}") as worklist:
            worklist.upgrade()
            yield worklist

    def call(self, *arguments: str, typed: str | None = None) -> Result:
        """Call a command with this configuration."""
        given = [*arguments, "--config", str(self.config)]
        return CliRunner().invoke(app, given, input=typed)

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        """Call a command with ``--json`` and give its document."""
        called = self.call(*arguments, "--json")
        assert called.exit_code == exit_code, (called.output, called.exception)
        return json.loads(called.stdout)


def make_node(folder: Path, port: int, pacs_port: int) -> Node:
    text = CONFIGURATION.format(port=port, pacs_port=pacs_port)
    node = Node(folder)
    node.config.write_text(text, encoding="utf-8")
    return node


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def failed_job(node: Node) -> int:
    """Make a study with one job that failed; give the study's id."""
    with node.worklist() as worklist:
        study_id = whole_study(worklist)
        make_job(worklist, study_id)
        claimed = claim(worklist)
        end = ends.JobEnd(
            state=JobState.FAILED, reason=Reason("failed.time_limit", {"limit_s": 900})
        )
        finish(worklist, claimed, end)
    return study_id
